import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from galley_sdk.testing import Harness

from plugin import plugin

Test = Callable[[Harness], Awaitable[None]]


def run(test: Test) -> None:
    async def main() -> None:
        async with Harness(plugin) as galley:
            await test(galley)

    asyncio.run(main())


def test_manifest() -> None:
    manifest = json.loads(Path(__file__).with_name("plugin.json").read_text())
    assert (manifest["id"], manifest["version"]) == (plugin.id, plugin.version)
    assert {("GET", "/hello/{name}"), ("POST", "/orders/{id}"), ("GET", "/echo"), ("GET", "/{$}")} <= {(r.method, r.path) for r in plugin.routes}


@pytest.mark.parametrize(
    ("method", "path", "json", "status", "expected"),
    [
        ("GET", "/", None, 200, {"message": "Hello from FastAPI"}),
        ("GET", "/hello/you?times=2", None, 200, {"message": "Hello, you! Hello, you!"}),
        ("POST", "/orders/7", {"item": "tea", "count": 2}, 200, {"id": 7, "text": "2 × tea"}),
        ("POST", "/orders/7", {"item": "tea", "count": 0}, 422, None),
        ("GET", "/none", None, 404, {"detail": "Not Found"}),
    ],
)
def test_json(method: str, path: str, json: object, status: int, expected: object) -> None:
    async def test(galley: Harness) -> None:
        r = await galley.request(method, path, json=json)
        assert r.status == status and (expected is None or r.json() == expected)

    run(test)


def test_events() -> None:
    async def test(galley: Harness) -> None:
        async with galley.open("GET", "/countdown?start=2") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert [part async for part in answer.parts()] == [b"data: 2\n\n", b"data: 1\n\n", b"event: end\ndata: liftoff\n\n"]

    run(test)


def test_websocket() -> None:
    async def test(galley: Harness) -> None:
        async with galley.websocket("/echo") as socket:
            for text in ("one", "two"):
                socket.send(text)
                assert await socket.receive() == text

    run(test)


def test_upload() -> None:
    async def test(galley: Harness) -> None:
        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\nContent-Type: image/png\r\n\r\n'
        content = [head, b"1" * 200_000, b"\r\n--x--\r\n"]
        r = await galley.request("POST", "/upload", content=content, headers={"Content-Type": "multipart/form-data; boundary=x"})
        assert r.json() == {"name": "a.bin", "type": "image/png", "size": 200_000}

    run(test)


def test_whoami() -> None:
    async def test(galley: Harness) -> None:
        r = (await galley.request("GET", "/whoami")).json()
        assert json.loads(r["caller"])["name"] == "Test User" and r["url"].endswith(f"{galley.prefix}/whoami")

    run(test)
