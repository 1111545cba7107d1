"""Functions that look at chats on their way to a model and back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from ._call import call, fit
from ._caller import Meta
from ._chat import Chunk, decode_chunk, merged, same
from ._json import dumps, loads
from ._proto import plugin_pb2 as pb

FilterKind = Literal["inlet", "outlet", "stream"]


@dataclass(frozen=True)
class FilterFunction:
    """A filter's function and what it is for."""

    kind: FilterKind
    function: Callable[..., Any]
    priority: int
    models: frozenset[str]
    tasks: bool

    def wants(self, meta: Meta, model: str) -> bool:
        """Whether the function is for a call."""
        if meta.kind == "task" and not self.tasks:
            return False
        return not self.models or model in self.models or meta.model in self.models


def spec(filters: list[FilterFunction]) -> pb.FilterSpec:
    """What the host is told: one filter that sees all that any of the functions wants."""
    everywhere = any(not f.models for f in filters)
    return pb.FilterSpec(
        inlet=any(f.kind == "inlet" for f in filters), outlet=any(f.kind == "outlet" for f in filters), stream=any(f.kind == "stream" for f in filters),
        priority=min(f.priority for f in filters), models=[] if everywhere else sorted({m for f in filters for m in f.models}),
        tasks=any(f.tasks for f in filters),
    )


async def change(filters: Iterable[FilterFunction], raw: bytes, meta: Meta) -> bytes:
    """Passes a body through inlets or outlets; b"" if none changed it."""
    body: Any = None
    changed = False
    for f in filters:
        if body is None:
            body = loads(raw)
        if not f.wants(meta, str(body.get("model") or "") if isinstance(body, dict) else ""):
            continue
        result = await call(f.function, *fit(f.function, (body, meta)))
        if result is not None:
            body, changed = result, True
    return dumps(body) if changed else b""


class StreamFilters:
    """The stream filters of one answer."""

    def __init__(self, filters: Iterable[FilterFunction], meta: Meta) -> None:
        self._functions: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []  # with what they get behind a chunk
        for f in filters:
            if f.wants(meta, meta.model):
                # a class keeps what it knows of one answer
                made: Any = f.function(*fit(f.function, (meta,))) if inspect.isclass(f.function) else f.function
                self._functions.append((made, fit(made, (None, meta))[1:]))

    async def chunk(self, raw: bytes) -> list[bytes]:
        """What goes on in place of a chunk."""
        first = decode_chunk(raw) if self._functions else None
        if first is None:
            return [raw]
        chunks, text = [first], first.text
        for f, about in self._functions:
            after: list[Chunk] = []
            for c in chunks:
                result = f(c, *about)  # not in a thread: that would cost more than most filters do
                if inspect.isawaitable(result):
                    result = await result
                after.extend([c] if result is None else [_as_chunk(r, c) for r in ([result] if isinstance(result, (Chunk, str)) else result)])
            chunks = after
        return [raw if c.text == text and same(c, raw) else dumps(merged(c)) for c in chunks]


def _as_chunk(item: object, like: Chunk) -> Chunk:
    """A chunk that a filter made, in the frame of the one that it stands for."""
    if isinstance(item, str):
        item = Chunk(text=item)
    if not isinstance(item, Chunk):
        raise TypeError(f"a stream filter gives Chunks and texts, not {type(item).__name__}")
    if item.raw is None:
        frame = {k: v for k, v in (like.raw or {}).items() if k not in ("choices", "usage")}
        item.raw = {**frame, "choices": []}
    return item
