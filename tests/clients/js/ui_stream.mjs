// A chat turn over HTTP by the AI SDK, the installed package of the given name: its transport sends and resumes, its
// reader assembles the message, and its schema judges every chunk.
import { doc, getDoc } from "firebase/firestore";

import { FAULTY_MODEL, functionsUrl, report } from "./suite.mjs";

const { DefaultChatTransport, readUIMessageStream, safeValidateUIMessages, uiMessageChunkSchema } = await import(
  process.argv[2]
);

const QUESTION = "Explain in a few sentences how a heron catches a fish.";
const chatUrl = `${functionsUrl}/chat/api/v1`;
const schema = uiMessageChunkSchema();

async function accepts(chunk) {
  const { success } = await schema.validate(chunk);
  return success;
}

// The chunks of an event stream as they came over the wire, and how it ended.
function framesOf(text) {
  const frames = text.split("\n\n").filter((frame) => frame !== "");
  const strays = frames.filter((frame) => !frame.startsWith("data: ") || frame.includes("\n"));
  const data = frames.map((frame) => frame.slice("data: ".length));
  const done = data.at(-1) === "[DONE]";
  return { chunks: (done ? data.slice(0, -1) : data).map((json) => JSON.parse(json)), done, strays };
}

function textOf({ parts }) {
  return parts
    .filter(({ type }) => type === "text")
    .map(({ text }) => text)
    .join("\n\n");
}

async function assemble(stream) {
  let last;
  const lengths = [];
  for await (const message of readUIMessageStream({ stream, terminateOnError: true })) {
    last = message;
    lengths.push(textOf(message).length);
  }
  const valid = await safeValidateUIMessages({ messages: [last] });
  return { message: last, text: textOf(last), lengths, valid: valid.success };
}

await report("pro@craftpilot.dev", async ({ db, user }) => {
  const authorization = async () => ({ Authorization: `Bearer ${await user.getIdToken()}` });
  const created = await fetch(`${chatUrl}/conversations`, {
    method: "POST",
    headers: { ...(await authorization()), "Content-Type": "application/json" },
    body: "{}",
  });
  const conversation = await created.json();

  const wires = [];
  const transport = new DefaultChatTransport({
    api: `${chatUrl}/conversations/${conversation.id}/messages`,
    headers: authorization,
    fetch: async (...request) => {
      const response = await fetch(...request);
      wires.push({ headers: Object.fromEntries(response.headers), text: response.clone().text() });
      return response;
    },
    prepareSendMessagesRequest: ({ messages, body }) => ({ body: { content: textOf(messages.at(-1)), ...body } }),
    prepareReconnectToStreamRequest: ({ id, headers }) => ({
      api: `${chatUrl}/generations/${id}/events`,
      headers: { ...headers, Accept: "text/event-stream" },
    }),
  });
  const send = (body) =>
    transport.sendMessages({
      trigger: "submit-message",
      chatId: conversation.id,
      messages: [{ id: "question", role: "user", parts: [{ type: "text", text: QUESTION }] }],
      body,
    });

  const answer = await assemble(await send({ model: FAULTY_MODEL }));
  const { headers, text } = wires[0];
  const wire = framesOf(await text);
  const accepted = await Promise.all(wire.chunks.map(accepts));

  const stored = await getDoc(doc(db, `users/${user.uid}/conversations/${conversation.id}/messages`, answer.message.id));
  const resumed = await assemble(
    await transport.reconnectToStream({ chatId: answer.message.metadata.generation_id }),
  );
  const refusal = await send({ model: "nobody/knows-this" }).then(
    () => null,
    ({ message }) => JSON.parse(message),
  );

  return {
    conversation_id: conversation.id,
    headers,
    chunks: wire.chunks,
    done: wire.done,
    strays: wire.strays,
    refused_chunks: wire.chunks.filter((_, index) => !accepted[index]),
    answer,
    stored: { text: textOf(stored.data()), status: stored.data().status, credits: stored.data().credits },
    resumed,
    refusal,
    accepts: {
      missing_field: await accepts({ type: "text-delta", id: "part-1" }),
      unknown_field: await accepts({ type: "text-delta", id: "part-1", delta: "x", Delta: "y" }),
    },
  };
});
