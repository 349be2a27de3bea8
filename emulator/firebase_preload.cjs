/**
 * Loaded into firebase-tools before its own code (`node --require`); changes three things it offers no option for.
 *
 * - The Auth emulator compiles a validator for each of some hundred API schemas when it starts: about 20 seconds of
 *   computing, of which a run uses a handful. Its router can compile each on first use; this asks it to.
 * - Every suite looks for the ports of its Python processes from 8081 on, so two suites that reload the same changed
 *   file meet there and one of them fails to load. CRAFTPILOT_WORKER_PORTS gives each suite a range of its own. Two
 *   functions that start at the same moment may be given the same free port, and one then gets what was meant for the
 *   other: a port that was given is not given again for a minute.
 * - When a function answers before a large body has arrived, its emulator goes on sending into a closed connection, and
 *   nobody listens for that error: the whole suite would end. It is one request's end and nothing more.
 */
"use strict";

const Module = require("node:module");

const USUAL_FIRST_PORT = 8081;
const USUAL_LAST_PORT = 9081;
const firstPort = Number(process.env.CRAFTPILOT_WORKER_PORTS || USUAL_FIRST_PORT);

const GIVEN_FOR_MS = 60_000;
const givenAt = new Map();
let giving = Promise.resolve();

// One after the other, because whether a port is free is known for this moment only.
function portOfItsOwn(find, options) {
  const next = async () => {
    let port = await find(options);
    while (Date.now() - (givenAt.get(port) ?? -Infinity) < GIVEN_FOR_MS) port = await find({ ...options, port: port + 1 });
    givenAt.set(port, Date.now());
    return port;
  };
  giving = giving.then(next, next);
  return giving;
}

const changed = {
  "exegesis-express": (loaded) => ({
    ...loaded,
    middleware: (description, options) =>
      loaded.middleware(description, { ...options, lazyCompileValidationSchemas: true }),
  }),
  portfinder: (loaded) => ({
    ...loaded,
    getPortPromise: (options) =>
      options && options.port >= USUAL_FIRST_PORT && options.port <= USUAL_LAST_PORT
        ? portOfItsOwn(loaded.getPortPromise, { ...options, port: options.port - USUAL_FIRST_PORT + firstPort })
        : loaded.getPortPromise(options),
  }),
};

const load = Module._load;

Module._load = function (request, ...rest) {
  const loaded = load.call(this, request, ...rest);
  return Object.hasOwn(changed, request) ? changed[request](loaded) : loaded;
};

const LOST_CONNECTIONS = new Set(["EPIPE", "ECONNRESET"]);
const listen = process.on.bind(process);

process.on = (event, listener) =>
  event === "uncaughtException"
    ? listen(event, (error, ...rest) => LOST_CONNECTIONS.has(error?.code) || listener(error, ...rest))
    : listen(event, listener);
