"""Questions to models and the pieces of their answers."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ._caller import Caller, Meta
from ._json import dumps, loads

Message = dict[str, Any]


@dataclass
class Usage:
    """Counts tokens."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int | None = None  #: None: the sum of the two

    def as_dict(self) -> dict[str, int]:
        """As OpenAI writes it."""
        total = self.prompt_tokens + self.completion_tokens if self.total_tokens is None else self.total_tokens
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens, "total_tokens": total}


@dataclass
class ToolCallDelta:
    """A piece of a tool call that a model makes."""

    index: int = 0
    id: str = ""  #: in the first piece
    name: str = ""  #: in the first piece
    arguments: str = ""  #: JSON, in pieces

    def as_dict(self) -> dict[str, Any]:
        """As OpenAI writes it."""
        function = {"arguments": self.arguments}
        out: dict[str, Any] = {"index": self.index, "function": function}
        if self.name:
            function["name"] = self.name
        if self.id:
            out["id"], out["type"] = self.id, "function"
        return out


@dataclass
class Chunk:
    """A piece of an answer."""

    text: str = ""
    reasoning: str = ""
    tool_calls: Sequence[ToolCallDelta] = ()
    usage: Usage | Mapping[str, Any] | None = None
    finish_reason: str | None = None  #: "stop", "length", "tool_calls", … in the last one
    raw: dict[str, Any] | None = None  #: a chunk that came from a model: the whole chat.completion.chunk

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it but perhaps a usage."""
        return not (self.text or self.reasoning or self.tool_calls or self.finish_reason or self.raw)


@dataclass
class Model:
    """A model that a plugin serves."""

    id: str
    name: str = ""  #: "" means the id
    description: str = ""
    owned_by: str = ""  #: "" means the plugin's id
    tags: Sequence[str] = ()
    created: int = 0  #: Unix seconds
    info: Mapping[str, Any] | None = None  #: merged into the model's entry


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message, whose content may be a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict) and part.get("type") == "text")


@dataclass
class ChatRequest:
    """A question to a model."""

    model: str  #: as the plugin named it
    body: dict[str, Any]  #: OpenAI's chat completion request
    stream: bool = True  #: whether the client wants a stream; chunks are given in either case
    meta: Meta = field(default_factory=Meta)

    @property
    def messages(self) -> list[Message]:
        """The messages of the body."""
        found = self.body.get("messages")
        return found if isinstance(found, list) else []

    @property
    def caller(self) -> Caller:
        """Who asks."""
        return self.meta.caller

    def last(self, role: str = "user") -> str:
        """The text of the last message of a role, "" if there is none."""
        return next((text_of(m) for m in reversed(self.messages) if m.get("role") == role), "")


class ChunkEncoder:
    """Makes OpenAI's chat.completion.chunk objects of what an author yields."""

    def __init__(self, model: str) -> None:
        head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "object": "chat.completion.chunk", "created": int(time.time()), "model": model}
        self._head = dumps(head)[:-1] + b',"choices":['
        self.finished = False
        self._usage: Chunk | None = None

    def encode(self, item: object) -> list[bytes]:
        """The chunks for an item: a text, a Chunk or a whole chunk as a dict. Usage waits for the end."""
        if isinstance(item, str):
            return [self._head + b'{"index":0,"delta":{"content":' + dumps(item) + b'},"finish_reason":null}]}'] if item else []
        if isinstance(item, dict):
            return [self._whole(item)]
        if not isinstance(item, Chunk):
            raise TypeError(f"a model yields texts, Chunks and dicts, not {type(item).__name__}")
        if item.raw is not None:
            return [self._whole(merged(item))]
        if item.usage is not None:
            self._usage = Chunk(usage=item.usage)
        if item.empty:
            return []
        return [self._head + self._choice(item) + b"]}"]

    def end(self) -> list[bytes]:
        """What comes last: a finish reason if there was none, and the usage."""
        out = [] if self.finished else [self._head + self._choice(Chunk(finish_reason="stop")) + b"]}"]
        if self._usage is not None:
            out.append(self._head + b'],"usage":' + dumps(_usage_dict(self._usage.usage)) + b"}")
        return out

    def _whole(self, chunk: dict[str, Any]) -> bytes:
        choices = chunk.get("choices") or ()
        if any(isinstance(c, dict) and c.get("finish_reason") for c in choices):
            self.finished = True
        return dumps(chunk)

    def _choice(self, c: Chunk) -> bytes:
        if c.finish_reason:
            self.finished = True
        return dumps({"index": 0, "delta": _delta(c), "finish_reason": c.finish_reason or None})


