"""Chunks, configuration, logs, routes, errors."""

from __future__ import annotations

import io
import json
import logging
from dataclasses import dataclass, field
from typing import Any, Literal, Optional

import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.routing import Route as StarletteRoute
from starlette.staticfiles import StaticFiles

from galley_sdk import Caller, Chunk, Group, Plugin, Refusal, Route, ToolCallDelta, Usage, caller, routes_from
from galley_sdk._caller import caller_from_header, caller_to_header
from galley_sdk._chat import ChunkEncoder, decode_chunk, merged, same
from galley_sdk._json import dumps
from galley_sdk._log import MAX_LINE, JsonHandler
from galley_sdk.testing import ConfigurationRefused, Harness

# ---- chunks


def encoded(*items: object) -> list[dict[str, Any]]:
    encoder = ChunkEncoder("m")
    return [json.loads(c) for item in items for c in encoder.encode(item)] + [json.loads(c) for c in encoder.end()]


def test_chunks_have_openai_form() -> None:
    call = ToolCallDelta(index=1, id="c1", name="f", arguments="{")
    out = encoded("a\n\"é\ud800", "", Chunk(reasoning="hm", text="b", usage=Usage(1, 2)), Chunk(tool_calls=[call], finish_reason="tool_calls"))
    assert [c["choices"][0] for c in out[:-1]] == [
        {"index": 0, "delta": {"content": "a\n\"é\ud800"}, "finish_reason": None},
        {"index": 0, "delta": {"reasoning_content": "hm", "content": "b"}, "finish_reason": None},
        {"index": 0, "delta": {"tool_calls": [{"index": 1, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{"}}]}, "finish_reason": "tool_calls"},
    ]
    assert out[-1]["choices"] == [] and out[-1]["usage"] == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    assert all(c["model"] == "m" and c["object"] == "chat.completion.chunk" and c["created"] > 0 for c in out)


def test_whole_chunks_pass_through() -> None:
    whole = {"id": "x", "choices": [{"delta": {}, "finish_reason": "length"}], "extra": 1}
    assert encoded(whole) == [whole]
    assert encoded() and encoded()[0]["choices"][0]["finish_reason"] == "stop"
    with pytest.raises(TypeError):
        encoded(7)


def test_changed_chunks_keep_what_is_unknown() -> None:
    raw = b'{"id":"x","y":[1],"choices":[{"index":0,"delta":{"role":"assistant","content":"secret","reasoning":"why"},"logprobs":1}],"usage":{"a":1}}'
    chunk = decode_chunk(raw)
    assert chunk is not None and (chunk.text, chunk.reasoning) == ("secret", "why") and same(chunk, raw)
    chunk.text, chunk.reasoning = "***", "because"
    assert not same(chunk, raw)
    assert merged(chunk) == {
        "id": "x", "y": [1], "choices": [{"index": 0, "delta": {"role": "assistant", "content": "***", "reasoning": "because"}, "logprobs": 1, "finish_reason": None}],
        "usage": {"a": 1},
    }
    assert chunk.raw is not None and chunk.raw["choices"][0]["delta"]["content"] == "secret"
    assert decode_chunk(b"[]") is None and decode_chunk(b"{") is None


# ---- callers


def test_caller_header() -> None:
    who = Caller("u", "É", "e@x", "admin", (Group("g", "G"),))
    header = caller_to_header(who)
    assert header.isascii() and caller_from_header(header) == who and who.is_admin and who
    for bad in (b"", b"{", b"[]", b"3", b'{"id":null}', b'{"groups":[1]}', b"\xff"):
        assert not caller_from_header(bad) and caller_from_header(bad).anonymous
    assert caller() == Caller()


# ---- refusals


@pytest.mark.parametrize(
    ("status", "code"),
    [(429, "RESOURCE_EXHAUSTED"), (400, "INVALID_ARGUMENT"), (401, "UNAUTHENTICATED"), (403, "PERMISSION_DENIED"), (404, "NOT_FOUND"), (503, "UNAVAILABLE"), (418, "FAILED_PRECONDITION")],
)
def test_codes_of_refusals(status: int, code: str) -> None:
    assert Refusal(status, "no").code.name == code


def test_refusals_are_errors() -> None:
    for status in (200, 600):
        with pytest.raises(ValueError):
            Refusal(status, "no")


# ---- configuration


@dataclass
class Limits:
    rate: float = field(default=1.5, metadata={"min": 0})


@dataclass
class Settings:
    key: str = field(metadata={"title": "Key", "description": "Where from", "min_length": 2})
    mode: Literal["fast", "slow"] = "fast"
    level: int = field(default=3, metadata={"min": 1, "max": 5, "enum": (1, 3, 5)})
    tags: list[str] = field(default_factory=list)
    limits: Limits = field(default_factory=Limits)
    note: Optional[str] = None

    def validate(self) -> None:
        if self.key == "bad":
            raise ValueError("this key is bad")
        if self.key == "worse":
            raise ValueError("key", "this key is worse")


@pytest.mark.anyio
async def test_configuration() -> None:
    plugin = Plugin(id="p", version="1", config=Settings)
    seen: list[Settings] = []
    plugin.on_config(seen.append)
    with pytest.raises(RuntimeError):
        plugin.config
    async with Harness(plugin, config={"key": "abc"}) as h:
        schema = h.describe()["config_schema"]
        assert schema["required"] == ["key"]
        assert schema["properties"] == {
            "key": {"type": "string", "title": "Key", "description": "Where from", "minLength": 2},
            "mode": {"type": "string", "enum": ["fast", "slow"], "default": "fast"},
            "level": {"type": "integer", "minimum": 1, "maximum": 5, "enum": [1, 3, 5], "default": 3},
            "tags": {"type": "array", "items": {"type": "string"}, "default": []},
            "limits": {"type": "object", "properties": {"rate": {"type": "number", "minimum": 0, "default": 1.5}}, "default": {"rate": 1.5}},
            "note": {"type": "string"},
        }
        first = plugin.config
        assert first.key == "abc"
        effective = await h.configure({"key": "def", "level": 5, "limits": {"rate": 2}, "unknown": 1})
        assert effective == {"key": "def", "mode": "fast", "level": 5, "tags": [], "limits": {"rate": 2.0}, "note": None}
        assert plugin.config.limits.rate == 2.0 and first.key == "abc" and [s.key for s in seen] == ["abc", "def"]
        cases: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
            ({}, [("key", "is missing")]),
            ({"key": None}, [("key", "must be a text")]),
            ({"key": "a"}, [("key", "must be at least 2 long")]),
            ({"key": "bad"}, [("", "this key is bad")]),
            ({"key": "worse"}, [("key", "this key is worse")]),
            ({"key": "ab", "mode": "x", "level": 9}, [("mode", "must be one of fast, slow"), ("level", "must be at most 5"), ("level", "must be one of 1, 3, 5")]),
            ({"key": "ab", "limits": {"rate": -1}}, [("limits.rate", "must be at least 0")]),
            ({"key": "ab", "limits": 3}, [("limits", "must be an object")]),
            ({"key": "ab", "tags": ["a", 1]}, [("tags.1", "must be a text")]),
            ({"key": "ab", "level": True}, [("level", "must be a whole number")]),
        ]
        for config, violations in cases:
            with pytest.raises(ConfigurationRefused) as e:
                await h.configure(config)
            assert e.value.violations == violations
        assert plugin.config.key == "def" and len(seen) == 2

        @plugin.on_config
        async def failing(settings: Settings) -> None:
            raise OSError("disk")

        with pytest.raises(OSError):
            await h.configure({"key": "ghi"})
        assert plugin.config.key == "def"


@pytest.mark.anyio
async def test_configuration_of_pydantic() -> None:
    class Model(BaseModel):
        size: int = Field(3, ge=1, description="How big")

    plugin = Plugin(id="p", version="1", config=Model)
    async with Harness(plugin) as h:
        assert h.describe()["config_schema"]["properties"]["size"]["minimum"] == 1
        assert await h.configure({"size": 4}) == {"size": 4} and plugin.config.size == 4
        with pytest.raises(ConfigurationRefused) as e:
            await h.configure({"size": 0})
        assert e.value.violations[0][0] == "size"


@pytest.mark.anyio
async def test_without_configuration() -> None:
    plugin = Plugin(id="p", version="1")
    async with Harness(plugin) as h:
        assert await h.configure({"any": 1}) == {"any": 1}
        assert plugin.config is None and h.describe()["config_schema"] is None


def test_declarations_are_checked() -> None:
    for arguments in ({"id": "Bad"}, {"id": ""}, {"id": "x" * 65}, {"version": ""}, {"routes": [Route("GET", "/x")]}, {"config": dict}):
        with pytest.raises((ValueError, TypeError)):
            Plugin(**{"id": "p", "version": "1", **arguments})
    for bad in (lambda: Route("GET", "x"), lambda: Route("GET", "/x", access="all")):
        with pytest.raises(ValueError):
            bad()


# ---- logs


def written(*records: tuple[Any, ...], **more: Any) -> list[dict[str, Any]]:
    stream = io.StringIO()
    logger = logging.Logger("a.b")
    logger.addHandler(JsonHandler(stream))
    for level, message, *args in records:
        logger.log(level, message, *args, **more)
    lines = stream.getvalue().splitlines()
    assert all(len(line.encode()) < MAX_LINE for line in lines)
    return [json.loads(line) for line in lines]


def test_log_lines() -> None:
    out = written((logging.INFO, "hello %s\nthere", "é"), (logging.ERROR, "x"), (5, "y"), (logging.CRITICAL, "z"), extra={"user": "u", "thing": object})
    assert [o["@level"] for o in out] == ["info", "error", "trace", "error"]
    assert out[0]["@message"] == "hello é\nthere" and out[0]["@module"] == "a.b" and out[0]["user"] == "u" and "object" in out[0]["thing"]
    assert len(out[0]["@timestamp"]) == len("2026-01-01T00:00:00.000000Z")


@pytest.mark.parametrize("text", ["x" * 200_000, "é" * 100_000, "\x00" * 70_000, "😀" * 70_000])
def test_log_lines_are_bounded(text: str) -> None:
    (out,) = written((logging.INFO, text))
    assert out["@message"].startswith(text[:100])
    try:
        raise ValueError(text)
    except ValueError:
        (out,) = written((logging.ERROR, "failed"), exc_info=True, extra={"big": text})
    assert out["@message"] == "failed" and out["traceback"].endswith(text[-100:] + "\n")


# ---- JSON


def test_json_has_no_nan() -> None:
    with pytest.raises(ValueError):
        dumps(float("nan"))
    with pytest.raises(TypeError):
        dumps(object())
    assert dumps({"a": {1}, "b": Usage(1, 2)}) == b'{"a":[1],"b":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":null}}'


# ---- routes


class Item(BaseModel):
    name: str


def test_routes_of_fastapi() -> None:
    router = APIRouter(prefix="/r")

    @router.post("/items/{id}", summary="Put an item")
    def put(id: int, item: Item) -> Item:
        return item

    @router.websocket("/ws")
    async def ws(socket: WebSocket) -> None: ...

    inner = FastAPI(openapi_url=None)

    @inner.get("/in/{rest:path}")
    def inside(rest: str) -> None: ...

    app = FastAPI(docs_url=None, redoc_url=None)
    app.include_router(router, prefix="/v1")
    app.mount("/sub", inner)
    app.mount("/static", StaticFiles(directory="."))
    routes = routes_from(app, access=lambda method, path: "admin" if method == "POST" else "public", permission="features.x")
    assert {(r.method, r.path, r.access) for r in routes} == {
        ("GET", "/openapi.json", "public"), ("POST", "/v1/r/items/{id}", "admin"), ("GET", "/v1/r/ws", "public"), ("GET", "/sub/in/{rest...}", "public"),
        ("", "/static/{path...}", "public"),
    }
    (post,) = [r for r in routes if r.method == "POST"]
    assert post.summary == "Put an item" and post.permission == "features.x" and post.openapi is not None
    body = post.openapi["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"] == {"name": {"type": "string", "title": "Name"}} and "$ref" not in json.dumps(post.openapi)
    sent = post.to_pb()
    assert sent.access == 3 and json.loads(sent.openapi)["parameters"][0]["name"] == "id"


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/", "/{$}"), ("/a/", "/a/{$}"), ("/a/{b}", "/a/{b}"), ("/{b:int}/c", "/{b}/c"), ("/f/{p:path}", "/f/{p...}"), ("/f/{n}.json", "/f/{rest...}"), ("/{p:path}/x", "/{rest...}")],
)
def test_patterns(path: str, expected: str) -> None:
    app = Starlette(routes=[StarletteRoute(path, lambda r: None)])
    assert [(r.method, r.path) for r in routes_from(app)] == [("GET", expected)]


def test_routes_of_starlette() -> None:
    app = Starlette(routes=[Mount("/a", routes=[StarletteRoute("/b", lambda r: None, methods=["POST", "PUT"])])])
    assert [(r.method, r.path, r.access) for r in routes_from(app)] == [("POST", "/a/b", "verified"), ("PUT", "/a/b", "verified")]
