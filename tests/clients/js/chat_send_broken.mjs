// One streamed `chat_send` to a provider that the caller of this script has told to break off in the middle.
import { collection, doc, getDocs } from "firebase/firestore";
import { httpsCallable } from "firebase/functions";

import { FAULTY_MODEL, consume, report, Watch } from "./suite.mjs";

await report("pro@craftpilot.dev", async ({ db, functions, user }) => {
  const balance = new Watch(doc(db, "credit_accounts", user.uid), (snapshot) => snapshot.data());
  await balance.until(({ held_micro }) => held_micro === 0, "a balance without holds");
  const question = { content: "Tell me about herons.", model: FAULTY_MODEL };
  const streamed = await consume(httpsCallable(functions, "chat_send").stream(question));
  const start = streamed.messages.find(({ type }) => type === "start");
  await balance.until(({ held_micro }) => held_micro === 0, "the hold's end");
  balance.stop();
  const stored = await getDocs(collection(db, `users/${user.uid}/conversations/${start?.conversation_id}/messages`));
  return { streamed, stored: stored.docs.map((message) => ({ id: message.id, ...message.data() })) };
});