def _delta(c: Chunk) -> dict[str, Any]:
    delta: dict[str, Any] = {}
    if c.reasoning:
        delta["reasoning_content"] = c.reasoning
    if c.text:
        delta["content"] = c.text
    if c.tool_calls:
        delta["tool_calls"] = [t.as_dict() for t in c.tool_calls]
    return delta


def _usage_dict(usage: Usage | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return usage.as_dict() if isinstance(usage, Usage) else usage


def decode_chunk(raw: bytes) -> Chunk | None:
    """Reads a chunk of OpenAI's form; None if it is something else."""
    try:
        data = loads(raw)
    except ValueError:
        return None
    if not isinstance(data, dict):
        return None
    chunk = Chunk(raw=data)
    usage = data.get("usage")
    if isinstance(usage, dict):
        chunk.usage = usage
    choices = data.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    delta = choice.get("delta") or choice.get("message") or {}
    if not isinstance(delta, dict):
        return chunk
    content = delta.get("content")
    chunk.text = content if isinstance(content, str) else ""
    chunk.reasoning = str(delta.get("reasoning_content") or delta.get("reasoning") or "")
    chunk.finish_reason = choice.get("finish_reason")
    calls = delta.get("tool_calls")
    chunk.tool_calls = [_tool_call(c) for c in calls if isinstance(c, dict)] if isinstance(calls, list) else ()
    return chunk


def _tool_call(c: dict[str, Any]) -> ToolCallDelta:
    function = c.get("function") or {}
    return ToolCallDelta(
        index=int(c.get("index") or 0), id=str(c.get("id") or ""), name=str(function.get("name") or ""), arguments=str(function.get("arguments") or ""),
    )


def same(chunk: Chunk, raw: bytes) -> bool:
    """Whether a chunk that a filter gives back says what it said when it came."""
    was = decode_chunk(raw)
    return was is not None and was == chunk


def merged(chunk: Chunk) -> dict[str, Any]:
    """The raw chunk with the fields of the chunk put into it; what the fields do not know stays."""
    out = dict(chunk.raw or {})
    delta = _delta(chunk)
    choices = out.get("choices")
    if not (isinstance(choices, list) and choices and isinstance(choices[0], dict)):
        if delta or chunk.finish_reason:
            out["choices"] = [{"index": 0, "delta": delta, "finish_reason": chunk.finish_reason or None}]
    else:
        choice = dict(choices[0])
        out["choices"] = [choice, *choices[1:]]
        name = "message" if isinstance(choice.get("message"), dict) else "delta"
        target: dict[str, Any] = dict(choice[name]) if isinstance(choice.get(name), dict) else {}
        choice[name] = target
        if "reasoning" in target and "reasoning_content" not in target and "reasoning_content" in delta:
            delta["reasoning"] = delta.pop("reasoning_content")
        for member in ("content", "reasoning", "reasoning_content", "tool_calls"):
            if member in delta:
                target[member] = delta[member]
            elif target.get(member):
                del target[member]
        choice["finish_reason"] = chunk.finish_reason or None
    if chunk.usage is not None:
        out["usage"] = _usage_dict(chunk.usage)
    else:
        out.pop("usage", None)
    return out
