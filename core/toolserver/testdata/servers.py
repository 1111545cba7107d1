"""Real tool servers for the tests: a FastAPI application and a server of the official MCP SDK.

Usage: servers.py openapi|mcp PORT
"""

import asyncio
import base64
import enum
import json
import sys
from typing import Annotated, Literal, Optional

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def openapi():
    from fastapi import Body, Cookie, FastAPI, Header, HTTPException, Path, Query, Request, Response
    from fastapi.responses import HTMLResponse, PlainTextResponse
    from pydantic import BaseModel, Field

    app = FastAPI(title="Workshop", description="Tools of a workshop.", version="1")

    class Colour(str, enum.Enum):
        red = "red"
        blue = "blue"

    class Part(BaseModel):
        name: str = Field(description="What it is called.")
        size: Optional[float] = None
        children: list["Part"] = []

    class Order(BaseModel):
        part: Part
        count: int = Field(1, ge=1, description="How many.")
        note: Optional[str] = None
        colour: Colour = Colour.red
        tags: list[str] = []

    @app.get("/add", operation_id="add", summary="Adds two numbers")
    def add(a: int, b: Annotated[int, Query(description="The second number.")] = 0):
        return {"sum": a + b}

    @app.get("/paint/{thing}", operation_id="paint")
    def paint(
        thing: Annotated[str, Path(description="What to paint.")],
        colour: Colour,
        coats: Optional[int] = None,
        brushes: Annotated[list[str] | None, Query()] = None,
        finish: Literal["matt", "gloss"] = "matt",
    ):
        """Paints a thing."""
        return {"thing": thing, "colour": colour, "coats": coats, "brushes": brushes, "finish": finish}

    @app.post("/orders/{customer}", operation_id="order")
    def order(customer: str, order: Order, urgent: bool = False):
        """Orders a part, which may have parts of its own."""
        return {"customer": customer, "order": order.model_dump(mode="json"), "urgent": urgent}

    @app.delete("/orders/{number}", operation_id="cancel")
    def cancel(number: int):
        return {"cancelled": number}

    @app.post("/sum", operation_id="sum_all")
    def sum_all(numbers: Annotated[list[float], Body()]):
        """Adds all numbers up."""
        return {"sum": sum(numbers)}

    @app.get("/whoami", operation_id="whoami")
    def whoami(request: Request, x_trace: Annotated[str | None, Header()] = None, seen: Annotated[str | None, Cookie()] = None):
        """Tells what the server was sent."""
        return {"headers": dict(request.headers), "trace": x_trace, "seen": seen}

    @app.get("/text", operation_id="text", response_class=PlainTextResponse)
    def text():
        return "plain words"

    @app.get("/picture", operation_id="picture")
    def picture():
        return Response(PNG, media_type="image/png")

    @app.get("/archive", operation_id="archive")
    def archive():
        return Response(b"\x00\x01", media_type="application/octet-stream")

    @app.get("/page", operation_id="page")
    def page():
        return HTMLResponse("<h1>Shown</h1>", headers={"Content-Disposition": "inline"})

    @app.get("/fail", operation_id="fail")
    def fail():
        raise HTTPException(418, "I cannot do that")

    @app.get("/nothing", operation_id="nothing", status_code=204)
    def nothing():
        return Response(status_code=204)

    return app


def mcp():
    from mcp.server import MCPServer
    from mcp_types import AudioContent, BlobResourceContents, CallToolResult, EmbeddedResource, ImageContent, TextContent, TextResourceContents

    server = MCPServer("workshop", instructions="Measure twice, cut once.")

    @server.tool()
    def add(a: int, b: int = 0) -> int:
        """Adds two numbers."""
        return a + b

    @server.tool()
    def measure(thing: str, unit: Literal["mm", "inch"] = "mm") -> dict:
        """Measures a thing."""
        return {"thing": thing, "size": 42, "unit": unit}

    @server.tool()
    def names() -> list[str]:
        """Names of things."""
        return ["saw", "plane"]

    @server.tool()
    def fail() -> str:
        """Fails."""
        raise ValueError("the saw is blunt")

    @server.tool()
    def picture() -> CallToolResult:
        """A picture."""
        return CallToolResult(content=[
            TextContent(type="text", text="here it is"),
            ImageContent(type="image", data=base64.b64encode(PNG).decode(), mime_type="image/png"),
        ])

    @server.tool()
    def sound() -> CallToolResult:
        """A sound."""
        return CallToolResult(content=[AudioContent(type="audio", data=base64.b64encode(b"RIFF").decode(), mime_type="audio/wav")])

    @server.tool()
    def resources() -> CallToolResult:
        """Embedded resources of all kinds."""
        return CallToolResult(content=[
            EmbeddedResource(type="resource", resource=TextResourceContents(uri="file:///a.json", mime_type="application/json", text='{"a": 1}')),
            EmbeddedResource(type="resource", resource=BlobResourceContents(uri="file:///b.bin", blob=base64.b64encode(b"\x00").decode())),
        ])

    @server.tool()
    async def slow(seconds: float) -> str:
        """Takes its time."""
        await asyncio.sleep(seconds)
        return "done"

    return server.streamable_http_app()


if __name__ == "__main__":
    import uvicorn

    app = {"openapi": openapi, "mcp": mcp}[sys.argv[1]]()
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
