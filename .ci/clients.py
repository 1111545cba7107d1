#!/usr/bin/env python3
"""Drives a server with the official OpenAI, Anthropic and Ollama clients and an API key.

    clients.py http://127.0.0.1:8080

The server is the one the contract was replayed against: its administrator is replay.py's, its models are the stand-in's. A
provider of our own joins them, which notes what it is asked and whether those who asked stayed to the end.
"""
import contextlib
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anthropic
import ollama
import openai
import requests

EMAIL, PASSWORD = "admin@contract.test", "contract-admin-1"
MODEL, OLLAMA_MODEL, UNKNOWN = "echo-small", "llama-echo", "no-such-model"
QUESTION, ANSWER = "a walk in the park", "You said: a walk in the park"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
PATIENCE = 20  # seconds for anything to happen


def sign_in(base):
    """Signs in, or up where there is no account yet; gives a session of the administrator's and an API key."""
    http = requests.Session()
    r = http.post(base + "/api/v1/auths/signin", json={"email": EMAIL, "password": PASSWORD})
    if r.status_code != 200:
        r = http.post(base + "/api/v1/auths/signup", json={"name": "Contract Admin", "email": EMAIL, "password": PASSWORD})
    r.raise_for_status()
    http.headers["Authorization"] = "Bearer " + r.json()["token"]
    config = http.get(base + "/api/v1/auths/admin/config")
    config.raise_for_status()
    if not config.json().get("ENABLE_API_KEYS"):
        http.post(base + "/api/v1/auths/admin/config", json={**config.json(), "ENABLE_API_KEYS": True}).raise_for_status()
    r = http.post(base + "/api/v1/auths/api_key")
    r.raise_for_status()
    return http, r.json()["api_key"]


def expect(what, ok, seen):
    print("%-4s %s" % ("ok" if ok else "FAIL", what))
    if not ok:
        sys.exit("%s: %r" % (what, seen))


def raised(f):
    """What f raises, or what it gives."""
    try:
        return f()
    except Exception as e:
        return e


def eventually(what, condition):
    end = time.time() + PATIENCE
    while not condition():
        if time.time() > end:
            expect(what, False, "it did not happen")
        time.sleep(0.05)
    expect(what, True, None)


class Provider(ThreadingHTTPServer):
    """An OpenAI-compatible server and an Ollama server. Models: own-chat, own-endless, own-429, own-cut, own:latest."""
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Asked)
        self.asked, self.gone = [], 0
        self.url = "http://127.0.0.1:%d" % self.server_port
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def chat_asked(self):
        """The last request for a chat."""
        return [b for path, b in self.asked if path in ("/v1/chat/completions", "/api/chat")][-1]

    def handle_error(self, request, address):
        if not isinstance(sys.exc_info()[1], OSError):  # who asked has gone
            super().handle_error(request, address)


