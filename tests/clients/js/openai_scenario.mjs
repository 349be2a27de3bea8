// What a program sees that uses the official OpenAI SDK for JavaScript. The same report as the Python scenario's.
import OpenAI from "openai";
import { VERSION } from "openai/version";

const MODEL = "openai/gpt-4o-mini";
// Asked by nobody else, so that nobody else gets the faults that were queued for it.
const FAULTY_MODEL = process.env.CRAFTPILOT_FAULTY_MODEL;
const WEATHER = {
  type: "function",
  function: {
    name: "get_weather",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};
const ASK_WEATHER = [{ role: "user", content: '/tool get_weather {"city": "İzmir"}' }];
const CITY = {
  type: "json_schema",
  json_schema: {
    name: "city",
    strict: true,
    schema: {
      type: "object",
      properties: { name: { type: "string" }, people: { type: "integer" } },
      required: ["name", "people"],
      additionalProperties: false,
    },
  },
};

const client = new OpenAI({ maxRetries: 0, timeout: 60_000 });
const chat = client.chat.completions;

function say(text) {
  return [{ role: "user", content: `/say ${text}` }];
}

async function provider(method, path, body) {
  const url = process.env.CRAFTPILOT_OPENROUTER_URL + path;
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch(url, { method, headers, body: body && JSON.stringify(body) });
  return answer.json();
}

async function fault(faults, times = 1) {
  await provider("POST", "/_standin/faults", { times, match: { path: "/chat/completions", model: FAULTY_MODEL }, faults });
}

async function askedFor(model) {
  const { requests } = await provider("GET", `/_standin/requests?model=${encodeURIComponent(model)}&limit=1000`);
  return requests.filter(({ path }) => path.endsWith("/chat/completions")).length;
}

async function errorOf(call) {
  try {
    await call();
  } catch (error) {
    const { status, code, type, param, message } = error;
    return { class: error.constructor.name, status_code: status ?? null, code, type, param, message };
  }
  return { class: null };
}

async function plain() {
  const answer = await chat.create({ model: MODEL, messages: say("Merhaba dünya 👋"), temperature: 0.2, max_tokens: 50 });
  const [choice] = answer.choices;
  const { prompt_tokens, completion_tokens, total_tokens } = answer.usage;
  return {
    id: answer.id,
    object: answer.object,
    model: answer.model,
    role: choice.message.role,
    text: choice.message.content,
    finish_reason: choice.finish_reason,
    usage: { prompt_tokens, completion_tokens, total_tokens },
    cached_tokens: answer.usage.prompt_tokens_details.cached_tokens,
  };
}

async function stream() {
  const chunks = [];
  const asked = { model: MODEL, messages: say("one two three four five six"), stream: true };
  for await (const chunk of await chat.create({ ...asked, stream_options: { include_usage: true } })) chunks.push(chunk);
  const choices = chunks.flatMap((chunk) => chunk.choices);
  return {
    ids: [...new Set(chunks.map(({ id }) => id))],
    first_role: choices[0].delta.role,
    text: choices.map(({ delta }) => delta.content ?? "").join(""),
    finish_reasons: choices.map(({ finish_reason }) => finish_reason).filter(Boolean),
    usages: chunks.filter(({ usage }) => usage).map(({ usage }) => usage.total_tokens),
    last_has_choices: chunks.at(-1).choices.length > 0,
  };
}

async function tools() {
  const [called] = (await chat.create({ model: MODEL, messages: ASK_WEATHER, tools: [WEATHER] })).choices;
  const [call] = called.message.tool_calls;
  const result = { role: "tool", tool_call_id: call.id, content: '{"degrees": 31}' };
  const messages = [...ASK_WEATHER, called.message, result, ...say("31 degrees.")];
  const answer = await chat.create({ model: MODEL, messages, tools: [WEATHER] });
  return {
    finish_reason: called.finish_reason,
    name: call.function.name,
    arguments: JSON.parse(call.function.arguments),
    answer: answer.choices[0].message.content,
  };
}

async function streamedTools() {
  const runner = chat.stream({ model: MODEL, messages: ASK_WEATHER, tools: [WEATHER] });
  const [choice] = (await runner.finalChatCompletion()).choices;
  const [call] = choice.message.tool_calls;
  return { finish_reason: choice.finish_reason, name: call.function.name, arguments: JSON.parse(call.function.arguments) };
}

async function schema() {
  const answer = await chat.create({
    model: MODEL,
    messages: [{ role: "user", content: "A city" }],
    response_format: CITY,
  });
  return JSON.parse(answer.choices[0].message.content);
}

async function headers() {
  const { response } = await chat.create({ model: MODEL, messages: say("x") }).withResponse();
  return Object.fromEntries(response.headers);
}

async function embeddings() {
  const asked = { model: "openai/text-embedding-3-small", input: ["one", "two"], dimensions: 8 };
  const byDefault = await client.embeddings.create(asked);
  const floats = await client.embeddings.create({ ...asked, encoding_format: "float" });
  const packed = await client.embeddings.create({ ...asked, encoding_format: "base64" });
  const close = (one, other) => one.every((number, place) => Math.abs(number - other[place]) < 1e-6);
  const ofTokens = await client.embeddings.create({ model: "text-embedding-3-small", input: [[1, 2], [3]] });
  return {
    indexes: byDefault.data.map(({ index }) => index),
    dimensions: byDefault.data.map(({ embedding }) => embedding.length),
    same: byDefault.data.every(({ embedding }, place) => close(embedding, floats.data[place].embedding)),
    packed_bytes: packed.data.map(({ embedding }) => Buffer.from(embedding, "base64").length),
    tokens: byDefault.usage.total_tokens,
    of_tokens: ofTokens.data.length,
  };
}

async function errors() {
  const poor = client.withOptions({ apiKey: process.env.CRAFTPILOT_POOR_KEY });
  const ask = (changes) => errorOf(() => chat.create({ model: MODEL, messages: say("x"), ...changes }));
  const askPoor = () => errorOf(() => poor.chat.completions.create({ model: MODEL, messages: say("x") }));
  const found = {
    bad_key: await errorOf(() => client.withOptions({ apiKey: "cp_live_wrong" }).models.list()),
    no_model: await ask({ model: "nobody/knows-this" }),
    no_such_model: await errorOf(() => client.models.retrieve("nobody/knows-this")),
    bad_parameter: await ask({ temperature: 7 }),
    unknown_parameter: await ask({ shape: 1 }),
    several_answers: await ask({ n: 2 }),
    orphan: await ask({ messages: [{ role: "tool", tool_call_id: "a", content: "x" }] }),
    no_images: await errorOf(() => client.images.generate({ model: "x", prompt: "x" })),
    no_credits: await askPoor(),
  };
  for (let tries = 0; tries < 30; tries += 1) {
    found.limited = await askPoor();
    if (found.limited.status_code === 429) break;
  }
  return found;
}

// An answer that breaks off, streamed and in one piece; the latter by a client that would ask again.
async function broken() {
  await fault("stream_error_c");
  let text = "";
  const streamed = await errorOf(async () => {
    const asked = { model: FAULTY_MODEL, messages: say("one two three four five"), stream: true };
    for await (const chunk of await chat.create(asked)) text += chunk.choices[0]?.delta.content ?? "";
  });
  await fault("stream_error_c", 3);
  const before = await askedFor(FAULTY_MODEL);
  const eager = client.withOptions({ maxRetries: 2 });
  const asked = { model: FAULTY_MODEL, messages: say("one two three four") };
  const whole = await errorOf(() => eager.chat.completions.create(asked));
  await provider("DELETE", "/_standin/faults");
  return { streamed, text, whole, asked: (await askedFor(FAULTY_MODEL)) - before };
}

async function impatient() {
  await fault("first_token_delay_ms=3000");
  const hasty = client.withOptions({ timeout: 700 });
  return errorOf(() => hasty.chat.completions.create({ model: FAULTY_MODEL, messages: say("late") }));
}

async function idsOfModels() {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  return ids;
}

const report = {
  version: VERSION,
  plain: await plain(),
  stream: await stream(),
  tools: await tools(),
  streamed_tools: await streamedTools(),
  schema: await schema(),
  headers: await headers(),
  models: await idsOfModels(),
  model: (await client.models.retrieve(MODEL)).id,
  embeddings: await embeddings(),
  errors: await errors(),
  broken: await broken(),
  impatient: await impatient(),
};
process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
