// The callable `chat_send` by the Firebase SDK, while Firestore listeners watch the balance and the messages.
import { signOut } from "firebase/auth";
import { collection, doc, orderBy, query } from "firebase/firestore";
import { httpsCallable } from "firebase/functions";

import { FAULTY_MODEL, consume, failureOf, report, Watch } from "./suite.mjs";

const UNKNOWN_MODEL = { content: "Hello?", model: "nobody/knows-this" };

function balanceOf(snapshot) {
  const { available_micro, held_micro } = snapshot.data();
  return { available_micro, held_micro };
}

function messagesOf(snapshot) {
  return snapshot.docs.map((message) => {
    const { role, status, parts, parent_id = null } = message.data();
    return { id: message.id, parent_id, role, status, text: parts.map((part) => part.text).join("") };
  });
}

await report("pro@craftpilot.dev", async ({ auth, db, functions, user }) => {
  const chatSend = httpsCallable(functions, "chat_send");
  const balance = new Watch(doc(db, "credit_accounts", user.uid), balanceOf);
  const before = await balance.until(({ held_micro }) => held_micro === 0, "a balance without holds");

  const { data: plain } = await chatSend({ content: "What is a heron?", model: FAULTY_MODEL });

  const conversation = `users/${user.uid}/conversations/${plain.conversation_id}`;
  const messages = new Watch(query(collection(db, `${conversation}/messages`), orderBy("created_at")), messagesOf);
  await messages.until((seen) => seen.length === 2, "the first turn");

  const streamed = await consume(
    chatSend.stream({
      content: "How does it catch a fish?",
      conversation_id: plain.conversation_id,
      model: FAULTY_MODEL,
    }),
  );
  const answerId = streamed.result?.message.id;
  await messages.until((seen) => seen.some(({ id }) => id === answerId), "the streamed answer");
  const charged = plain.credits.charged_micro + (streamed.result?.credits.charged_micro ?? 0);
  const settled = ({ available_micro, held_micro }) =>
    held_micro === 0 && available_micro === before.available_micro - charged;
  await balance.until(settled, `a balance that is ${charged} lower and without holds`);

  const refused = {
    unknown_model: await failureOf(chatSend(UNKNOWN_MODEL)),
    unknown_model_streaming: await consume(chatSend.stream(UNKNOWN_MODEL)),
    foreign_conversation: await failureOf(chatSend({ content: "Hello?", conversation_id: "conv_of_nobody" })),
  };
  // The rules judge a listener when its user goes, too; it would report that as an error.
  balance.stop();
  messages.stop();
  await signOut(auth);
  refused.signed_out = await failureOf(chatSend({ content: "Hello?" }));
  refused.signed_out_streaming = await consume(chatSend.stream({ content: "Hello?" }));

  return { uid: user.uid, plain, streamed, balances: balance.seen, messages: messages.seen, refused };
});