class Asked(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, body, status=200):
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (("Content-Type", "application/json"), ("Content-Length", str(len(data))), ("Retry-After", "1")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def stream(self, kind, pieces, pause=0, chunked=False):
        self.send_response(200)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Content-Type", kind)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            for piece in pieces:
                self.wfile.write(piece.encode())
                self.wfile.flush()
                time.sleep(pause)
        except OSError:
            self.server.gone += 1

    def do_GET(self):
        answers = {
            "/v1/models": {"object": "list", "data": [{"id": "own-" + n, "object": "model"} for n in ("chat", "endless", "429", "cut")]},
            "/api/tags": {"models": [{"name": "own:latest", "model": "own:latest", "modified_at": "2026-01-01T00:00:00Z", "size": 1, "digest": "d", "details": {}}]},
            "/api/ps": {"models": [{"name": "own:latest", "model": "own:latest", "size": 1, "digest": "d", "expires_at": "2036-01-01T00:00:00Z", "size_vram": 1}]},
            "/api/version": {"version": "0.13.0"},
        }
        self.answer(answers.get(self.path, {"error": "not found"}), 200 if self.path in answers else 404)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        self.server.asked.append((self.path, body))
        f = {"/v1/chat/completions": self.chat, "/v1/embeddings": self.embeddings, "/v1/responses": self.respond, "/api/chat": self.ollama_chat, "/api/generate": self.generate,
             "/api/embed": self.embed, "/api/show": self.show, "/api/pull": self.pull}.get(self.path)
        if f:
            f(body)
        else:
            self.answer({"error": "not found"}, 404)

    def chat(self, body):
        model = body["model"]
        if model == "own-429":
            return self.answer({"error": {"message": "slow down", "type": "rate_limit_error", "code": "rate_limit"}}, 429)
        message, finish = {"role": "assistant", "content": "Fine."}, "stop"
        last = body["messages"][-1]
        if body.get("tools") and last["role"] == "user":
            call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ghent"}'}}
            message, finish = {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
        elif last["role"] == "tool":
            message["content"] = "It is " + str(last["content"])
        elif body.get("response_format"):
            message["content"] = '{"city": "Ghent"}'
        elif "think" in str(last["content"]):
            message["reasoning_content"] = "Hm."
        if not body.get("stream"):
            return self.answer({"id": "c", "object": "chat.completion", "created": 1, "model": model, "choices": [{"index": 0, "message": message, "finish_reason": finish}],
                                "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}})

        def chunk(delta, finish=None):
            return "data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": model,
                                          "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}) + "\n\n"
        if model == "own-endless":
            return self.stream("text/event-stream", (chunk({"content": "on "}) for _ in range(2000)), 0.02)
        if model == "own-cut":
            half = chunk({"content": "half"})
            return self.stream("text/event-stream", ["%x\r\n%s\r\n" % (len(half), half)], chunked=True)  # whose end never comes
        pieces = [chunk({"role": "assistant", "content": ""})]
        if "reasoning_content" in message:
            pieces.append(chunk({"reasoning_content": message["reasoning_content"]}))
        for i, call in enumerate(message.get("tool_calls", [])):
            arguments = call["function"]["arguments"]
            pieces.append(chunk({"tool_calls": [{**call, "index": i, "function": {"name": call["function"]["name"], "arguments": ""}}]}))
            pieces += [chunk({"tool_calls": [{"index": i, "function": {"arguments": part}}]}) for part in (arguments[:8], arguments[8:])]
        text = message["content"] or ""
        pieces += [chunk({"content": part}) for part in (text[:2], text[2:]) if part]
        usage = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}
        self.stream("text/event-stream", [*pieces, chunk({}, finish), "data: " + json.dumps(usage) + "\n\n", "data: [DONE]\n\n"])

    def embeddings(self, body):
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        self.answer({"object": "list", "model": body["model"], "data": [{"object": "embedding", "index": i, "embedding": [0.5, float(i)]} for i in range(len(texts))],
                     "usage": {"prompt_tokens": 1, "total_tokens": 1}})

    def respond(self, body):
        done = {"id": "resp_1", "object": "response", "created_at": 1, "model": body["model"], "status": "completed", "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
                "output": [{"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": "Fine.", "annotations": []}]}]}
        if not body.get("stream"):
            return self.answer(done)
        events = [{"type": "response.created", "sequence_number": 0, "response": {**done, "output": [], "status": "in_progress"}}]
        events += [{"type": "response.output_text.delta", "sequence_number": i + 1, "item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": part, "logprobs": []} for i, part in enumerate(("Fi", "ne."))]
        events.append({"type": "response.completed", "sequence_number": 3, "response": done})
        self.stream("text/event-stream", ["event: %s\ndata: %s\n\n" % (e["type"], json.dumps(e)) for e in events])

    def lines(self, body, objects, pause=0):
        if body.get("stream", True):
            return self.stream("application/x-ndjson", (json.dumps(o) + "\n" for o in objects), pause)
        self.answer(list(objects)[-1])

    def ollama_chat(self, body):
        if "endless" in body["messages"][-1].get("content", ""):
            part = {"model": body["model"], "created_at": "2026-01-01T00:00:00Z", "message": {"role": "assistant", "content": "on "}, "done": False}
            return self.lines(body, (part for _ in range(2000)), 0.02)
        message = {"role": "assistant", "content": "Fine."}
        if body.get("tools") and body["messages"][-1]["role"] == "user":
            message = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Ghent"}}}]}
        elif body["messages"][-1]["role"] == "tool":
            message["content"] = "It is " + body["messages"][-1]["content"]
        if body.get("think"):
            message["thinking"] = "Hm."
        self.lines(body, [{"model": body["model"], "created_at": "2026-01-01T00:00:00Z", "message": message, "done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 2}])

    def generate(self, body):
        first = {"model": body["model"], "created_at": "2026-01-01T00:00:00Z", "response": "Fi", "done": False}
        last = {**first, "response": "ne." if body.get("stream", True) else "Fine.", "done": True, "done_reason": "stop"}
        self.lines(body, [first, last])

    def embed(self, body):
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        self.answer({"model": body["model"], "embeddings": [[0.5, float(i)] for i in range(len(texts))]})

    def show(self, body):
        self.answer({"modelfile": "FROM own", "details": {"family": "own"}, "model_info": {}, "capabilities": ["completion"]})

    def pull(self, body):
        self.lines(body, [{"status": "pulling", "digest": "d", "total": 10, "completed": n} for n in (0, 5, 10)] + [{"status": "success"}])


@contextlib.contextmanager
def joined(base, http):
    """The provider, among the server's connections."""
    provider = Provider()
    before = {}
    for kind, path in (("OPENAI", "/openai"), ("OLLAMA", "/ollama")):
        r = http.get(base + path + "/config")
        r.raise_for_status()
        before[path] = config = r.json()
        urls, configs = kind + ("_API_BASE_URLS" if kind == "OPENAI" else "_BASE_URLS"), kind + "_API_CONFIGS"
        changed = {**config, "ENABLE_%s_API" % kind: True, urls: [*config[urls], provider.url + ("/v1" if kind == "OPENAI" else "")],
                   configs: {**config[configs], str(len(config[urls])): {"enable": True}}}
        if kind == "OPENAI":
            changed["OPENAI_API_KEYS"] = [*config["OPENAI_API_KEYS"], "sk-own"]
        http.post(base + path + "/config/update", json=changed).raise_for_status()
    http.get(base + "/api/models?refresh=true").raise_for_status()
    try:
        yield provider
    finally:
        for path, config in before.items():
            http.post(base + path + "/config/update", json=config).raise_for_status()
        provider.shutdown()


def with_openai(path, base, key):
    client = openai.OpenAI(base_url=base + path, api_key=key, max_retries=0, timeout=30)
    ids = [m.id for m in client.models.list()]
    expect("openai %s lists models" % path, MODEL in ids, ids)
    messages = [{"role": "user", "content": QUESTION}]

    whole = client.chat.completions.create(model=MODEL, messages=messages)
    expect("openai %s chats" % path, whole.choices[0].message.content == ANSWER, whole)

    pieces = [c.choices[0].delta.content or "" for c in client.chat.completions.create(model=MODEL, messages=messages, stream=True) if c.choices]
    expect("openai %s streams" % path, "".join(pieces) == ANSWER and sum(map(bool, pieces)) > 1, pieces)

    seen = raised(lambda: client.chat.completions.create(model=UNKNOWN, messages=messages))
    expect("openai %s is told of an unknown model" % path,
           isinstance(seen, openai.APIStatusError) and seen.status_code in (400, 404) and "not found" in seen.response.text, seen)

    seen = raised(lambda: openai.OpenAI(base_url=base + path, api_key="sk-" + "0" * 32, max_retries=0).models.list())
    expect("openai %s is told of a wrong key" % path, isinstance(seen, openai.AuthenticationError), seen)


def openai_more(path, base, key, provider):
    client = openai.OpenAI(base_url=base + path, api_key=key, max_retries=0, timeout=30)
    tools = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]
    messages = [{"role": "user", "content": "the weather?"}]
    create = lambda **more: client.chat.completions.create(**{"model": "own-chat", "messages": messages, **more})

    asked = create(tools=tools).choices[0]
    expect("openai %s is given calls" % path, asked.finish_reason == "tool_calls" and json.loads(asked.message.tool_calls[0].function.arguments) == {"city": "Ghent"}, asked)
    arguments, finish = "", ""
    for c in create(tools=tools, stream=True):
        for choice in c.choices:
            arguments += "".join(t.function.arguments or "" for t in choice.delta.tool_calls or [])
            finish = choice.finish_reason or finish
    expect("openai %s is given calls by a stream" % path, json.loads(arguments) == {"city": "Ghent"} and finish == "tool_calls", (arguments, finish))
    told = [*messages, asked.message.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": asked.message.tool_calls[0].id, "content": "sunny"}]
    whole = create(messages=told, tools=tools)
    expect("openai %s gives results of calls" % path, whole.choices[0].message.content == "It is sunny" and whole.usage.total_tokens == 5, whole)

    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + PNG}}
    create(messages=[{"role": "user", "content": [{"type": "text", "text": "look"}, image]}])
    expect("openai %s sends images" % path, provider.chat_asked()["messages"][-1]["content"][-1] == image, provider.chat_asked())

    form = {"type": "json_schema", "json_schema": {"name": "place", "schema": WEATHER, "strict": True}}
    whole = create(response_format=form)
    expect("openai %s asks for a form" % path, json.loads(whole.choices[0].message.content) == {"city": "Ghent"} and provider.chat_asked()["response_format"] == form, whole)
    create(temperature=0.5, top_p=0.9, seed=7, stop=["x"], max_tokens=9, logit_bias={"5": 3}, user="u", extra_body={"top_k": 4})
    sent = provider.chat_asked()
    expect("openai %s sends parameters" % path, [sent.get(k) for k in ("temperature", "top_p", "seed", "stop", "max_tokens", "logit_bias", "user", "top_k")] == [0.5, 0.9, 7, ["x"], 9, {"5": 3}, "u", 4], sent)

    usage = [c.usage for c in create(stream=True, stream_options={"include_usage": True}) if c.usage]
    expect("openai %s is told of the usage" % path, [u.total_tokens for u in usage] == [5], usage)
    seen = raised(lambda: create(model="own-429"))
    expect("openai %s is told to slow down" % path, isinstance(seen, openai.RateLimitError) and "slow down" in str(seen) and seen.response.headers.get("retry-after") == "1", seen)
    seen = raised(lambda: list(create(model="own-cut", stream=True)))
    if path != "/openai":  # it ends streams that broke off with an error in them; /openai is a plain proxy
        expect("openai %s is told that a stream broke off" % path, isinstance(seen, openai.APIError), seen)

    gone = provider.gone
    stream = create(model="own-endless", stream=True)
    next(iter(stream))
    stream.close()
    eventually("openai %s cancels" % path, lambda: provider.gone > gone)
    if path == "/openai":
        return  # where embeddings are for those who may send anything to a provider
    made = client.embeddings.create(model="own-chat", input=["a", "b"], encoding_format="float")
    expect("openai %s embeds" % path, [d.embedding for d in made.data] == [[0.5, 0.0], [0.5, 1.0]], made)


def openai_responses(base, key):
    client = openai.OpenAI(base_url=base + "/openai", api_key=key, max_retries=0, timeout=30)
    whole = client.responses.create(model="own-chat", input="hello")
    expect("openai responds", whole.output_text == "Fine.", whole)
    events = list(client.responses.create(model="own-chat", input="hello", stream=True))
    expect("openai responds by a stream", "".join(e.delta for e in events if e.type == "response.output_text.delta") == "Fine." and events[-1].type == "response.completed", events)


def with_anthropic(base, key, provider):
    client = anthropic.Anthropic(base_url=base + "/api", api_key=key, max_retries=0, timeout=30)
    messages = [{"role": "user", "content": "hello"}]
    create = lambda **more: client.messages.create(**{"model": "own-chat", "max_tokens": 50, "messages": messages, **more})

    whole = create(system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}], stop_sequences=["x"])
    expect("anthropic chats", whole.content[0].text == "Fine." and whole.stop_reason == "end_turn" and (whole.usage.input_tokens, whole.usage.output_tokens) == (3, 2), whole)
    sent = provider.chat_asked()
    expect("anthropic sends a system prompt", sent["messages"][0] == {"role": "system", "content": "Be brief."} and sent["max_tokens"] == 50 and sent["stop"] == ["x"]
           and "cache_control" not in json.dumps(sent), sent)

    with client.messages.stream(model="own-chat", max_tokens=50, messages=[{"role": "user", "content": "think"}]) as stream:
        events = [e.type for e in stream if e.type in ("message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop")]
        final = stream.get_final_message()
    expect("anthropic streams", [b.type for b in final.content] == ["thinking", "text"] and final.content[1].text == "Fine." and final.usage.output_tokens == 2
           and events == ["message_start"] + ["content_block_start", "content_block_stop"] * 2 + ["message_delta", "message_stop"], (events, final))

    tools = [{"name": "weather", "description": "the weather", "input_schema": WEATHER, "cache_control": {"type": "ephemeral"}}]
    asked = create(tools=tools)
    expect("anthropic is given calls", asked.stop_reason == "tool_use" and asked.content[-1].input == {"city": "Ghent"}, asked)
    with client.messages.stream(model="own-chat", max_tokens=50, messages=messages, tools=tools) as stream:
        parts = [e.delta.partial_json for e in stream if e.type == "content_block_delta" and e.delta.type == "input_json_delta"]
        final = stream.get_final_message()
    expect("anthropic is given calls by a stream", json.loads("".join(parts)) == {"city": "Ghent"} and final.stop_reason == "tool_use" and final.content[-1].name == "weather", (parts, final))
    result = {"type": "tool_result", "tool_use_id": asked.content[-1].id, "content": [{"type": "text", "text": "sunny"}]}
    whole = create(tools=tools, messages=[*messages, {"role": "assistant", "content": [b.model_dump(exclude_none=True) for b in asked.content]}, {"role": "user", "content": [result]}])
    expect("anthropic gives results of calls", whole.content[0].text == "It is sunny", whole)

    create(messages=[{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}, {"type": "text", "text": "look"}]}])
    expect("anthropic sends images", "data:image/png;base64," + PNG in json.dumps(provider.chat_asked()), provider.chat_asked())
    seen = raised(lambda: create(model="own-429"))
    expect("anthropic is told to slow down", isinstance(seen, anthropic.RateLimitError), seen)
    seen = raised(lambda: create(model=UNKNOWN))
    expect("anthropic is told of an unknown model", isinstance(seen, anthropic.APIStatusError) and seen.status_code in (400, 404), seen)
    seen = raised(lambda: anthropic.Anthropic(base_url=base + "/api", api_key="sk-" + "0" * 32, max_retries=0).messages.create(model="own-chat", max_tokens=5, messages=messages))
    expect("anthropic is told of a wrong key", isinstance(seen, anthropic.AuthenticationError), seen)
    seen = raised(lambda: client.messages.count_tokens(model="own-chat", messages=messages))
    expect("anthropic counts tokens where the provider can", isinstance(seen, anthropic.NotFoundError) or getattr(seen, "input_tokens", 0) > 0, seen)
    gone = provider.gone
    with client.messages.stream(model="own-endless", max_tokens=50, messages=messages) as stream:
        next(iter(stream.text_stream))
    eventually("anthropic cancels", lambda: provider.gone > gone)


