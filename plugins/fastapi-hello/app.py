"""A FastAPI app that knows nothing of Galley: `uvicorn app:app` runs it as well."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, UploadFile, WebSocket
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

app = FastAPI(title="Hello")


class Order(BaseModel):
    item: str = Field(min_length=1)
    count: int = Field(1, ge=1, le=100)


class Receipt(BaseModel):
    id: int
    text: str


@app.get("/")
def index() -> dict[str, str]:
    return {"message": "Hello from FastAPI"}


@app.get("/hello/{name}")
def hello(name: str, times: int = 1) -> dict[str, str]:
    return {"message": " ".join([f"Hello, {name}!"] * times)}


@app.post("/orders/{id}")
def order(id: int, order: Order) -> Receipt:
    return Receipt(id=id, text=f"{order.count} × {order.item}")


@app.get("/countdown")
async def countdown(start: int = 3, delay: float = 0.0) -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        for n in range(start, 0, -1):
            yield f"data: {n}\n\n"
            await asyncio.sleep(delay)
        yield "event: end\ndata: liftoff\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


@app.websocket("/echo")
async def echo(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


@app.post("/upload")
async def upload(file: UploadFile) -> dict[str, object]:
    size = 0
    while part := await file.read(1 << 16):
        size += len(part)
    return {"name": file.filename, "type": file.content_type, "size": size}


@app.get("/whoami")
def whoami(request: Request) -> dict[str, object]:
    """Who calls, as Galley says in the header Galley-Caller: null without Galley, and for strangers."""
    return {"caller": request.headers.get("galley-caller"), "url": str(request.url_for("whoami"))}
