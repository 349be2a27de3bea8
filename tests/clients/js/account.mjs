// A new user's app starts: it listens to an account that is not there yet, asks for it by `account_bootstrap`, and sees
// what functions change in it.
import { doc, updateDoc } from "firebase/firestore";
import { httpsCallable } from "firebase/functions";

import { failureOf, functionsUrl, reportNewcomer, Watch } from "./suite.mjs";

function accountOf(snapshot) {
  if (!snapshot.exists()) return null;
  const { username, display_name, role, plan } = snapshot.data();
  return { username, display_name, role, plan };
}

await reportNewcomer(async ({ db, functions, user }) => {
  const place = doc(db, "users", user.uid);
  const account = new Watch(place, accountOf);
  await account.until((seen) => seen === null, "a place without an account");

  const bootstrap = httpsCallable(functions, "account_bootstrap");
  const { data: first } = await bootstrap();
  await account.until((seen) => seen !== null, "the account");

  const changed = await fetch(`${functionsUrl}/users/api/v1/users/me`, {
    method: "PATCH",
    headers: { Authorization: `Bearer ${await user.getIdToken()}`, "Content-Type": "application/json" },
    body: JSON.stringify({ display_name: "Ada" }),
  });
  await account.until((seen) => seen.display_name === "Ada", "the new name");
  // The SDK would show its listener what an app writes before the rules have judged it.
  account.stop();
  const refused = await failureOf(updateDoc(place, { role: "admin" }));
  const { data: again } = await bootstrap();
  return { uid: user.uid, email: user.email, first, again, status: changed.status, seen: account.seen, refused };
});