def with_ollama(base, key):
    client = ollama.Client(host=base + "/ollama", headers={"Authorization": "Bearer " + key}, timeout=30)
    names = [m.model for m in client.list().models]
    model = next((n for n in names if n and n.split(":")[0] == OLLAMA_MODEL), None)
    expect("ollama lists models", model is not None, names)
    messages = [{"role": "user", "content": QUESTION}]

    whole = client.chat(model=model, messages=messages)
    expect("ollama chats", whole.message.content == ANSWER, whole)

    pieces = [part.message.content or "" for part in client.chat(model=model, messages=messages, stream=True)]
    expect("ollama streams", "".join(pieces) == ANSWER and sum(map(bool, pieces)) > 1, pieces)

    seen = raised(lambda: client.chat(model=UNKNOWN, messages=messages))
    expect("ollama is told of an unknown model",
           isinstance(seen, ollama.ResponseError) and seen.status_code in (400, 404) and "not found" in str(seen), seen)


def ollama_more(base, key, provider):
    client = ollama.Client(host=base + "/ollama", headers={"Authorization": "Bearer " + key}, timeout=30)
    model, messages = "own:latest", [{"role": "user", "content": "the weather?"}]
    tools = [{"type": "function", "function": {"name": "weather", "description": "w", "parameters": WEATHER}}]
    asked = client.chat(model=model, messages=messages, tools=tools)
    expect("ollama is given calls", asked.message.tool_calls[0].function.arguments == {"city": "Ghent"}, asked)
    whole = client.chat(model=model, messages=[*messages, asked.message, {"role": "tool", "tool_name": "weather", "content": "sunny"}], tools=tools)
    expect("ollama gives results of calls", whole.message.content == "It is sunny" and whole.eval_count == 2, whole)
    whole = client.chat(model=model, messages=[{"role": "user", "content": "look", "images": [PNG]}], think=True, format=WEATHER, keep_alive="5m", options={"num_ctx": 512, "seed": 7})
    sent = provider.chat_asked()
    expect("ollama sends images and options", sent["messages"][0]["images"] == [PNG] and sent["options"] == {"num_ctx": 512, "seed": 7} and sent["format"] == WEATHER
           and sent["keep_alive"] == "5m" and sent["think"] is True and whole.message.thinking == "Hm.", sent)
    expect("ollama generates", client.generate(model=model, prompt="p", system="s").response == "Fine.", None)
    expect("ollama generates by a stream", "".join(p.response for p in client.generate(model=model, prompt="p", stream=True)) == "Fine.", None)
    expect("ollama embeds", [list(e) for e in client.embed(model=model, input=["a", "b"]).embeddings] == [[0.5, 0.0], [0.5, 1.0]], None)
    expect("ollama shows a model", client.show(model).details.family == "own", None)
    expect("ollama lists what is loaded", model in [m.model for m in client.ps().models], client.ps())
    version = requests.get(base + "/ollama/api/version", headers={"Authorization": "Bearer " + key})
    expect("ollama tells its version", version.json().get("version") == "0.13.0", version.text)
    steps = [p.status for p in client.pull("own2", stream=True)]
    expect("ollama pulls with progress", len(steps) > 1, steps)
    gone = provider.gone
    stream = client.chat(model=model, messages=[{"role": "user", "content": "endless"}], stream=True)
    next(stream)
    stream.close()
    eventually("ollama cancels", lambda: provider.gone > gone)


def main():
    base = sys.argv[1].rstrip("/")
    http, key = sign_in(base)
    with_openai("/api", base, key)
    with_openai("/openai", base, key)
    with_ollama(base, key)
    with joined(base, http) as provider:
        openai_more("/api", base, key, provider)
        openai_more("/api/v1", base, key, provider)
        openai_more("/openai", base, key, provider)
        with_anthropic(base, key, provider)
        ollama_more(base, key, provider)
    with joined(base, http) as provider:
        openai_responses(base, key)


if __name__ == "__main__":
    main()
