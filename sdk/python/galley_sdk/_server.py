"""The gRPC services of a plugin."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, Protocol

import grpc

from ._caller import Meta, meta_from_pb
from ._core import Core, within
from ._errors import DETAILS_KEY, Refusal, short
from ._host import Host, dial, stubs_of
from ._http import Activity, HttpServer
from ._plugin import Plugin
from ._proto import plugin_pb2 as pb
from ._proto import plugin_pb2_grpc as rpc
from ._tls import Identity, server_context

log = logging.getLogger("galley_sdk")

# How many bytes of chunks wait for the connection before the model is made to wait too.
MAX_PENDING = 256 << 10
# How long a model that never waits goes on before what it gave is sent.
MAX_DELAY = 0.002
# For how long nothing runs in a plugin that is drained before it ends by itself.
QUIET = 1.0

Context = Any  # grpc.aio.ServicerContext; the generated signatures know only its mixture with the synchronous one


class Ending(Protocol):
    """Ends the process."""

    def end(self, grace: float, limit: float) -> None: ...


class Server:
    """What the services share."""

    def __init__(self, plugin: Plugin[Any], identity: Identity, host_certificate: bytes, folder: str, ending: Ending) -> None:
        self.plugin, self.core, self.identity, self.folder, self.ending = plugin, Core(plugin), identity, folder, ending
        self.activity = Activity()
        self.http: HttpServer | None = None
        self.channel: grpc.aio.Channel | None = None
        self.started = False
        self.draining: asyncio.Task[None] | None = None
        # A backlog of messages is no reason to refuse one: Galley limits what it sends.
        options = [
            ("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1), ("grpc.max_metadata_size", 64 << 10),
            ("grpc.so_reuseport", 0), ("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.min_ping_interval_without_data_ms", 1000),
            ("grpc.http2.max_ping_strikes", 0),
        ]
        self.grpc = grpc.aio.server(options=options)
        self.path = os.path.join(folder, f"plugin{os.getpid()}-{secrets.token_hex(4)}")
        credentials = grpc.ssl_server_credentials([(identity.key, identity.certificate)], host_certificate, require_client_auth=True)
        self.grpc.add_secure_port(f"unix:{self.path}", credentials)
        self._register()

    def _register(self) -> None:
        rpc.add_LifecycleServicer_to_server(_Lifecycle(self), self.grpc)
        if self.core.has_models:
            rpc.add_LlmServicer_to_server(_Llm(self), self.grpc)
        if self.plugin.filters:
            rpc.add_FilterServicer_to_server(_Filter(self), self.grpc)
        if self.plugin.tools:
            rpc.add_ToolsServicer_to_server(_Tools(self), self.grpc)
        self.grpc.add_generic_rpc_handlers((_health(), _controller(self.ending)))

    async def connect(self, request: pb.ConnectRequest) -> pb.ConnectResponse:
        """Opens the channels beside this one."""
        if request.host_address:
            self.channel = dial(request.host_address, request.host_certificate, self.identity.key, self.identity.certificate)
        stubs = stubs_of(self.channel or grpc.aio.insecure_channel("unix:/nowhere"))
        self.plugin.connected = Host(stubs, request.grants, request.data_dir or os.environ.get("GALLEY_PLUGIN_DATA", ""))
        address = ""
        if self.plugin.app is not None:
            context = server_context(self.identity, request.host_certificate, self.folder)
            path = os.path.join(self.folder, f"http{os.getpid()}.sock")
            self.http = HttpServer(self.plugin.app, path, context, self.activity)
            address = f"unix:{path}"
        return pb.ConnectResponse(http_address=address, certificate=self.identity.certificate)

    async def begin(self) -> None:
        """Starts the author's side, once it is configured."""
        await self.core.start()
        if self.http is not None:
            await self.http.start()
        self.started = True

    def drain(self, seconds: float) -> None:
        """Ends the process when nothing has been running for a while, after a time at the latest.

        Calls that are on their way here are answered still, and those that belong to a chat that runs.
        """

        async def wait() -> None:
            await self.activity.quiet(QUIET, max(0.0, seconds - 0.5))
            self.ending.end(grace=0.0, limit=min(seconds, 1.8))

        if self.draining is None:
            self.draining = asyncio.create_task(wait())

    async def stop(self, grace: float) -> None:
        """Lets calls end for a time, then ends them."""
        http = self.http.stop(grace) if self.http is not None else asyncio.sleep(0)
        results = await asyncio.gather(self.grpc.stop(grace), http, return_exceptions=True)
        for problem in results:
            if isinstance(problem, Exception):
                log.error("stopping: %s", short(problem))
        if self.started:
            await self.core.stop()
        if self.channel is not None:
            await self.channel.close(None)


