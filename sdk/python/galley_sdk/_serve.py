"""The process of a plugin, from the handshake to its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import stat
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from . import _log, _process
from ._plugin import Plugin
from ._server import Server
from ._tls import new_identity

log = logging.getLogger("galley_sdk")

# How many blocking functions of the author's run at once; most of them wait.
THREADS = 64


def serve(plugin: Plugin[Any]) -> None:
    """Runs a plugin until Galley ends it."""
    if _process.handshake_output is None:
        sys.exit(f"{plugin.id} is a plugin of Galley. Put it into Galley's plugins folder, or try it with: galley plugin run DIR")
    versions = os.environ.get("PLUGIN_PROTOCOL_VERSIONS", "1").split(",")
    certificate = os.environ.get("PLUGIN_CLIENT_CERT", "")
    if "1" not in versions:
        sys.exit(f"this plugin speaks version 1 of Galley's plugin protocol, and Galley speaks {', '.join(versions)}")
    if not certificate:
        sys.exit("Galley gave no certificate (PLUGIN_CLIENT_CERT)")
    _log.install()
    loop = _new_loop()
    asyncio.set_event_loop(loop)
    loop.set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="call"))
    process = Process(plugin, certificate.encode("ascii"), loop)
    failed = False
    try:
        loop.run_until_complete(process.run())
    except Exception:
        log.exception("the plugin ended")
        failed = True
    # threads of the author's may not hold up the end
    _in_thread(_exit_after, 1.0, int(failed))
    end_children()
    if failed:
        sys.exit(1)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class Process:
    """Serves, and knows when to stop."""

    def __init__(self, plugin: Plugin[Any], host_certificate: bytes, loop: asyncio.AbstractEventLoop) -> None:
        self._plugin, self._certificate, self._loop = plugin, host_certificate, loop
        self._ended = asyncio.Event()
        self._grace = 0.0
        self._limit = float("inf")

    def end(self, grace: float, limit: float) -> None:
        """Ends the process: calls have ``grace`` seconds, everything has ``limit``. Later calls may only shorten this."""
        if not self._ended.is_set():
            self._grace = grace
            self._ended.set()
        deadline = time.monotonic() + limit
        if deadline < self._limit:
            self._limit = deadline
            self._loop.call_later(limit, self._cut_short, deadline)

    def _cut_short(self, deadline: float) -> None:
        if deadline <= self._limit:
            log.warning("calls that still run are cut short")
            end_children()
            os._exit(0)

    async def run(self) -> None:
        """Serves until the end."""
        folder = os.environ.get("PLUGIN_UNIX_SOCKET_DIR") or tempfile.mkdtemp(prefix="galley-plugin")
        identity = new_identity()
        server = Server(self._plugin, identity, self._certificate, folder, self)
        await server.grpc.start()
        self._watch()
        assert _process.handshake_output is not None
        with os.fdopen(_process.handshake_output, "w") as out:
            out.write(f"1|1|unix|{server.path}|grpc|{identity.handshake()}\n")
        await self._ended.wait()
        await server.stop(self._grace)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(server.path)

    def _watch(self) -> None:
        # Galley kills what has not ended two seconds later
        self._loop.add_signal_handler(signal.SIGTERM, lambda: self.end(grace=1.0, limit=1.8))
        # Ctrl-C in a terminal reaches Galley too, which ends its plugins in order
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with contextlib.suppress(OSError):
            kind = os.fstat(0).st_mode
            if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
                _in_thread(self._until_host_is_gone)

    def _until_host_is_gone(self) -> None:
        """Ends the process when the standard input ends, of which the host holds the other side."""
        while True:
            try:
                if not os.read(0, 64 << 10):
                    break
            except OSError:
                break
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(lambda: self.end(grace=0.0, limit=1.0))
        time.sleep(1.2)
        if _leads_group():
            os.killpg(0, signal.SIGKILL)
        os._exit(0)


def _in_thread(f: Any, *args: Any) -> None:
    threading.Thread(target=f, args=args, daemon=True, name="galley").start()


def _exit_after(seconds: float, code: int) -> None:
    time.sleep(seconds)
    os._exit(code)


def _leads_group() -> bool:
    return os.getpgrp() == os.getpid()


def end_children() -> None:
    """Ends what the author's code started, if the process leads a group of its own."""
    if not _leads_group():
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    if not os.path.isdir("/proc/self"):
        return
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError):
                if os.getpgid(int(name)) == os.getpid():
                    os.kill(int(name), signal.SIGKILL)
