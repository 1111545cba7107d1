// A small model behind the API of OpenAI, as far as a chat needs it. See README.md.
import http from "node:http";
import { getLlama, LlamaCompletion } from "node-llama-cpp";

const [modelPath, port] = process.argv.slice(2);
const id = process.env.MODEL_ID ?? "gemma3-270m";
const threads = Number(process.env.THREADS ?? 1); // more only help on idle processors
const contextSize = Number(process.env.CONTEXT ?? 4096);
const created = Math.floor(Date.now() / 1000);

const llama = await getLlama({ gpu: false, build: "never" });
const model = await llama.loadModel({ modelPath });
const context = await model.createContext({ contextSize, threads, batchSize: 256 });
const sequence = context.getSequence();
const completion = new LlamaCompletion({ contextSequence: sequence });

const textOf = (content) =>
  typeof content === "string" ? content : (content ?? []).map((part) => part.text ?? "").join("");

// The weights are those of a model that continues texts and was not taught to chat: it is shown a chat to continue.
function prompt(messages) {
  const lines = messages.filter((m) => m.role !== "system").map((m) => (m.role === "user" ? "Person: " : "Assistant: ") + textOf(m.content).trim());
  const system = messages.filter((m) => m.role === "system").map((m) => textOf(m.content).trim());
  const example = ["Person: What is the capital of Italy?", "Assistant: The capital of Italy is Rome."];
  return ["A person asks and an assistant answers in a few helpful words.", ...system, ...example, ...lines, "Assistant:"].join("\n\n");
}

// The context holds one conversation, so that questions are answered one after the other.
let turn = Promise.resolve();
function answer(body, signal, onText) {
  const mine = turn.then(async () => {
    signal.throwIfAborted();
    const room = Math.floor(contextSize / 2);
    const tokens = model.tokenize(prompt(body.messages));
    let first = true;
    const result = await completion.generateCompletionWithMeta(tokens.slice(-room), {
      maxTokens: Math.min(body.max_tokens ?? body.max_completion_tokens ?? 160, room - 1),
      temperature: body.temperature ?? 0.3,
      ...(body.top_p ? { topP: body.top_p } : {}),
      ...(body.seed ? { seed: body.seed } : {}),
      customStopTriggers: ["\nPerson:", "\nAssistant:", "\n\n\n", ...[body.stop ?? []].flat()],
      signal,
      onTextChunk(text) {
        if (first) text = text.trimStart();
        if (text) onText(text), (first = false);
      },
    });
    return {
      text: result.response.trimStart(),
      finish: result.metadata.stopReason === "maxTokens" ? "length" : "stop",
      usage(written) {
        const completion_tokens = model.tokenize(written).length;
        return { prompt_tokens: tokens.length, completion_tokens, total_tokens: tokens.length + completion_tokens };
      },
    };
  });
  turn = mine.catch(() => {});
  return mine;
}

function send(res, status, value) {
  res.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(value));
}

const fail = (res, status, message) => send(res, status, { error: { message, type: "invalid_request_error" } });

async function chat(req, res) {
  let body;
  try {
    let raw = "";
    for await (const chunk of req.setEncoding("utf8")) raw += chunk;
    body = JSON.parse(raw);
  } catch {
    return fail(res, 400, "The body is not JSON.");
  }
  if (!Array.isArray(body?.messages) || body.messages.length === 0) return fail(res, 400, "There are no messages.");
  const left = new AbortController();
  res.on("close", () => left.abort());
  const head = { id: `chatcmpl-${Date.now()}`, created: Math.floor(Date.now() / 1000), model: id };
  if (!body.stream) {
    const a = await answer(body, left.signal, () => {});
    const message = { role: "assistant", content: a.text };
    return send(res, 200, { ...head, object: "chat.completion", choices: [{ index: 0, message, finish_reason: a.finish }], usage: a.usage(a.text) });
  }
  res.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-cache" });
  const event = (value) => res.write(`data: ${JSON.stringify({ ...head, object: "chat.completion.chunk", ...value })}\n\n`);
  const delta = (d, finish_reason = null) => event({ choices: [{ index: 0, delta: d, finish_reason }] });
  delta({ role: "assistant", content: "" });
  const a = await answer(body, left.signal, (content) => delta({ content }));
  delta({}, a.finish);
  if (body.stream_options?.include_usage) event({ choices: [], usage: a.usage(a.text) });
  res.end("data: [DONE]\n\n");
}

const server = http.createServer((req, res) => {
  const path = new URL(req.url, "http://localhost").pathname;
  if (req.method === "GET" && path === "/v1/models") {
    return send(res, 200, { object: "list", data: [{ id, object: "model", created, owned_by: "local" }] });
  }
  if (req.method === "POST" && path === "/v1/chat/completions") {
    return void chat(req, res).catch((err) => {
      if (res.destroyed) return; // nobody waits for it any more
      console.error(err);
      if (res.headersSent) res.destroy();
      else fail(res, 500, String(err.message ?? err));
    });
  }
  fail(res, 404, "Not found.");
});
server.listen(Number(port), "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/v1`));
