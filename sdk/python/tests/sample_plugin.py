"""A plugin with everything, which test_process.py runs as Galley would."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from galley_sdk import Caller, ChatRequest, Chunk, Plugin, Refusal, ToolCall, caller

print("printed while loading")

from fastapi import Depends, FastAPI, Request, WebSocket  # noqa: E402
from fastapi.responses import StreamingResponse  # noqa: E402


@dataclass
class Settings:
    greeting: str = field(default="Hello", metadata={"title": "Greeting"})
    limit: int = field(default=3, metadata={"min": 1, "max": 10})


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    if os.environ.get("FAIL") == "lifespan":
        raise ValueError("no lifespan")
    yield


app = FastAPI(lifespan=lifespan)
plugin = Plugin(id="sample", version="1.2.3", app=app, config=Settings, wants=["kv"], metrics=lambda: "sample_total 7\n")


def mark(name: str) -> None:
    Path(os.environ["GALLEY_PLUGIN_DATA"], name).write_text(str(os.getpid()))


@app.get("/whoami")
def whoami(request: Request, who: Caller = Depends(caller)) -> dict[str, str]:
    return {"id": who.id, "name": who.name, "same": caller(request).id, "root": request.scope["root_path"], "url": str(request.url_for("whoami"))}


@app.post("/upload")
async def upload(request: Request) -> dict[str, int]:
    size = first = 0
    async for part in request.stream():
        size += len(part)
        if not first:
            first = len(part)
            mark("upload-began")
    return {"size": size, "first": first}


@app.get("/sse")
async def sse() -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        try:
            yield "data: first\n\n"
            await asyncio.sleep(3600)
        finally:
            mark("sse-ended")

    return StreamingResponse(events(), media_type="text/event-stream")


@app.get("/big")
def big() -> StreamingResponse:
    return StreamingResponse(b"x" * 65536 for _ in range(64))


@app.websocket("/ws")
async def ws(socket: WebSocket) -> None:
    await socket.accept()
    name = caller(socket).name
    async for text in socket.iter_text():
        await socket.send_text(f"{name}: {text}")


@app.get("/child")
def child() -> dict[str, int]:
    return {"pid": subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready'); time.sleep(600)"]).pid}


@app.get("/slow")
async def slow() -> str:
    mark("slow-began")
    await asyncio.sleep(0.5)
    return "done"


@plugin.model("echo", name="Echo")
async def echo(request: ChatRequest) -> AsyncIterator[str | Chunk]:
    yield plugin.config.greeting
    yield " " + request.last()
    yield Chunk(usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3})


@plugin.model("many")
async def many(request: ChatRequest) -> AsyncIterator[str]:
    for i in range(request.body["n"]):
        yield f"{i} "


@plugin.model("blocking")
async def blocking(request: ChatRequest) -> AsyncIterator[str]:
    yield "early"
    await asyncio.to_thread(lambda: None)
    mark("blocking-began")
    try:
        await asyncio.sleep(3600)
    finally:
        mark("model-ended")


@plugin.model("bad")
async def bad(request: ChatRequest) -> AsyncIterator[str]:
    yield "some"
    raise RuntimeError("broken in the middle")


@plugin.model("refusing")
async def refusing(request: ChatRequest) -> AsyncIterator[str]:
    raise Refusal(429, "slow down", headers={"Retry-After": "3"})
    yield ""


@plugin.tool
async def add(a: int, b: int = 2, *, call: ToolCall) -> int:
    """Adds."""
    call.status("adding")
    return a + b


@plugin.tool
async def count(key: str) -> dict[str, object]:
    counter = await plugin.host.kv.add(key)
    await plugin.host.kv.put("copy", str(counter.value))
    return {"value": counter.value, "keys": [e.key async for e in plugin.host.kv.list()]}


@plugin.tool
async def lookup(id: str) -> str:
    user = await plugin.host.users.get(id)
    return user.name if user else "nobody"


@plugin.tool
async def store(text: str) -> str:
    file = await plugin.host.files.write("u1", "a.txt", text.encode() * 300_000, "text/plain")
    return f"{file.id} {sum([len(p) async for p in plugin.host.files.read(file.id)])}"


@plugin.tool
async def ask(question: str) -> str:
    return await plugin.host.models.ask("big", question)


@plugin.tool
async def wait(call: ToolCall) -> None:
    call.status("waiting")
    try:
        await asyncio.sleep(3600)
    finally:
        mark("tool-ended")


@plugin.tool
def block_for_ever() -> None:
    mark("blocked")
    time.sleep(3600)


@plugin.filter("inlet")
def inlet(body: dict[str, object]) -> dict[str, object] | None:
    if body.get("model") == "forbidden":
        raise Refusal(403, "not this one")
    return {**body, "temperature": 0} if "temperature" not in body else None


@plugin.filter("stream")
def shout(chunk: Chunk) -> Chunk | None:
    if not chunk.text:
        return None
    chunk.text = chunk.text.upper()
    return chunk


@plugin.on_stop
async def stopped() -> None:
    mark("stopped")


log = logging.getLogger("sample")
log.warning("before serve")


@plugin.on_start
def started() -> None:
    if os.environ.get("FAIL") == "start":
        raise ValueError("no start")
    log.warning("started with %s", plugin.config.greeting, extra={"limit": plugin.config.limit})
    print("printed while running")


plugin.serve()
