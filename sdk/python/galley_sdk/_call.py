"""Calls the author's functions, whatever their kind."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

_END = object()


async def call(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls a function; one that is not async runs in a thread, so that it may block."""
    if is_async(f):
        return await f(*args, **kwargs)
    out = await asyncio.to_thread(f, *args, **kwargs)
    return await out if inspect.isawaitable(out) else out


def is_async(f: Callable[..., Any]) -> bool:
    """Whether calling a function gives an awaitable or an async generator, and does not block."""
    f = _innermost(f)
    return any(inspect.iscoroutinefunction(c) or inspect.isasyncgenfunction(c) for c in (f, getattr(f, "__call__", None)))


def _innermost(f: Any) -> Any:
    while isinstance(f, functools.partial):
        f = f.func
    return f


def fit(f: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, ...]:
    """As many of the arguments as a function takes."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return args
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return args
    return args[: sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)]


async def iterate(f: Callable[..., Any], *args: Any) -> AsyncIterator[Any]:
    """Goes through what a function gives: an async generator, a generator, or one value. Closing ends it."""
    if inspect.isgeneratorfunction(_innermost(f)):
        source = _in_thread(f(*args))
    elif is_async(f):
        made = f(*args)
        if inspect.isawaitable(made):
            made = await made
        source = made if hasattr(made, "__anext__") else _several(made)
    else:
        source = _several(await call(f, *args))
    try:
        async for item in source:
            yield item
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()


async def _several(value: Any) -> AsyncIterator[Any]:
    if hasattr(value, "__aiter__"):
        async for item in value:
            yield item
    elif inspect.isgenerator(value):
        async for item in _in_thread(value):
            yield item
    elif value is not None:
        yield value


async def _in_thread(source: Iterator[Any]) -> AsyncIterator[Any]:
    context = contextvars.copy_context()
    running: asyncio.Future[Any] | None = None
    try:
        while True:
            running = asyncio.ensure_future(asyncio.to_thread(lambda: context.run(lambda: next(source, _END))))
            item = await asyncio.shield(running)
            if item is _END:
                return
            yield item
    finally:
        if running is not None and not running.done():  # a generator that runs cannot be closed
            running.add_done_callback(lambda done: _abandon(done, source))
        else:
            _close(source)


def _abandon(done: asyncio.Future[Any], source: Any) -> None:
    if not done.cancelled():
        done.exception()  # nobody waits for it any more
    _close(source)


def _close(source: Any) -> None:
    close = getattr(source, "close", None)
    if close is not None:
        close()
