"""A small host: starts a plugin as Galley does, and speaks to it over mutual TLS."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc

from galley_sdk._fakes import FakeHost
from galley_sdk._proto import plugin_pb2 as pb
from galley_sdk._proto import plugin_pb2_grpc as rpc
from galley_sdk._tls import Identity, new_identity

SERVICES = {"Kv": "kv", "Users": "users", "Models": "models", "Files": "files", "Events": "events"}


async def until(condition: Callable[[], Any], what: str, seconds: float = 20) -> Any:
    """Waits until something is so."""
    for _ in range(int(seconds / 0.02)):
        found = condition()
        if found:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"waited for {what}")


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def adapt(method: Callable[..., Any]) -> Callable[..., Any]:
    """Has a method of a fake answer over gRPC, errors included."""

    async def unary(request: Any, context: Any) -> Any:
        try:
            return await method(request)
        except grpc.aio.AioRpcError as e:
            code, text = e.code(), e.details() or ""
        await context.abort(code, text)

    async def stream(request: Any, context: Any) -> None:
        try:
            async for answer in method(request):
                await context.write(answer)
            return
        except grpc.aio.AioRpcError as e:
            code, text = e.code(), e.details() or ""
        await context.abort(code, text)

    return stream if method.__name__ in ("Chat", "Read") else unary


class HostProcess:
    def __init__(self, script: Path, folder: Path, grants: list[str], env: dict[str, str], identity: Identity) -> None:
        self.script, self.folder, self.grants, self.extra, self.identity = script, folder, grants, env, identity
        self.fake = FakeHost(grants=set(grants))
        self.lines: list[str] = []

    async def start(self) -> None:
        data = self.folder / "data"
        data.mkdir()
        env = {
            "PATH": os.environ["PATH"], "HOME": str(self.folder), "GALLEY_PLUGIN": "galley-plugin-v1", "PLUGIN_PROTOCOL_VERSIONS": "1",
            "PLUGIN_CLIENT_CERT": self.identity.certificate.decode(), "PLUGIN_UNIX_SOCKET_DIR": str(self.folder), "GALLEY_PLUGIN_ID": "sample",
            "GALLEY_PLUGIN_DATA": str(data), **self.extra,
        }
        self.data = data
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, str(self.script), env=env, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            start_new_session=True, limit=1 << 20,
        )
        assert self.process.stdout and self.process.stderr
        self._reader = asyncio.create_task(self._read_log(self.process.stderr))
        line = (await asyncio.wait_for(self.process.stdout.readline(), 30)).decode()
        assert line, self.lines
        self.handshake = line.rstrip("\n").split("|")
        der = base64.b64decode(self.handshake[5] + "=" * (-len(self.handshake[5]) % 4))
        self.plugin_certificate = ssl.DER_cert_to_PEM_cert(der)
        self.channel = self.dial(self.identity)
        self.lifecycle, self.llm = rpc.LifecycleStub(self.channel), rpc.LlmStub(self.channel)
        self.filter, self.tools = rpc.FilterStub(self.channel), rpc.ToolsStub(self.channel)
        await self._serve_host()

    async def _read_log(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            self.lines.append(line.decode().rstrip("\n"))

    def dial(self, identity: Identity | None) -> grpc.aio.Channel:
        key, certificate = (identity.key, identity.certificate) if identity else (None, None)
        credentials = grpc.ssl_channel_credentials(self.plugin_certificate.encode(), key, certificate)
        options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        return grpc.aio.secure_channel(f"unix:{self.handshake[3]}", credentials, options=options)

    async def _serve_host(self) -> None:
        # the plugin's certificate is known from the handshake; Connect gives the one it presents here, the same
        self.server = grpc.aio.server()
        stubs = self.fake.stubs()
        for service, name in SERVICES.items():
            fake = getattr(stubs, name)
            servicer = type(service, (getattr(rpc, f"Host{service}Servicer"),), {})()
            for method in dir(fake):
                if method[0].isupper():
                    setattr(servicer, method, adapt(getattr(fake, method)))
            getattr(rpc, f"add_Host{service}Servicer_to_server")(servicer, self.server)
        credentials = grpc.ssl_server_credentials([(self.identity.key, self.identity.certificate)], self.plugin_certificate.encode(), True)
        self.server.add_secure_port(f"unix:{self.folder}/host.sock", credentials)
        await self.server.start()

    async def connect(self, config: dict[str, Any] | None = None) -> pb.ConfigureResponse:
        request = pb.ConnectRequest(
            host_address=f"unix:{self.folder}/host.sock", host_certificate=self.identity.certificate, grants=self.grants, data_dir=str(self.data)
        )
        self.connected = await self.lifecycle.Connect(request)
        return await self.lifecycle.Configure(pb.ConfigureRequest(config=json.dumps(config or {}).encode()))

    def logged(self, part: str) -> str:
        return next((line for line in self.lines if part in line), "")

    def marked(self, name: str) -> bool:
        return (self.data / name).exists()

    # ---- HTTP

    def tls(self, with_certificate: bool = True) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.connected.certificate.decode())
        if with_certificate:
            self.identity.load_into(context, str(self.folder))
        return context

    @property
    def http_path(self) -> str:
        return self.connected.http_address.removeprefix("unix:")

    @contextlib.asynccontextmanager
    async def open(self, head: str, with_certificate: bool = True) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection on which a request's head was sent."""
        reader, writer = await asyncio.open_unix_connection(self.http_path, ssl=self.tls(with_certificate), server_hostname="localhost", limit=1 << 24)
        try:
            writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
            await writer.drain()
            yield reader, writer
        finally:
            writer.transport.abort()

    async def get(self, path: str, headers: str = "") -> tuple[str, bytes]:
        async with self.open(f"GET {path} HTTP/1.1\nHost: chat.example.com\nConnection: close{headers}") as (reader, _):
            head, _, body = (await asyncio.wait_for(reader.read(-1), 30)).partition(b"\r\n\r\n")
            return head.decode(), body

    async def close(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._reader
        await self.channel.close()
        await self.server.stop(0)


@contextlib.asynccontextmanager
async def host(script: Path, grants: list[str] | None = None, env: dict[str, str] | None = None) -> AsyncIterator[HostProcess]:
    with tempfile.TemporaryDirectory() as folder:
        h = HostProcess(script, Path(folder), ["kv", "users", "models", "files", "events"] if grants is None else grants, env or {}, new_identity())
        await h.start()
        try:
            yield h
        finally:
            await h.close()


