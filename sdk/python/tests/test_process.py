"""A plugin as a process of its own, from the handshake to the end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from fakehost import HostProcess, alive, host, until
from google.rpc import status_pb2
from websockets.asyncio.client import unix_connect

from galley_sdk._proto import plugin_pb2 as pb
from galley_sdk._tls import new_identity

pytestmark = pytest.mark.anyio

SCRIPT = Path(__file__).with_name("sample_plugin.py")
ANN = '{"id":"u1","name":"Ann \\u00c9","email":"ann@example.com","role":"user","groups":[{"id":"g1","name":"G"}]}'
CALLER = f"\nGalley-Caller: {ANN}\nX-Forwarded-Prefix: /api/v1/plugins/sample"


@pytest.fixture
async def running() -> AsyncIterator[HostProcess]:
    async with host(SCRIPT) as h:
        await h.connect({"greeting": "Hi"})
        yield h


def chat(model: str, text: str = "you", **more: object) -> pb.ChatRequest:
    body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
    return pb.ChatRequest(model=model, body=json.dumps(body).encode(), stream=True, meta=pb.Meta(caller=pb.Caller(id="u1", name="Ann")))


def refusal(error: grpc.aio.AioRpcError) -> pb.Refusal:
    metadata = {k: v for k, v in error.trailing_metadata() or ()}
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    assert status.code == error.code().value[0]
    out = pb.Refusal()
    assert status.details[0].Unpack(out)
    return out


async def test_without_galley() -> None:
    ended = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, env={"PATH": os.environ["PATH"], "GALLEY_PLUGIN_DATA": "/nowhere"})
    assert ended.returncode == 1
    assert "galley plugin run" in ended.stderr


async def test_handshake_and_lifecycle() -> None:
    async with host(SCRIPT) as h:
        assert h.handshake[:3] == ["1", "1", "unix"] and h.handshake[4] == "grpc" and "=" not in h.handshake[5]
        assert h.logged("printed while loading") == "printed while loading"
        check = h.channel.unary_unary("/grpc.health.v1.Health/Check")
        assert await check(b"\x0a\x06plugin") == b"\x08\x01"
        d = await h.lifecycle.Describe(pb.DescribeRequest(host_version="1"))
        assert (d.id, d.version, list(d.wants)) == ("sample", "1.2.3", ["kv"])
        assert d.sdk.startswith("python/") and not d.routes
        assert {t.name for t in d.tools} >= {"add", "count"} and d.filter.inlet and d.filter.stream and not d.filter.outlet
        assert json.loads(d.config_schema)["properties"]["limit"] == {"type": "integer", "minimum": 1, "maximum": 10, "default": 3}
        answer = await h.connect({"limit": 99, "greeting": 5})
        assert {(v.path, v.message) for v in answer.violations} == {("limit", "must be at most 10"), ("greeting", "must be a text")}
        assert not h.logged("started with")
        answer = await h.lifecycle.Configure(pb.ConfigureRequest(config=b'{"limit": 4}'))
        assert json.loads(answer.config) == {"greeting": "Hello", "limit": 4}
        line = json.loads(await until(lambda: h.logged("started with"), "the log"))
        assert (line["@level"], line["@message"], line["@module"], line["limit"]) == ("warn", "started with Hello", "sample", 4)
        assert (await h.lifecycle.Check(pb.CheckRequest())).status == pb.CheckResponse.STATUS_OK
        assert (await h.lifecycle.Metrics(pb.MetricsRequest())).text == b"sample_total 7\n"
        await until(lambda: h.logged("printed while running"), "what is printed")
        with pytest.raises(grpc.aio.AioRpcError) as e:
            await h.lifecycle.Connect(pb.ConnectRequest())
        assert e.value.code() is grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize(("fails", "text"), [("start", "ValueError: no start"), ("lifespan", "lifespan could not start")])
async def test_a_plugin_that_cannot_start(fails: str, text: str) -> None:
    async with host(SCRIPT, env={"FAIL": fails}) as h:
        with pytest.raises(grpc.aio.AioRpcError) as e:
            await h.connect()
        assert e.value.code() is grpc.StatusCode.FAILED_PRECONDITION and text in (e.value.details() or "")


async def test_a_program_that_ends_early(tmp_path: Path) -> None:
    script = tmp_path / "plugin.py"
    script.write_text("import galley_sdk\nraise ValueError('no luck')\n")
    env = {"PATH": os.environ["PATH"], "GALLEY_PLUGIN": "galley-plugin-v1"}
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=env)
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 1 and ended.stdout == ""
    assert json.loads(line)["@level"] == "error" and "ValueError: no luck" in json.loads(line)["@message"]


async def test_only_the_host_may_connect(running: HostProcess) -> None:
    for identity in (None, new_identity()):
        channel = running.dial(identity)
        with pytest.raises(grpc.aio.AioRpcError) as e:
            await channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10)
        assert e.value.code() is grpc.StatusCode.UNAVAILABLE
        await channel.close()
    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
        async with running.open("GET /whoami HTTP/1.1\nHost: x", with_certificate=False) as (reader, _):
            await reader.readexactly(1)


async def test_http(running: HostProcess) -> None:
    head, body = await running.get("/whoami", CALLER + "\nX-Forwarded-Proto: http")
    assert head.startswith("HTTP/1.1 200")
    root = "/api/v1/plugins/sample"
    assert json.loads(body) == {"id": "u1", "name": "Ann É", "same": "u1", "root": root, "url": f"http://chat.example.com{root}/whoami"}
    head, body = await running.get("/whoami")
    assert json.loads(body)["id"] == ""
    head, body = await running.get("/big")
    assert len(body) > 64 * 65536 and "transfer-encoding: chunked" in head.lower()
    head, _ = await running.get("/none")
    assert head.startswith("HTTP/1.1 404")


async def test_http_streams(running: HostProcess) -> None:
    async with running.open("POST /upload HTTP/1.1\nHost: x\nTransfer-Encoding: chunked") as (reader, writer):
        writer.write(b"5\r\nhello\r\n")
        await until(lambda: running.marked("upload-began"), "the first part of the upload")
        for _ in range(100):
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        answer = await asyncio.wait_for(reader.readuntil(b"}"), 20)
        assert b'"size":6553605,"first":5' in answer
    async with running.open("GET /sse HTTP/1.1\nHost: x") as (reader, _):
        assert (await asyncio.wait_for(reader.readuntil(b"first"), 20)).startswith(b"HTTP/1.1 200")
        assert not running.marked("sse-ended")
    await until(lambda: running.marked("sse-ended"), "the end of the stream whose client is gone")


async def test_websocket(running: HostProcess) -> None:
    headers = {"Galley-Caller": ANN, "X-Forwarded-Prefix": "/api/v1/plugins/sample"}
    async with unix_connect(running.http_path, uri="wss://localhost/ws", ssl=running.tls(), additional_headers=headers) as ws:
        for text in ("one", "two" * 100_000):
            await ws.send(text)
            assert await ws.recv() == f"Ann É: {text}"


async def test_models(running: HostProcess) -> None:
    listed = await running.llm.Models(pb.ModelsRequest())
    assert [(m.id, m.name) for m in listed.models][:2] == [("echo", "Echo"), ("many", "many")]
    chunks = [json.loads(c) async for r in running.llm.Chat(chat("echo")) for c in r.chunks]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"]) == "Hi you"
    assert [c["choices"][0]["finish_reason"] for c in chunks[:-1]] == [None, None, "stop"]
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["total_tokens"] == 3
    assert {c["object"] for c in chunks} == {"chat.completion.chunk"} and len({c["id"] for c in chunks}) == 1


async def test_ready_chunks_go_together(running: HostProcess) -> None:
    messages = [list(r.chunks) async for r in running.llm.Chat(chat("many", n=5000))]
    chunks = [json.loads(c)["choices"][0]["delta"].get("content", "") for m in messages for c in m]
    assert "".join(chunks) == "".join(f"{i} " for i in range(5000))
    assert len(messages) < 500


async def test_cancelling_ends_the_model(running: HostProcess) -> None:
    call = running.llm.Chat(chat("blocking"))
    first = await call.read()
    assert b"early" in first.chunks[0]
    await until(lambda: running.marked("blocking-began"), "the model")
    assert not running.marked("model-ended")
    call.cancel()
    await until(lambda: running.marked("model-ended"), "the end of the model")


async def test_cancelling_ends_the_tool(running: HostProcess) -> None:
    call = running.tools.Call(pb.CallRequest(name="wait", arguments=b"{}"))
    assert (await call.read()).event.type == "status"
    assert not running.marked("tool-ended")
    call.cancel()
    await until(lambda: running.marked("tool-ended"), "the end of the tool")


async def test_errors(running: HostProcess) -> None:
    call, got = running.llm.Chat(chat("bad")), []
    with pytest.raises(grpc.aio.AioRpcError) as e:
        async for r in call:
            got += r.chunks
    assert e.value.code() is grpc.StatusCode.INTERNAL and "broken in the middle" in (e.value.details() or "")
    assert len(got) == 1 and b"some" in got[0]
    line = json.loads(await until(lambda: running.logged("model bad failed"), "the log"))
    assert line["@level"] == "error" and "sample_plugin.py" in line["traceback"]
    for request, code, status in (
        (running.llm.Chat(chat("refusing")).read(), grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
        (running.llm.Chat(chat("unknown")).read(), grpc.StatusCode.NOT_FOUND, 404),
        (running.filter.Inlet(pb.InletRequest(body=b'{"model":"forbidden"}')), grpc.StatusCode.PERMISSION_DENIED, 403),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as e:
            await request
        assert e.value.code() is code
        r = refusal(e.value)
        assert r.status == status and r.detail
        assert dict(r.headers) == ({"Retry-After": "3"} if status == 429 else {})
    for missing in (running.llm.Embed(pb.EmbedRequest(model="echo", input=["x"])), running.channel.unary_unary("/plugin.GRPCStdio/StreamStdio")(b"")):
        with pytest.raises(grpc.aio.AioRpcError) as e:
            await missing
        assert e.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_tools_and_host_services(running: HostProcess) -> None:
    async def call(name: str, **arguments: object) -> list[pb.CallResponse]:
        return [r async for r in running.tools.Call(pb.CallRequest(name=name, arguments=json.dumps(arguments).encode()))]

    event, result = await call("add", a=40)
    assert event.event.type == "status" and json.loads(event.event.data) == {"description": "adding", "done": False}
    assert json.loads(result.result.json) == 42
    (result,) = await call("add", a="x")
    assert result.result.error and "a: must be a whole number" in result.result.text
    await call("count", key="visits")
    (result,) = await call("count", key="visits")
    assert json.loads(result.result.json) == {"value": 2, "keys": ["copy", "visits"]}
    (result,) = await call("store", text="ä")
    assert result.result.text == "file-1 600000" and running.fake.files["file-1"][0].name == "a.txt"
    running.fake.models["big"] = lambda body: "I was asked " + body["messages"][0]["content"]
    (result,) = await call("ask", question="why not")
    assert result.result.text == "I was asked why not"
    running.fake.grants.discard("users")
    (result,) = await call("lookup", id="u1")
    assert result.result.error and 'has not granted "users"' in result.result.text


async def test_filters(running: HostProcess) -> None:
    out = await running.filter.Inlet(pb.InletRequest(body=b'{"model":"m"}'))
    assert json.loads(out.body) == {"model": "m", "temperature": 0}
    assert (await running.filter.Inlet(pb.InletRequest(body=b'{"model":"m","temperature":1}'))).body == b""
    call = running.filter.Stream()
    for text, expected in (("ab", "AB"), ("Z", "Z")):
        raw = json.dumps({"id": "c", "x": 1, "choices": [{"index": 0, "delta": {"content": text}}]}).encode()
        await call.write(pb.StreamRequest(meta=pb.Meta(model="m"), chunks=[raw]))
        (chunk,) = (await call.read()).chunks
        assert json.loads(chunk)["choices"][0]["delta"]["content"] == expected and json.loads(chunk)["x"] == 1
        assert (chunk == raw) == (text == expected)
    await call.done_writing()
    assert await call.read() == grpc.aio.EOF


async def test_big_messages(running: HostProcess) -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 9_000_000}]}).encode()
    assert len((await running.filter.Inlet(pb.InletRequest(body=body))).body) > 9_000_000


async def test_ends_with_the_host(running: HostProcess) -> None:
    child = json.loads((await running.get("/child"))[1])["pid"]
    assert alive(running.process.pid) and alive(child)
    assert running.process.stdin
    running.process.stdin.close()
    await until(lambda: not alive(running.process.pid) and not alive(child), "the end of the plugin and of its child")


async def test_blocked_threads_do_not_keep_it(running: HostProcess) -> None:
    call = running.tools.Call(pb.CallRequest(name="block_for_ever", arguments=b"{}"))
    reading = asyncio.ensure_future(call.read())
    await until(lambda: running.marked("blocked"), "the tool")
    child = json.loads((await running.get("/child"))[1])["pid"]
    began = time.monotonic()
    await running.channel.unary_unary("/plugin.GRPCController/Shutdown")(b"")
    assert await asyncio.wait_for(running.process.wait(), 10) == 0
    assert time.monotonic() - began < 6 and running.marked("stopped")
    await until(lambda: not alive(child), "the end of its child")
    with pytest.raises(grpc.aio.AioRpcError):
        await reading


@pytest.mark.parametrize("how", ["drain", "sigterm"])
async def test_running_requests_end_first(running: HostProcess, how: str) -> None:
    slow = asyncio.create_task(running.get("/slow"))
    await until(lambda: running.marked("slow-began"), "the request")
    if how == "drain":
        await running.lifecycle.Drain(pb.DrainRequest(deadline_ms=int((time.time() + 20) * 1000)))
        # what belongs to a chat that began before
        assert (await running.filter.Inlet(pb.InletRequest(body=b'{"model":"m"}'))).body
        head, _ = await running.get("/whoami")
        assert head.startswith("HTTP/1.1 200")
    else:
        running.process.send_signal(signal.SIGTERM)
    head, body = await slow
    assert head.startswith("HTTP/1.1 200") and body == b'"done"'
    assert await asyncio.wait_for(running.process.wait(), 10) == 0
    assert running.marked("stopped")
    assert [p.name for p in running.folder.iterdir() if p.is_socket()] == ["host.sock"]


async def test_drain_has_a_deadline(running: HostProcess) -> None:
    call = running.llm.Chat(chat("blocking"))
    await call.read()
    await running.lifecycle.Drain(pb.DrainRequest(deadline_ms=int((time.time() + 1) * 1000)))
    assert await asyncio.wait_for(running.process.wait(), 10) == 0


async def test_ctrl_c_is_left_to_the_host(running: HostProcess) -> None:
    running.process.send_signal(signal.SIGINT)
    head, _ = await running.get("/whoami")
    assert head.startswith("HTTP/1.1 200")
