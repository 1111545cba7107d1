"""Models, tools, filters, host services and HTTP of a plugin in the process of the test."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated, Any, Literal, NewType, Optional, TypedDict, Union

import pytest
from fastapi import Depends, FastAPI, Request, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import BaseModel, Field

from galley_sdk import (
    Caller, ChatRequest, Chunk, ConflictError, Degraded, Meta, Model, NotFoundError, NotGranted, Plugin, QuotaError, Refusal, ToolCall, ToolError, caller, meta,
)
from galley_sdk.testing import Harness

pytestmark = pytest.mark.anyio


def new(**more: Any) -> Plugin[Any]:
    return Plugin(id="p", version="1", **more)


# ---- models


async def test_kinds_of_models() -> None:
    plugin = new()
    threads: list[bool] = []

    @plugin.model("generator", name="G", tags=["t"], info={"meta": {"x": 1}})
    async def generator(request: ChatRequest) -> AsyncIterator[str]:
        yield f"{request.last()} {request.last('system')} {request.caller.name} {meta().model} {request.stream}"

    @plugin.model("blocking")
    def blocking(request: ChatRequest) -> Iterator[str]:
        for i in range(3):
            threads.append(threading.current_thread() is threading.main_thread())
            yield f"{i}{meta().caller.id}"

    @plugin.model("plain")
    def plain(request: ChatRequest) -> str:
        return "one"

    @plugin.model("late")
    async def late(request: ChatRequest) -> Chunk:
        return Chunk(text="two", reasoning="r", finish_reason="length", usage={"total_tokens": 9})

    async with Harness(plugin) as h:
        assert [(m.id, m.name, list(m.tags), m.info) for m in await h.models()][0] == ("generator", "G", ["t"], {"meta": {"x": 1}})
        parts = [{"type": "text", "text": "he"}, {"type": "image_url", "image_url": {}}, {"type": "text", "text": "y"}]
        answer = await h.chat("generator", [{"role": "system", "content": "be"}, {"role": "user", "content": parts}, {"role": "assistant", "content": None}])
        assert answer.text == "hey be Test User generator True" and answer.finish_reason == "stop"
        assert (await h.chat("blocking", "x")).text == "0user-11user-12user-1" and threads == [False] * 3
        assert (await h.chat("plain", {"messages": []})).text == "one"
        answer = await h.chat("late", "x")
        assert (answer.text, answer.reasoning, answer.finish_reason, answer.usage) == ("two", "r", "length", {"total_tokens": 9})
        with pytest.raises(Refusal) as e:
            await h.chat("none", "x")
        assert e.value.status == 404


async def test_stopping_closes_the_generator() -> None:
    plugin, ended = new(), []

    @plugin.model("m")
    async def m(request: ChatRequest) -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
        finally:
            ended.append("async")

    @plugin.model("s")
    def s(request: ChatRequest) -> Iterator[str]:
        try:
            while True:
                yield "x"
        finally:
            ended.append("sync")

    async with Harness(plugin) as h:
        for id in ("m", "s"):
            stream = h.stream(id, "x")
            assert (await stream.__anext__()).text == "x"
            await stream.aclose()  # type: ignore[attr-defined]
    assert ended == ["async", "sync"]


async def test_backend_and_embedder() -> None:
    plugin = new()

    async def models() -> list[Model | str]:
        return [Model("a", description="d"), "b", "fixed"]

    @plugin.backend(models)
    async def backend(request: ChatRequest) -> AsyncIterator[dict[str, Any] | str]:
        yield {"id": "raw", "choices": [{"index": 0, "delta": {"content": request.model}}]}

    @plugin.model("fixed")
    async def fixed(request: ChatRequest) -> str:
        return "its own"

    @plugin.embedder("vec")
    def vec(texts: list[str]) -> list[list[int]]:
        return [[len(t), 1] for t in texts]

    async with Harness(plugin) as h:
        assert [m.id for m in await h.models()] == ["fixed", "vec", "a", "b"]
        assert (await h.chat("b", "x")).text == "b" and (await h.chat("fixed", "x")).text == "its own"
        assert await h.embed("vec", ["a", "bcd"]) == [[1, 1], [3, 1]]
        for work, status in ((h.chat("vec", "x"), 400), (h.embed("b", ["x"]), 404)):
            with pytest.raises(Refusal) as e:
                await work
            assert e.value.status == status
    for again in (lambda: plugin.model("fixed")(fixed), lambda: plugin.backend(models)(backend), lambda: plugin.embedder("vec")(vec)):
        with pytest.raises(ValueError):
            again()


# ---- tools

Id = NewType("Id", str)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Place(BaseModel):
    city: str = Field(description="Its name")
    zip: Optional[int] = None


@dataclass
class Node:
    name: str
    children: Optional[list[Node]] = None


class Options(TypedDict, total=False):
    deep: bool


async def test_schemas_of_tools() -> None:
    plugin = new()

    @plugin.tool
    def search(
        query: str, limit: Annotated[int, "How many", Field(ge=1, le=5)] = 3, *, id: Id, color: Color, mode: Literal["a", "b"] = "a", when: Optional[date] = None,
        place: Optional[Place] = None, nodes: list[Node] = [], options: Optional[Options] = None, by: dict[str, float] = {}, any: Any = None,
        either: Union[int, str] = 0, pair: tuple[int, str] = (1, "x"), names: set[str] = set(), call: ToolCall,
    ) -> dict[str, Any]:
        """Searches things.

        In all places.

        Args:
            query: What to look for,
                in words.
            color (Color): Which color: red or blue.

        Returns:
            What it found.
        """
        return {"query": query, "limit": limit, "color": color, "when": when, "place": place, "nodes": nodes, "pair": pair, "names": names}

    async with Harness(plugin) as h:
        (tool,) = h.describe()["tools"]
        assert (tool["name"], tool["description"]) == ("search", "Searches things.\n\nIn all places.")
        p = tool["parameters"]
        assert p["type"] == "object" and p["required"] == ["query", "id", "color"] and "call" not in p["properties"]
        expected = {
            "query": {"type": "string", "description": "What to look for, in words."},
            "limit": {"type": "integer", "description": "How many", "minimum": 1, "maximum": 5, "default": 3},
            "id": {"type": "string"},
            "color": {"type": "string", "enum": ["red", "blue"], "description": "Which color: red or blue."},
            "mode": {"type": "string", "enum": ["a", "b"], "default": "a"},
            "when": {"type": "string", "format": "date"},
            "nodes": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"type": "object"}}}, "required": ["name"]}, "default": []},
            "options": {"type": "object", "properties": {"deep": {"type": "boolean"}}},
            "by": {"type": "object", "additionalProperties": {"type": "number"}, "default": {}},
            "any": {},
            "either": {"anyOf": [{"type": "integer"}, {"type": "string"}], "default": 0},
            "pair": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2, "maxItems": 2, "default": [1, "x"]},
            "names": {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "default": []},
        }
        assert {k: v for k, v in p["properties"].items() if k != "place"} == expected
        assert p["properties"]["place"]["properties"]["city"]["description"] == "Its name"
        arguments = {"query": "x", "id": "1", "color": "blue", "when": "2026-01-02", "place": {"city": "Rome"}, "nodes": [{"name": "n", "children": [{"name": "m"}]}], "pair": [2, "y"], "names": ["a"]}
        r = await h.tool("search", arguments)
        assert r.value == {
            "query": "x", "limit": 3, "color": "blue", "when": "2026-01-02", "place": {"city": "Rome", "zip": None},
            "nodes": [{"name": "n", "children": [{"name": "m", "children": None}]}], "pair": [2, "y"], "names": ["a"],
        }
        for change, text in (
            ({"color": "green"}, "color: must be one of red, blue"), ({"limit": 9}, "limit: must be at most 5"), ({"limit": "3"}, "limit: must be a whole number"),
            ({"place": {}}, "place.city"), ({"when": "soon"}, "when: must be a date"), ({"nodes": [{"name": 1}]}, "nodes.0.name: must be a text"),
            ({"nodes": {}}, "nodes: must be a list"), ({"pair": [1]}, "pair: must have 2"), ({"either": None}, "either: fits none"), ({"mode": "c"}, "mode: must be one of a, b"),
        ):
            r = await h.tool("search", {**arguments, **change})
            assert r.error and text in r.text, (r.text, text)
        assert (await h.tool("search", {})).text == "Invalid arguments: query: is missing; id: is missing; color: is missing"


@pytest.mark.parametrize(
    "doc",
    ["Does.\n\n:param a: The a,\n    long.\n:param int b: The b.\n:returns: x", "Does.\n\nParameters\n----------\na : int\n    The a,\n    long.\nb\n    The b.\n\nReturns\n-------\nint\n    x"],
)
async def test_docstrings(doc: str) -> None:
    plugin = new()

    def f(a: int, b: int) -> int:
        return a

    f.__doc__ = doc
    plugin.tool(f)
    async with Harness(plugin) as h:
        (tool,) = h.describe()["tools"]
        assert tool["description"] == "Does."
        assert {k: v["description"] for k, v in tool["parameters"]["properties"].items()} == {"a": "The a, long.", "b": "The b."}


async def test_results_of_tools(caplog: pytest.LogCaptureFixture) -> None:
    plugin = new()

    @plugin.tool(name="other", description="Other", parameters={"type": "object", "properties": {"x": {"type": "integer"}}})
    async def named(**arguments: Any) -> Any:
        return arguments

    @plugin.tool
    def events(n: int, call: ToolCall) -> str:
        for i in range(n):
            call.status(f"step {i}", done=i == n - 1)
        call.emit("citation", {"by": call.caller.name})
        return "done"

    @plugin.tool
    async def nothing() -> None: ...

    @plugin.tool
    async def failing(how: str) -> None:
        raise {"tool": ToolError("no luck"), "refusal": Refusal(404, "gone"), "bug": KeyError("x")}[how]

    @plugin.tool
    async def unwritable() -> object:
        return object()

    async with Harness(plugin) as h:
        assert (await h.tool("other", {"x": 1, "y": [2]})).value == {"x": 1, "y": [2]}
        r = await h.tool("events", {"n": 2})
        assert r.value == "done" and not r.error
        assert r.events == [("status", {"description": "step 0", "done": False}), ("status", {"description": "step 1", "done": True}), ("citation", {"by": "Test User"})]
        assert (await h.tool("nothing")).text == "null"
        r = await h.tool("failing", {"how": "tool"})
        assert (r.text, r.error) == ("no luck", True) and not caplog.records
        r = await h.tool("failing", {"how": "bug"})
        assert (r.text, r.error) == ("KeyError: 'x'", True) and caplog.records[-1].exc_info
        assert (await h.tool("unwritable")).error
        for name, arguments in (("failing", {"how": "refusal"}), ("unknown", {})):
            with pytest.raises(Refusal) as e:
                await h.tool(name, arguments)
            assert e.value.status == 404


async def test_cancelling_a_tool() -> None:
    plugin, state = new(), []

    @plugin.tool
    async def wait() -> None:
        state.append("began")
        try:
            await asyncio.Event().wait()
        finally:
            state.append("ended")

    async with Harness(plugin) as h:
        running = asyncio.create_task(h.tool("wait"))
        while not state:
            await asyncio.sleep(0)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        while len(state) < 2:
            await asyncio.sleep(0)
    assert state == ["began", "ended"]


def test_impossible_tools() -> None:
    plugin = new()

    def anything(*args: int) -> None: ...

    def positional(a: int, /) -> None: ...

    def strange(a: Plugin[Any]) -> None: ...

    for f in (anything, positional, strange):
        with pytest.raises(TypeError):
            plugin.tool(f)
    with pytest.raises(ValueError):
        plugin.tool(name="bad name")(lambda: None)


# ---- filters


async def test_filters() -> None:
    plugin = new()
    seen: list[str] = []

    @plugin.filter("inlet", priority=5)
    async def second(body: dict[str, Any], about: Meta) -> None:
        seen.append(f"second {about.caller.id} {body.get('x')}")

    @plugin.filter("inlet", priority=1, models=["a"])
    def first(body: dict[str, Any]) -> dict[str, Any]:
        body["x"] = 1
        return body

    @plugin.filter("inlet", tasks=True)
    def limited(body: dict[str, Any]) -> None:
        if body.get("stop"):
            raise Refusal(429, "later", {"Retry-After": "3"})

    @plugin.filter("outlet")
    def out(body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "messages": []}

    async with Harness(plugin) as h:
        assert h.describe()["filter"] == {"inlet": True, "outlet": True, "stream": False, "priority": 0, "models": [], "tasks": True}
        assert await h.inlet({"model": "a"}) == {"model": "a", "x": 1}
        assert await h.inlet({"model": "b"}) == {"model": "b"}
        assert await h.inlet({"model": "a"}, h.meta(kind="task", task="title_generation")) == {"model": "a"}
        assert seen == ["second user-1 1", "second user-1 None"]
        with pytest.raises(Refusal) as e:
            await h.inlet({"model": "b", "stop": True})
        assert (e.value.status, e.value.headers) == (429, {"Retry-After": "3"})
        assert await h.outlet({"id": 1, "messages": [1]}) == {"id": 1, "messages": []}
    with pytest.raises(ValueError):
        plugin.filter("other")  # type: ignore[arg-type]


async def test_stream_filters() -> None:
    plugin = new()

    @plugin.filter("stream", models=["a", "b"])
    class Hold:
        """Holds a piece back until the next."""

        def __init__(self, about: Meta) -> None:
            self.held, self.who = "", about.caller.name

        def __call__(self, chunk: Chunk) -> list[Chunk | str]:
            held, self.held = self.held, chunk.text
            if chunk.finish_reason:
                return [held, f" ({self.who})", chunk]
            return [held] if held else []

    @plugin.filter("stream", priority=1)
    async def mark(chunk: Chunk) -> str | None:
        return chunk.text + "|" if chunk.text else None

    async with Harness(plugin) as h:
        for _ in range(2):
            answer = await h.filter_stream(["a", "b", "c", Chunk(finish_reason="length")], h.meta(model="a"))
            assert [c.text for c in answer.chunks] == ["a|", "b|", "c|", " (Test User)|", ""] and answer.finish_reason == "length"
            assert len({str((c.raw or {}).get("id")) for c in answer.chunks}) == 1
        assert (await h.filter_stream(["a", "b"], h.meta(model="other"))).text == "a|b|"
        assert h.describe()["filter"]["models"] == []


# ---- health


async def test_health_and_metrics() -> None:
    import prometheus_client

    registry = prometheus_client.CollectorRegistry()
    prometheus_client.Counter("things", "Things", registry=registry).inc(3)
    plugin = new(metrics=registry)
    problem: list[Exception] = []

    @plugin.check
    async def check() -> None:
        if problem:
            raise problem[0]

    async with Harness(plugin) as h:
        assert await h.check() == ("ok", "")
        problem[:] = [Degraded("slow")]
        assert await h.check() == ("degraded", "slow")
        problem[:] = [OSError("dead")]
        assert await h.check() == ("failed", "OSError: dead")
        assert "things_total 3.0" in await h.metrics()


async def test_hooks() -> None:
    plugin, seen = new(), []
    plugin.on_start(lambda: seen.append(f"start {plugin.data_dir != ''}"))
    plugin.on_stop(lambda: seen.append("stop"))
    with pytest.raises(RuntimeError):
        plugin.host
    async with Harness(plugin):
        assert seen == ["start True"]
    assert seen == ["start True", "stop"]


# ---- host services


async def test_kv() -> None:
    async with Harness(new()) as h:
        kv = h.plugin.host.kv
        assert await kv.get("a") is None and await kv.delete("a") is False
        version = await kv.put("a", "é", ttl=60)
        entry = await kv.get("a")
        assert entry is not None and entry.text == "é" and entry.version == version and entry.expires is not None
        assert await kv.cas("a", b"[1]", version) == version + 1
        with pytest.raises(ConflictError):
            await kv.cas("a", b"x", version)
        assert (await kv.get("a")).json() == [1]  # type: ignore[union-attr]
        assert (await kv.add("n")).value == 1 and (await kv.add("n", -3)).value == -2
        for i in range(250):
            await kv.put(f"k/{i:03}", b"")
        assert [e.key async for e in kv.list("k/")] == [f"k/{i:03}" for i in range(250)]
        await kv.put("b", b"", ttl=timedelta(minutes=1))
        h.host.clock = lambda: time.time() + 61
        assert await kv.get("b") is None and await kv.get("a") is not None


async def test_other_services() -> None:
    async with Harness(new(), grants=["users", "models", "files", "events"]) as h:
        host = h.plugin.host
        assert host.granted("users") and not host.granted("kv")
        with pytest.raises(NotGranted, match='"kv"'):
            await host.kv.get("x")
        h.host.users = [Caller("u1", "Ann", "ann@x", "admin"), Caller("u2", "Bob", "bob@x", "user")]
        assert (await host.users.get(email="bob@x")) == h.host.users[1] and await host.users.get("u9") is None
        assert await host.users.list("an") == ([h.host.users[0]], 1)
        h.host.models = {"m": "two words"}
        assert [m.id for m in await host.models.list()] == ["m"] and await host.models.ask("m", "x") == "two words"
        with pytest.raises(NotFoundError):
            await host.models.ask("none", "x")
        assert len(await host.models.embed("m", ["a", "b"])) == 2

        async def parts() -> AsyncIterator[bytes]:
            yield b"a" * 300_000
            yield b"b"

        file = await host.files.write("u1", "f.bin", parts(), "x/y")
        assert (file.size, file.user_id) == (300_001, "u1") and await host.files.get(file.id) == file
        assert b"".join([p async for p in host.files.read(file.id)]).endswith(b"ab")
        with pytest.raises(NotFoundError):
            [p async for p in host.files.read("none")]
        assert await host.files.get("none") is None
        assert await host.events.notify("u1", "hi", "success") == 1
        assert (h.host.events[0].type, h.host.events[0].data) == ("notification", {"type": "success", "content": "hi"})
    assert issubclass(QuotaError, Exception)


# ---- HTTP


async def test_http() -> None:
    state: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        state.append("began")
        yield {"color": "red"}
        state.append("ended")

    app = FastAPI(lifespan=lifespan)

    @app.get("/me/{x}")
    def me(x: str, request: Request, who: Caller = Depends(caller)) -> dict[str, Any]:
        return {"x": x, "who": who.name, "root": request.scope["root_path"], "path": request.url.path, "color": request.state.color, "q": request.query_params.get("q")}

    @app.post("/echo")
    async def echo(request: Request) -> PlainTextResponse:
        return PlainTextResponse(b"".join([part async for part in request.stream()]))

    @app.get("/endless")
    async def endless() -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            try:
                while True:
                    yield "x"
                    await asyncio.sleep(0.001)
            finally:
                state.append("closed")

        return StreamingResponse(body())

    @app.websocket("/ws")
    async def ws(socket: WebSocket, who: Caller = Depends(caller)) -> None:
        await socket.accept(subprotocol="chat")
        await socket.send_text(who.name)
        await socket.send_bytes((await socket.receive_bytes())[::-1])
        await socket.close()

    async with Harness(new(app=app)) as h:
        r = await h.request("GET", "/me/a%20b?q=1")
        assert (r.status, r.json()) == (200, {"x": "a b", "who": "Test User", "root": h.prefix, "path": f"{h.prefix}/me/a b", "color": "red", "q": "1"})
        h.caller = Caller()
        assert (await h.request("GET", "/me/x", headers={"Galley-Caller": '{"id":"forged","name":"F"}'})).json()["who"] == ""
        assert (await h.request("POST", "/echo", content=[b"a", b"b"])).text == "ab"
        assert (await h.request("GET", "/none")).status == 404
        async with h.open("GET", "/endless") as exchange:
            assert (await exchange.parts().__anext__()) == b"x"
        assert state == ["began", "closed"]
        async with h.websocket("/ws") as socket:
            assert socket.subprotocol == "chat" and await socket.receive() == ""
            socket.send(b"abc")
            assert await socket.receive() == b"cba" and await socket.receive() is None
        with pytest.raises(ConnectionRefusedError):
            async with h.websocket("/none"):
                pass
    assert state == ["began", "closed", "ended"]


async def test_openapi_docs_know_the_prefix() -> None:
    app = FastAPI()
    async with Harness(new(app=app)) as h:
        assert f"{h.prefix}/openapi.json" in (await h.request("GET", "/docs")).text
        assert (await h.request("GET", "/openapi.json")).json()["servers"] == [{"url": h.prefix}]
