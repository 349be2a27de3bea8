// The suite that these scripts talk to, as an app would be set up for it. Its addresses come from the environment.
import { deleteApp, initializeApp } from "firebase/app";
import {
  connectAuthEmulator,
  createUserWithEmailAndPassword,
  initializeAuth,
  inMemoryPersistence,
  signInWithEmailAndPassword,
} from "firebase/auth";
import { connectFirestoreEmulator, getFirestore, onSnapshot, setLogLevel, terminate } from "firebase/firestore";
import { connectFunctionsEmulator, getFunctions } from "firebase/functions";

const PASSWORD = "craftpilot";
const PATIENCE_MS = 30_000;
const SETTLING_MS = 5_000;

function setting(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run this inside the local suite.`);
  return value;
}

function hostAndPort(address) {
  const [host, port] = address.split(":");
  return [host, Number(port)];
}

// The functions' own address: Hosting would buffer a stream in production.
export const functionsUrl = setting("CRAFTPILOT_FUNCTIONS_URL");

// The model that faults are queued for; nobody else's turns and titles take them away.
export const FAULTY_MODEL = "mistralai/mistral-small";

// Runs the scenario as this seeded account and prints what it returns as one JSON document.
export async function report(email, scenario) {
  await run((auth) => signInWithEmailAndPassword(auth, email, PASSWORD), scenario);
}

// The same as somebody nobody knows yet.
export async function reportNewcomer(scenario) {
  const email = `${crypto.randomUUID()}@example.com`;
  await run((auth) => createUserWithEmailAndPassword(auth, email, PASSWORD), scenario);
}

async function run(signIn, scenario) {
  const { host: functionsHost, pathname } = new URL(functionsUrl);
  const [, projectId, region] = pathname.split("/");
  const app = initializeApp({ apiKey: "local-suite", projectId });
  const auth = initializeAuth(app, { persistence: inMemoryPersistence });
  connectAuthEmulator(auth, `http://${setting("FIREBASE_AUTH_EMULATOR_HOST")}`, { disableWarnings: true });
  const functions = getFunctions(app, region);
  connectFunctionsEmulator(functions, ...hostAndPort(functionsHost));
  const db = getFirestore(app);
  setLogLevel("error");
  connectFirestoreEmulator(db, ...hostAndPort(setting("FIRESTORE_EMULATOR_HOST")));
  const { user } = await signIn(auth);
  try {
    const found = await scenario({ auth, db, functions, user });
    process.stdout.write(`${JSON.stringify(found, null, 2)}\n`);
  } finally {
    await terminate(db);
    await deleteApp(app);
  }
}

// A listener and what it has seen, each time as plain values; `until` waits for a sight that satisfies the condition.
export class Watch {
  constructor(target, plain) {
    this.seen = [];
    this.waiting = [];
    this.stop = onSnapshot(
      target,
      (snapshot) => {
        this.seen.push(plain(snapshot));
        this.check();
      },
      (error) => {
        this.failed = error;
        this.check();
      },
    );
  }

  check() {
    for (const waiter of [...this.waiting]) waiter();
  }

  until(condition, what) {
    return new Promise((resolve, reject) => {
      const giveUp = setTimeout(() => {
        finish();
        reject(new Error(`The listener never saw ${what}. It saw: ${JSON.stringify(this.seen)}`));
      }, PATIENCE_MS);
      const look = () => {
        if (this.failed) {
          finish();
          reject(this.failed);
        } else if (this.seen.length > 0 && condition(this.seen.at(-1))) {
          finish();
          resolve(this.seen.at(-1));
        }
      };
      const finish = () => {
        clearTimeout(giveUp);
        this.waiting = this.waiting.filter((waiter) => waiter !== look);
      };
      this.waiting.push(look);
      look();
    });
  }
}

// What an app sees of an error: the SDK's code, the message, and the details the server gave.
export function plainError(error) {
  return { name: error.name, code: error.code, message: error.message, details: error.details ?? null };
}

export async function failureOf(promise) {
  try {
    await promise;
  } catch (error) {
    return plainError(error);
  }
  throw new Error("This call was expected to fail and did not.");
}

// Everything a streaming callable gives: its messages, and its result or its error. `unsettled` says that the SDK was
// left waiting for either: it passes over an answer that is no event stream, whatever its HTTP status.
export async function consume(call) {
  const { stream, data } = await call;
  const settled = data.then(
    (result) => ({ result }),
    (error) => ({ resultError: plainError(error) }),
  );
  const messages = [];
  const outcome = { messages };
  try {
    for await (const message of stream) messages.push(message);
  } catch (error) {
    outcome.streamError = plainError(error);
  }
  return { ...outcome, ...(await orUnsettled(settled)) };
}

async function orUnsettled(settled) {
  let timer;
  const late = new Promise((resolve) => {
    timer = setTimeout(() => resolve({ unsettled: true }), SETTLING_MS);
  });
  try {
    return await Promise.race([settled, late]);
  } finally {
    clearTimeout(timer);
  }
}
