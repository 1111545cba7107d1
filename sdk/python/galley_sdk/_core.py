"""A plugin behind the protocol's messages, whatever they travel by."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable
from typing import Any

from ._call import call, iterate
from ._caller import Meta, current
from ._chat import ChatRequest, ChunkEncoder, Model
from ._errors import Degraded, Refusal, ToolError, short
from ._filters import StreamFilters, change, spec
from ._host import model_to_pb
from ._json import dumps, loads
from ._plugin import Plugin
from ._proto import plugin_pb2 as pb
from ._schema import Invalid
from ._tools import Tool, ToolCall

VERSION = "1.0.0"

log = logging.getLogger("galley_sdk")


class Core:
    """Answers the calls of the protocol. Refusals and the author's exceptions come out as they are."""

    def __init__(self, plugin: Plugin[Any]) -> None:
        self.plugin = plugin
        self._configuring = asyncio.Lock()

    # ---- Lifecycle

    def describe(self) -> pb.DescribeResponse:
        p = self.plugin
        schema = p.configuration.schema()
        return pb.DescribeResponse(
            id=p.id, name=p.name, version=p.version, description=p.description, routes=[r.to_pb() for r in p.routes],
            tools=[pb.ToolSpec(name=t.name, description=t.description, parameters=dumps(t.parameters)) for t in p.tools.values()],
            filter=spec(p.filters) if p.filters else None, config_schema=dumps(schema) if schema else b"", wants=p.wants, sdk=f"python/{VERSION}",
        )

    async def configure(self, request: pb.ConfigureRequest) -> pb.ConfigureResponse:
        async with self._configuring:
            configuration = self.plugin.configuration
            try:
                new = configuration.read(request.config)
            except Invalid as e:
                return pb.ConfigureResponse(violations=[pb.Violation(path=path, message=message) for path, message in e.problems])
            before = configuration.put(new)
            try:
                for hook in self.plugin.hooks["config"]:
                    await call(hook, new)
            except BaseException:
                configuration.put(before)
                raise
            return pb.ConfigureResponse(config=configuration.effective(new, request.config))

    async def start(self) -> None:
        for hook in self.plugin.hooks["start"]:
            await call(hook)

    async def stop(self) -> None:
        for hook in self.plugin.hooks["stop"]:
            try:
                await call(hook)
            except Exception:
                log.exception("on_stop failed")

    async def check(self) -> pb.CheckResponse:
        degraded = ""
        for check in self.plugin.checks:
            try:
                await call(check)
            except Degraded as e:
                degraded = degraded or str(e)
            except Exception as e:
                log.exception("check failed")
                return pb.CheckResponse(status=pb.CheckResponse.STATUS_FAILED, message=short(e))
        if degraded:
            return pb.CheckResponse(status=pb.CheckResponse.STATUS_DEGRADED, message=degraded)
        return pb.CheckResponse(status=pb.CheckResponse.STATUS_OK)

    async def metrics(self) -> pb.MetricsResponse:
        source = self.plugin.metrics
        if hasattr(source, "collect"):
            from prometheus_client.exposition import generate_latest

            source = lambda registry=source: generate_latest(registry)  # noqa: E731
        text = await call(source)
        return pb.MetricsResponse(text=text.encode("utf-8") if isinstance(text, str) else text)

    # ---- Llm

    @property
    def has_models(self) -> bool:
        return bool(self.plugin.models) or self.plugin.backend_handlers is not None

    async def models(self) -> pb.ModelsResponse:
        found = [m for m, _ in self.plugin.models.values()]
        if self.plugin.backend_handlers is not None:
            listed: Iterable[Model | str] = await call(self.plugin.backend_handlers[0])
            found.extend(m if isinstance(m, Model) else Model(m) for m in listed if (m.id if isinstance(m, Model) else m) not in self.plugin.models)
        return pb.ModelsResponse(models=[model_to_pb(m) for m in found])

    async def chat(self, request: pb.ChatRequest, meta: Meta) -> AsyncIterator[bytes]:
        handler = self.plugin.models.get(request.model, (None, None))[1]
        if handler is None and self.plugin.backend_handlers is not None and request.model not in self.plugin.models:
            handler = self.plugin.backend_handlers[1]
        if handler is None:
            known = request.model in self.plugin.models
            raise Refusal(400 if known else 404, f"Model {request.model!r} only makes embeddings" if known else f"Model {request.model!r} not found")
        encoder = ChunkEncoder(request.model)
        question = ChatRequest(request.model, loads(request.body), request.stream, meta)
        async with contextlib.aclosing(iterate(handler, question)) as items:  # type: ignore[type-var]
            async for item in items:
                for chunk in encoder.encode(item):
                    yield chunk
        for chunk in encoder.end():
            yield chunk

    async def embed(self, request: pb.EmbedRequest) -> pb.EmbedResponse:
        embedder = self.plugin.embedders.get(request.model)
        if embedder is None:
            raise Refusal(404, f"Model {request.model!r} makes no embeddings")
        vectors = await call(embedder, list(request.input))
        return pb.EmbedResponse(embeddings=[pb.Embedding(values=[float(x) for x in v]) for v in vectors])

    # ---- Filter

    def filters(self, kind: str) -> list[Any]:
        return [f for f in self.plugin.filters if f.kind == kind]

    async def inlet(self, request: pb.InletRequest, meta: Meta) -> pb.InletResponse:
        return pb.InletResponse(body=await change(self.filters("inlet"), request.body, meta))

    async def outlet(self, request: pb.OutletRequest, meta: Meta) -> pb.OutletResponse:
        return pb.OutletResponse(body=await change(self.filters("outlet"), request.body, meta))

    def stream(self, meta: Meta) -> StreamFilters:
        return StreamFilters(self.filters("stream"), meta)

    # ---- Tools

    async def call(self, request: pb.CallRequest) -> AsyncIterator[pb.CallResponse]:
        tool = self.plugin.tools.get(request.name)
        if tool is None:
            raise Refusal(404, f"No tool {request.name!r}")
        loop = asyncio.get_running_loop()
        items: asyncio.Queue[pb.CallResponse | None] = asyncio.Queue()

        def emit(kind: str, data: bytes) -> None:
            item = pb.CallResponse(event=pb.Event(type=kind, data=data))
            loop.call_soon_threadsafe(items.put_nowait, item)

        async def work() -> pb.CallResult:
            try:
                return await _result(tool, request.arguments, ToolCall(tool.name, emit))
            finally:  # behind the events, which take the same way
                loop.call_soon(items.put_nowait, None)

        running = asyncio.create_task(work())
        try:
            while (item := await items.get()) is not None:
                yield item
            yield pb.CallResponse(result=await running)
        finally:
            running.cancel()


async def _result(tool: Tool, arguments: bytes, tool_call: ToolCall) -> pb.CallResult:
    try:
        value = await tool.run(loads(arguments or b"{}"), tool_call)
        return pb.CallResult(text=value) if isinstance(value, str) else pb.CallResult(json=dumps(value))
    except Refusal:
        raise
    except ToolError as e:
        return pb.CallResult(text=str(e), error=True)
    except Invalid as e:
        return pb.CallResult(text=f"Invalid arguments: {e}", error=True)
    except Exception as e:
        log.exception("tool %s failed", tool.name)
        return pb.CallResult(text=short(e), error=True)


def within(meta: Meta) -> None:
    """Has the task that runs belong to a call."""
    current.set(meta)