def _trace(context: Context) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if key in ("traceparent", "tracestate", "galley-depth", "x-request-id")}


def _meta(request: Any, context: Context) -> Meta:
    meta = meta_from_pb(request.meta, _trace(context))
    within(meta)
    return meta


async def _fail(context: Context, what: str, error: Exception) -> NoReturn:
    """Ends a call with what an exception means."""
    if isinstance(error, Refusal):
        await context.abort(error.code, error.detail, trailing_metadata=((DETAILS_KEY, error.details()),))
    log.error("%s failed", what, exc_info=error)
    await context.abort(grpc.StatusCode.INTERNAL, short(error))
    raise AssertionError("abort raises")


async def _answer(context: Context, what: str, work: Awaitable[Any], activity: Activity | None = None) -> Any:
    try:
        with activity or contextlib.nullcontext():
            return await work
    except Exception as e:
        problem = e
    await _fail(context, what, problem)


class _Lifecycle(rpc.LifecycleServicer):
    def __init__(self, server: Server) -> None:
        self._server = server

    async def Describe(self, request: pb.DescribeRequest, context: Context) -> pb.DescribeResponse:
        return self._server.core.describe()

    async def Connect(self, request: pb.ConnectRequest, context: Context) -> pb.ConnectResponse:
        if self._server.plugin.connected is not None:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "connected already")
        answer: pb.ConnectResponse = await _answer(context, "Connect", self._server.connect(request))
        return answer

    async def Configure(self, request: pb.ConfigureRequest, context: Context) -> pb.ConfigureResponse:
        answer: pb.ConfigureResponse = await _answer(context, "Configure", self._server.core.configure(request))
        if not answer.violations and not self._server.started:
            problem: Exception | None = None
            try:
                await self._server.begin()
            except Exception as e:
                log.exception("the plugin cannot start")
                problem = e
            if problem is not None:
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, short(problem))
        return answer

    async def Check(self, request: pb.CheckRequest, context: Context) -> pb.CheckResponse:
        return await self._server.core.check()

    async def Metrics(self, request: pb.MetricsRequest, context: Context) -> pb.MetricsResponse:
        if self._server.plugin.metrics is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no metrics")
        answer: pb.MetricsResponse = await _answer(context, "Metrics", self._server.core.metrics())
        return answer

    async def Drain(self, request: pb.DrainRequest, context: Context) -> pb.DrainResponse:
        left = max(0.0, request.deadline_ms / 1000 - time.time()) if request.deadline_ms else 600.0
        self._server.drain(left)
        return pb.DrainResponse()


class _Llm(rpc.LlmServicer):
    def __init__(self, server: Server) -> None:
        self._core, self._activity = server.core, server.activity

    async def Models(self, request: pb.ModelsRequest, context: Context) -> pb.ModelsResponse:
        _meta(request, context)
        answer: pb.ModelsResponse = await _answer(context, "Models", self._core.models(), self._activity)
        return answer

    async def Chat(self, request: pb.ChatRequest, context: Context) -> None:  # type: ignore[override]
        chunks = self._core.chat(request, _meta(request, context))
        await _answer(context, f"model {request.model}", send_batches(chunks, lambda batch: context.write(pb.ChatResponse(chunks=batch))), self._activity)

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        _meta(request, context)
        if not self._core.plugin.embedders:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no embeddings")
        answer: pb.EmbedResponse = await _answer(context, f"embedder {request.model}", self._core.embed(request), self._activity)
        return answer


