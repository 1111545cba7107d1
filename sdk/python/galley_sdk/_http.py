"""The plugin's HTTP server: an ASGI app behind uvicorn on a socket that only the host may use."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import uvicorn

from ._caller import CALLER_HEADER, Caller, Meta, caller_from_header, current

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_CALLER = CALLER_HEADER.lower().encode()
_KNOWN = {_CALLER, b"x-forwarded-prefix", b"x-request-id", b"traceparent", b"tracestate"}


class Activity:
    """Counts the calls that run. Each is ``with activity:``."""

    def __init__(self) -> None:
        self._running = 0
        self._changed = asyncio.Event()

    def __enter__(self) -> None:
        self._running += 1
        self._changed.set()

    def __exit__(self, *error: object) -> None:
        self._running -= 1
        self._changed.set()

    async def quiet(self, seconds: float, limit: float) -> None:
        """Waits until nothing has been running for a time, but no longer than the limit."""
        loop = asyncio.get_running_loop()
        end = loop.time() + limit
        while True:
            self._changed.clear()
            left = end - loop.time()
            try:
                await asyncio.wait_for(self._changed.wait(), left if self._running else min(seconds, left))
            except asyncio.TimeoutError:
                return


class Entry:
    """Tells an app where it is mounted and who calls."""

    def __init__(self, app: Any, activity: Activity | None = None) -> None:
        self._app = app
        self._activity = activity or contextlib.nullcontext()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name: value for name, value in scope["headers"] if name in _KNOWN}
        scope = dict(scope)
        prefix = headers.get(b"x-forwarded-prefix", b"").rstrip(b"/")
        if prefix:
            # ASGI has the path with root_path in front of it, while the host sends it without
            scope["root_path"] = prefix.decode("latin-1")
            scope["path"] = scope["root_path"] + scope["path"]
            if scope.get("raw_path") is not None:
                scope["raw_path"] = prefix + scope["raw_path"]
        meta = _meta(headers)
        scope["galley"] = {"caller": meta.caller, "request_id": meta.request_id}
        token = current.set(meta)
        try:
            with self._activity:
                await self._app(scope, receive, send)
        finally:
            current.reset(token)


def _meta(headers: dict[bytes, bytes]) -> Meta:
    who = headers.get(_CALLER)
    trace = {name: headers[name.encode()].decode("latin-1") for name in ("traceparent", "tracestate") if name.encode() in headers}
    return Meta(caller=caller_from_header(who) if who else Caller(), request_id=headers.get(b"x-request-id", b"").decode("latin-1"), trace=trace)


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:  # the process handles its signals itself
        yield


class HttpServer:
    """Listens at once; answers once it is started."""

    def __init__(self, app: Any, path: str, context: ssl.SSLContext, activity: Activity) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._socket.bind(path)
        os.chmod(path, 0o600)
        self._socket.listen(1024)
        self._socket.setblocking(False)
        config = uvicorn.Config(
            Entry(app, activity), log_config=None, access_log=False, server_header=False, date_header=True, lifespan="auto", proxy_headers=True,
            forwarded_allow_ips="*", timeout_keep_alive=3600, h11_max_incomplete_event_size=1 << 20, ws_max_size=1 << 30,
            ws="wsproto", http="auto", ws_per_message_deflate=False, backlog=1024,
        )
        config.load()
        config.ssl = context
        self._config = config
        self._server = _Uvicorn(config)
        self._main: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Runs the app's lifespan and answers from then on. Raises RuntimeError if the app cannot start."""
        self._server.lifespan = self._config.lifespan_class(self._config)
        try:
            await self._server.startup(sockets=[self._socket])
        except SystemExit:  # as newer releases say it
            pass
        if not self._server.started:
            raise RuntimeError("the app's lifespan could not start")
        self._main = asyncio.create_task(self._server.main_loop())

    async def stop(self, grace: float) -> None:
        """Ends the requests that run, after a time at most, and then the app's lifespan."""
        if self._main is None:
            self._socket.close()
        else:
            self._config.timeout_graceful_shutdown = max(0.0, grace)  # type: ignore[assignment]
            self._server.should_exit = True
            await self._main
            await self._server.shutdown(sockets=[self._socket])
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
