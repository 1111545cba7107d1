"""Tests a plugin without a server: everything that Galley would ask of it, in the process of the test::

    async def test_add() -> None:
        async with Harness(plugin) as h:
            assert (await h.tool("add", {"a": 1, "b": 2})).value == 3
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import unquote

from ._caller import CALLER_HEADER, Caller, Meta, caller_to_header, current, meta_to_pb
from ._chat import ChunkEncoder, Chunk, Message, Model, ToolCallDelta, decode_chunk
from ._core import Core
from ._fakes import GRANTS, Emitted, FakeHost
from ._host import Host, model_from_pb
from ._http import Entry
from ._json import dumps, loads
from ._plugin import Plugin
from ._proto import plugin_pb2 as pb

__all__ = ["Answer", "ConfigurationRefused", "Emitted", "Exchange", "FakeHost", "Harness", "Response", "ToolResult", "WebSocket"]

USER = Caller(id="user-1", name="Test User", email="user@example.com", role="user")


class ConfigurationRefused(Exception):
    """A configuration that the plugin refuses; ``violations`` has paths and messages."""

    def __init__(self, violations: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{path}: {message}" for path, message in violations))
        self.violations = list(violations)


@dataclass
class Answer:
    """A model's answer, put together."""

    chunks: list[Chunk] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text."""
        return "".join(c.text for c in self.chunks)

    @property
    def reasoning(self) -> str:
        """The reasoning."""
        return "".join(c.reasoning for c in self.chunks)

    @property
    def tool_calls(self) -> list[ToolCallDelta]:
        """The pieces of tool calls."""
        return [t for c in self.chunks for t in c.tool_calls]

    @property
    def finish_reason(self) -> str | None:
        """Why it ended."""
        return next((c.finish_reason for c in self.chunks if c.finish_reason), None)

    @property
    def usage(self) -> Mapping[str, Any] | None:
        """The count of tokens."""
        found = next((c.usage for c in self.chunks if c.usage), None)
        return found if found is None or isinstance(found, Mapping) else found.as_dict()


@dataclass
class ToolResult:
    """What a tool gave."""

    text: str
    value: Any  #: the text, or what the JSON says
    error: bool
    events: list[tuple[str, Any]]


@dataclass
class Response:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8")

    def json(self) -> Any:
        """The body read as JSON."""
        return loads(self.body)


class Harness:
    """Stands in for Galley. ``host`` has what the services of plugin.host know and were told."""

    def __init__(
        self, plugin: Plugin[Any], *, config: Mapping[str, Any] | None = None, caller: Caller = USER, grants: Iterable[str] = GRANTS, data_dir: str | None = None,
    ) -> None:
        self.plugin, self.caller = plugin, caller
        self.host = FakeHost(grants=set(grants))
        self._core = Core(plugin)
        self._config = dict(config or {})
        self._data_dir = data_dir
        self._stack = contextlib.AsyncExitStack()
        self._state: dict[str, Any] = {}

    async def __aenter__(self) -> Harness:
        folder = self._data_dir or self._stack.enter_context(tempfile.TemporaryDirectory())
        self.plugin.connected = Host(self.host.stubs(), sorted(self.host.grants), folder)
        await self.configure(self._config)
        await self._core.start()
        if self.plugin.app is not None:
            await self._stack.enter_async_context(_lifespan(self.plugin.app, self._state))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._core.stop()
        await self._stack.aclose()
        self.plugin.connected = None

    # ---- the process

    def describe(self) -> dict[str, Any]:
        """What the plugin says of itself: id, version, routes, tools, filter, config_schema, wants."""
        d = self._core.describe()
        return {
            "id": d.id, "name": d.name, "version": d.version, "description": d.description, "wants": list(d.wants),
            "routes": list(self.plugin.routes), "config_schema": loads(d.config_schema) if d.config_schema else None,
            "tools": [{"name": t.name, "description": t.description, "parameters": loads(t.parameters)} for t in d.tools],
            "filter": {f.name: _plain(getattr(d.filter, f.name)) for f in d.filter.DESCRIPTOR.fields} if d.HasField("filter") else None,
        }

    async def configure(self, config: Mapping[str, Any]) -> Any:
        """Gives a configuration and returns it with its defaults. Raises ConfigurationRefused."""
        answer = await self._core.configure(pb.ConfigureRequest(config=dumps(config)))
        if answer.violations:
            raise ConfigurationRefused([(v.path, v.message) for v in answer.violations])
        return loads(answer.config)

    async def check(self) -> tuple[str, str]:
        """The health, "ok", "degraded" or "failed", and what is said of it."""
        answer = await self._core.check()
        return pb.CheckResponse.Status.Name(answer.status).removeprefix("STATUS_").lower(), answer.message

    async def metrics(self) -> str:
        """The metrics in Prometheus' text format."""
        return (await self._core.metrics()).text.decode("utf-8")

    def meta(self, **changes: Any) -> Meta:
        """A Meta of the harness' caller."""
        return dataclasses.replace(Meta(caller=self.caller, request_id="request-1", kind="chat"), **changes)

    # ---- models

    async def models(self) -> list[Model]:
        """The models that the plugin lists."""
        return [model_from_pb(m) for m in (await self._core.models()).models]

    async def stream(self, model: str, question: str | Sequence[Message] | Mapping[str, Any], meta: Meta | None = None) -> AsyncIterator[Chunk]:
        """Asks a model: a text, messages, or a whole body. Gives the chunks as they come."""
        if isinstance(question, Mapping):
            body = {"model": model, **question}
        else:
            messages = [{"role": "user", "content": question}] if isinstance(question, str) else list(question)
            body = {"model": model, "messages": messages, "stream": True}
        meta = meta or self.meta(model=model)
        request = pb.ChatRequest(meta=meta_to_pb(meta), model=model, body=dumps(body), stream=bool(body.get("stream")))
        with _call(meta):
            async with contextlib.aclosing(self._core.chat(request, meta)) as chunks:  # type: ignore[type-var]
                async for raw in chunks:
                    yield decode_chunk(raw) or Chunk()

    async def chat(self, model: str, question: str | Sequence[Message] | Mapping[str, Any], meta: Meta | None = None) -> Answer:
        """Asks a model and waits for the whole answer."""
        return Answer([c async for c in self.stream(model, question, meta)])

    async def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        """Asks for embeddings."""
        with _call(self.meta(model=model)):
            return [list(e.values) for e in (await self._core.embed(pb.EmbedRequest(model=model, input=texts))).embeddings]

    # ---- tools and filters

    async def tool(self, name: str, arguments: Mapping[str, Any] | None = None, meta: Meta | None = None) -> ToolResult:
        """Calls a tool."""
        events: list[tuple[str, Any]] = []
        with _call(meta or self.meta()):
            async with contextlib.aclosing(self._core.call(pb.CallRequest(name=name, arguments=dumps(arguments or {})))) as items:  # type: ignore[type-var]
                async for item in items:
                    if item.HasField("event"):
                        events.append((item.event.type, loads(item.event.data)))
                    else:
                        r = item.result
                        return ToolResult(r.text or r.json.decode(), loads(r.json) if r.json else r.text, r.error, events)
        raise AssertionError("a tool ends with a result")

    async def inlet(self, body: Mapping[str, Any], meta: Meta | None = None) -> dict[str, Any]:
        """Passes a request through the inlets and gives the one that goes on."""
        meta = meta or self.meta(model=str(body.get("model") or ""))
        with _call(meta):
            out = (await self._core.inlet(pb.InletRequest(body=dumps(body)), meta)).body
        return loads(out) if out else dict(body)

    async def outlet(self, body: Mapping[str, Any], meta: Meta | None = None) -> dict[str, Any]:
        """Passes a chat through the outlets and gives the one that goes on."""
        meta = meta or self.meta(model=str(body.get("model") or ""))
        with _call(meta):
            out = (await self._core.outlet(pb.OutletRequest(body=dumps(body)), meta)).body
        return loads(out) if out else dict(body)

    async def filter_stream(self, items: Iterable[str | Chunk | dict[str, Any]], meta: Meta | None = None) -> Answer:
        """Passes an answer, in pieces, through the stream filters."""
        meta = meta or self.meta()
        encoder, out = ChunkEncoder(meta.model), Answer()
        with _call(meta):
            filters = self._core.stream(meta)
            for item in items:
                for raw in encoder.encode(item):
                    out.chunks += [decode_chunk(c) or Chunk() for c in await filters.chunk(raw)]
        return out

    # ---- HTTP

    @property
    def prefix(self) -> str:
        """Where the plugin is mounted."""
        return f"/api/v1/plugins/{self.plugin.id}"

    @property
    def app(self) -> Any:
        """The plugin's ASGI app as Galley's requests meet it, for httpx.ASGITransport or Starlette's TestClient."""
        entry = Entry(self.plugin.app)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] in ("http", "websocket"):
                ours = (CALLER_HEADER.lower().encode(), b"x-forwarded-prefix")
                kept = [(n, v) for n, v in scope["headers"] if n not in ours]
                caller = [(ours[0], caller_to_header(self.caller))] if self.caller else []
                scope = {**scope, "state": {**self._state}, "headers": [*kept, *caller, (ours[1], self.prefix.encode())]}
            await entry(scope, receive, send)

        return app

    async def request(
        self, method: str, path: str, *, json: Any = None, content: bytes | Iterable[bytes] = b"", headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Sends an HTTP request and waits for the whole answer."""
        async with self.open(method, path, json=json, content=content, headers=headers) as exchange:
            return Response(exchange.status, exchange.headers, b"".join([part async for part in exchange.parts()]))

    @contextlib.asynccontextmanager
    async def open(
        self, method: str, path: str, *, json: Any = None, content: bytes | Iterable[bytes] = b"", headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Exchange]:
        """Sends an HTTP request and gives the answer as it comes. At the end the client is gone."""
        sent = {"host": "galley.test", **{k.lower(): v for k, v in (headers or {}).items()}}
        if json is not None:
            content = dumps(json)
            sent.setdefault("content-type", "application/json")
        pieces = [content] if isinstance(content, bytes) else list(content)
        sent.setdefault("content-length", str(sum(map(len, pieces))))
        exchange = Exchange(pieces)
        scope = {**_scope("http", path, sent), "method": method.upper(), "scheme": "https"}
        async with exchange.running(self.app, scope):
            yield exchange

    @contextlib.asynccontextmanager
    async def websocket(self, path: str, headers: Mapping[str, str] | None = None, subprotocols: Sequence[str] = ()) -> AsyncIterator[WebSocket]:
        """Opens a WebSocket. Raises ConnectionRefusedError if the app does not accept it."""
        socket = WebSocket()
        scope = {**_scope("websocket", path, {"host": "galley.test", **(headers or {})}), "scheme": "wss", "subprotocols": list(subprotocols)}
        async with socket.running(self.app, scope):
            yield socket


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, int, str)) else list(value)


@contextlib.contextmanager
def _call(meta: Meta) -> Any:
    token = current.set(meta)
    try:
        yield
    finally:
        # a generator may be closed in another context than it began in
        with contextlib.suppress(ValueError):
            current.reset(token)


def _scope(kind: str, path: str, headers: Mapping[str, str]) -> dict[str, Any]:
    bare, _, query = path.partition("?")
    return {
        "type": kind, "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "path": unquote(bare), "raw_path": bare.encode("ascii"),
        "root_path": "", "query_string": query.encode("ascii"), "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in headers.items()],
        "client": None, "server": None,
    }


class _Running:
    """An app at work on one connection."""

    def __init__(self) -> None:
        self._in: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._out: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def _run(self, app: Callable[..., Any], scope: dict[str, Any], gone: dict[str, Any]) -> AsyncIterator[None]:
        async def work() -> None:
            try:
                await app(scope, self._in.get, self._out.put)
            finally:
                self._out.put_nowait(None)

        self._task = asyncio.create_task(work())
        try:
            yield
        finally:
            self._in.put_nowait(gone)
            done, _ = await asyncio.wait((self._task,), timeout=5)
            if not done:
                self._task.cancel()
                await asyncio.wait((self._task,))
            elif not self._task.cancelled() and self._task.exception() is not None:
                await self._task

    async def _next(self) -> dict[str, Any] | None:
        return await self._out.get()


class Exchange(_Running):
    """An HTTP request and its answer."""

    def __init__(self, pieces: list[bytes]) -> None:
        super().__init__()
        self.status, self.headers = 0, dict[str, str]()
        for i, piece in enumerate(pieces or [b""]):
            self._in.put_nowait({"type": "http.request", "body": piece, "more_body": i < len(pieces) - 1})

    @contextlib.asynccontextmanager
    async def running(self, app: Callable[..., Any], scope: dict[str, Any]) -> AsyncIterator[None]:
        async with self._run(app, scope, {"type": "http.disconnect"}):
            start = await self._next()
            if start is not None:
                self.status = start["status"]
                self.headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in start.get("headers", ())}
                yield
            else:
                assert self._task is not None
                await self._task
                raise RuntimeError("the app did not answer")

    async def parts(self) -> AsyncIterator[bytes]:
        """The body in the pieces that the app sends."""
        while (message := await self._next()) is not None:
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body"):
                return


class WebSocket(_Running):
    """The client's side of a WebSocket."""

    subprotocol: str | None = None

    @contextlib.asynccontextmanager
    async def running(self, app: Callable[..., Any], scope: dict[str, Any]) -> AsyncIterator[None]:
        self._in.put_nowait({"type": "websocket.connect"})
        async with self._run(app, scope, {"type": "websocket.disconnect", "code": 1000}):
            first = await self._next()
            if first is None or first["type"] != "websocket.accept":
                raise ConnectionRefusedError(str(first))
            self.subprotocol = first.get("subprotocol")
            yield

    def send(self, data: str | bytes) -> None:
        """Sends a text or bytes."""
        self._in.put_nowait({"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data})

    async def receive(self) -> str | bytes | None:
        """The next message; None if the app closed the socket."""
        message = await self._next()
        if message is None or message["type"] != "websocket.send":
            return None
        data: str | bytes | None = message["text"] if message.get("text") is not None else message.get("bytes")
        return data


@contextlib.asynccontextmanager
async def _lifespan(app: Any, state: dict[str, Any]) -> AsyncIterator[None]:
    """Runs an app's lifespan; apps that have none do without."""
    inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def work() -> None:
        try:
            await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": state}, inbox.get, outbox.put)
        except Exception as e:
            outbox.put_nowait({"type": "unsupported", "message": str(e)})
        else:
            outbox.put_nowait({"type": "unsupported"})

    task = asyncio.create_task(work())
    inbox.put_nowait({"type": "lifespan.startup"})
    started = await outbox.get()
    if started["type"] == "lifespan.startup.failed":
        raise RuntimeError(f"the app's lifespan could not start: {started.get('message', '')}")
    try:
        yield
    finally:
        if started["type"] == "lifespan.startup.complete":
            inbox.put_nowait({"type": "lifespan.shutdown"})
            await outbox.get()
        await task