async def send_batches(chunks: AsyncIterator[bytes], write: Callable[[list[bytes]], Awaitable[None]]) -> None:
    """Writes chunks as they come; those that become ready while a message is under way go together in the next."""
    pending: list[bytes] = []
    size = 0
    closed = False
    ready, room = asyncio.Event(), asyncio.Event()
    clock = time.monotonic
    sent = clock()

    async def send() -> None:
        nonlocal size, sent
        while True:
            await ready.wait()
            ready.clear()
            batch = pending[:]
            pending.clear()
            size = 0
            room.set()
            sent = clock()
            if batch:
                await write(batch)
            if closed and not pending:
                return

    sender = asyncio.create_task(send())
    try:
        try:
            async with contextlib.aclosing(chunks) as source:  # type: ignore[type-var]
                async for chunk in source:
                    pending.append(chunk)
                    size += len(chunk)
                    ready.set()
                    if sender.done():
                        break
                    if size >= MAX_PENDING:
                        room.clear()
                        waiting = asyncio.ensure_future(room.wait())
                        await asyncio.wait((waiting, sender), return_when=asyncio.FIRST_COMPLETED)
                        waiting.cancel()
                    elif clock() - sent > MAX_DELAY:
                        await asyncio.sleep(0)
        except Exception:
            closed = True
            ready.set()
            with contextlib.suppress(Exception):  # what went wrong first is what counts
                await sender
            raise
        closed = True
        ready.set()
        await sender
    finally:
        sender.cancel()


class _Filter(rpc.FilterServicer):
    def __init__(self, server: Server) -> None:
        self._core, self._activity = server.core, server.activity

    async def Inlet(self, request: pb.InletRequest, context: Context) -> pb.InletResponse:
        answer: pb.InletResponse = await _answer(context, "inlet", self._core.inlet(request, _meta(request, context)), self._activity)
        return answer

    async def Outlet(self, request: pb.OutletRequest, context: Context) -> pb.OutletResponse:
        answer: pb.OutletResponse = await _answer(context, "outlet", self._core.outlet(request, _meta(request, context)), self._activity)
        return answer

    async def Stream(self, request_iterator: Any, context: Context) -> None:  # type: ignore[override]
        async def work() -> None:
            filters = None
            async for request in request_iterator:
                if filters is None:
                    filters = self._core.stream(_meta(request, context))
                out: list[bytes] = []
                for raw in request.chunks:
                    out.extend(await filters.chunk(raw))
                await context.write(pb.StreamResponse(chunks=out))

        await _answer(context, "stream filter", work(), self._activity)


class _Tools(rpc.ToolsServicer):
    def __init__(self, server: Server) -> None:
        self._core, self._activity = server.core, server.activity

    async def Call(self, request: pb.CallRequest, context: Context) -> None:  # type: ignore[override]
        _meta(request, context)

        async def work() -> None:
            async with contextlib.aclosing(self._core.call(request)) as items:  # type: ignore[type-var]
                async for item in items:
                    await context.write(item)

        await _answer(context, f"tool {request.name}", work(), self._activity)


# The two services of go-plugin's have one message each that matters; they are written here as they travel.

_SERVING = b"\x08\x01"


def _health() -> "grpc.GenericRpcHandler[bytes, bytes]":
    """grpc.health.v1.Health, for which a plugin that answers is serving."""

    async def check(request: bytes, context: Context) -> bytes:
        if request not in (b"", b"\x0a\x06plugin"):
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return _SERVING

    async def watch(request: bytes, context: Context) -> None:
        await context.write(_SERVING)
        await asyncio.Event().wait()  # until the caller goes

    return grpc.method_handlers_generic_handler(
        "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(check), "Watch": grpc.unary_stream_rpc_method_handler(watch)}
    )


def _controller(ending: Ending) -> "grpc.GenericRpcHandler[bytes, bytes]":
    """plugin.GRPCController, by which the host ends the process; it waits two seconds."""

    async def shutdown(request: bytes, context: Context) -> bytes:
        ending.end(grace=0.5, limit=1.8)
        return b""

    return grpc.method_handlers_generic_handler("plugin.GRPCController", {"Shutdown": grpc.unary_unary_rpc_method_handler(shutdown)})
