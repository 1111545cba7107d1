"""Galley's services in memory, for tests."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc

from ._caller import Caller, caller_to_pb
from ._chat import ChunkEncoder, Model
from ._host import Stubs, model_to_pb
from ._json import loads
from ._proto import plugin_pb2 as pb

GRANTS = ("kv", "users", "models", "files", "events")


def _refuse(code: grpc.StatusCode, text: str) -> NoReturn:
    none = grpc.aio.Metadata()
    raise grpc.aio.AioRpcError(code, none, none, details=text, debug_error_string=None)


@dataclass(frozen=True)
class Emitted:
    """An event that a plugin emitted."""

    user_id: str
    type: str
    data: Any
    chat_id: str = ""
    message_id: str = ""


@dataclass
class FakeHost:
    """What the fake services know; tests fill it in and look at it."""

    grants: set[str] = field(default_factory=lambda: set(GRANTS))
    users: list[Caller] = field(default_factory=list)
    #: Models and what they answer: a text, or a function of the request's body.
    models: dict[str, str | Callable[[dict[str, Any]], str]] = field(default_factory=dict)
    files: dict[str, tuple[pb.FileInfo, bytes]] = field(default_factory=dict)
    events: list[Emitted] = field(default_factory=list)
    kv: dict[str, pb.KvEntry] = field(default_factory=dict)
    clock: Callable[[], float] = time.time

    def need(self, grant: str) -> None:
        """Refuses what is not granted."""
        if grant not in self.grants:
            _refuse(grpc.StatusCode.PERMISSION_DENIED, f"grant {grant} is missing")

    def add_file(self, user_id: str, name: str, content: bytes, content_type: str = "") -> str:
        """Adds a file and gives its id."""
        id = f"file-{len(self.files) + 1}"
        info = pb.FileInfo(id=id, user_id=user_id, name=name, content_type=content_type, size=len(content), created_at=int(self.clock()))
        self.files[id] = (info, content)
        return id

    def stubs(self) -> Stubs:
        """What the clients speak through."""
        return Stubs(kv=_Kv(self), users=_Users(self), models=_Models(self), files=_Files(self), events=_Events(self))


class _Kv:
    def __init__(self, host: FakeHost) -> None:
        self._host = host

    def _find(self, key: str) -> pb.KvEntry | None:
        self._host.need("kv")
        if not 1 <= len(key.encode()) <= 512:
            _refuse(grpc.StatusCode.INVALID_ARGUMENT, "a key has 1 to 512 bytes")
        e = self._host.kv.get(key)
        if e is not None and e.expires_at and e.expires_at <= self._host.clock() * 1000:
            del self._host.kv[key]
            return None
        return e

    def _put(self, key: str, value: bytes, ttl: int, version: int) -> pb.KvEntry:
        if len(value) > 1 << 20:
            _refuse(grpc.StatusCode.INVALID_ARGUMENT, "a value has at most 1 MiB")
        expires = int(self._host.clock() * 1000) + ttl if ttl else 0
        self._host.kv[key] = pb.KvEntry(key=key, value=value, version=version, expires_at=expires)
        return self._host.kv[key]

    async def Get(self, r: pb.KvGetRequest, metadata: Any = None) -> pb.KvEntry:
        return self._find(r.key) or _refuse(grpc.StatusCode.NOT_FOUND, r.key)

    async def Put(self, r: pb.KvPutRequest, metadata: Any = None) -> pb.KvVersion:
        old = self._find(r.key)
        return pb.KvVersion(version=self._put(r.key, r.value, r.ttl_ms, (old.version if old else 0) + 1).version)

    async def CompareAndSet(self, r: pb.KvCompareAndSetRequest, metadata: Any = None) -> pb.KvVersion:
        old = self._find(r.key)
        if (old.version if old else 0) != r.version:
            _refuse(grpc.StatusCode.ABORTED, f"{r.key} changed")
        return pb.KvVersion(version=self._put(r.key, r.value, r.ttl_ms, r.version + 1).version)

    async def Add(self, r: pb.KvAddRequest, metadata: Any = None) -> pb.KvCounter:
        old = self._find(r.key)
        try:
            value = int(old.value) if old else 0
        except ValueError:
            _refuse(grpc.StatusCode.FAILED_PRECONDITION, f"{r.key} is no counter")
        value += r.delta
        if old is None:
            old = self._put(r.key, b"", r.ttl_ms, 0)
        old.value, old.version = str(value).encode(), old.version + 1
        return pb.KvCounter(value=value, expires_at=old.expires_at)

    async def Delete(self, r: pb.KvDeleteRequest, metadata: Any = None) -> pb.KvDeleteResponse:
        found = self._find(r.key) is not None
        self._host.kv.pop(r.key, None)
        return pb.KvDeleteResponse(deleted=found)

    async def List(self, r: pb.KvListRequest, metadata: Any = None) -> pb.KvListResponse:
        self._host.need("kv")
        keys = sorted(k for k in list(self._host.kv) if k.startswith(r.prefix) and k > r.after and self._find(k))
        limit = r.limit or 100
        return pb.KvListResponse(entries=[self._host.kv[k] for k in keys[:limit]], more=len(keys) > limit)


class _Users:
    def __init__(self, host: FakeHost) -> None:
        self._host = host

    async def Get(self, r: pb.UserGetRequest, metadata: Any = None) -> pb.Caller:
        self._host.need("users")
        for u in self._host.users:
            if (r.id and u.id == r.id) or (not r.id and u.email == r.email):
                return caller_to_pb(u)
        _refuse(grpc.StatusCode.NOT_FOUND, r.id or r.email)

    async def List(self, r: pb.UserListRequest, metadata: Any = None) -> pb.UserListResponse:
        self._host.need("users")
        found = [u for u in self._host.users if r.query.lower() in f"{u.name}\n{u.email}".lower()]
        start = (max(r.page, 1) - 1) * 30
        page = [caller_to_pb(Caller(u.id, u.name, u.email, u.role)) for u in found[start : start + 30]]
        return pb.UserListResponse(users=page, total=len(found))


class _Models:
    def __init__(self, host: FakeHost) -> None:
        self._host = host

    async def List(self, r: pb.HostModelsRequest, metadata: Any = None) -> pb.ModelsResponse:
        self._host.need("models")
        return pb.ModelsResponse(models=[model_to_pb(Model(id)) for id in self._host.models])

    async def Chat(self, r: pb.HostChatRequest, metadata: Any = None) -> AsyncIterator[pb.ChatResponse]:
        self._host.need("models")
        body = loads(r.body)
        answer = self._host.models.get(body.get("model"))
        if answer is None:
            _refuse(grpc.StatusCode.NOT_FOUND, f"model {body.get('model')}")
        encoder = ChunkEncoder(body["model"])
        for word in re.findall(r"\s*\S+\s*$|\s*\S+", answer(body) if callable(answer) else answer):
            yield pb.ChatResponse(chunks=encoder.encode(word))
        yield pb.ChatResponse(chunks=encoder.end())

    async def Embed(self, r: pb.EmbedRequest, metadata: Any = None) -> pb.EmbedResponse:
        self._host.need("models")
        return pb.EmbedResponse(embeddings=[pb.Embedding(values=[float(len(t)), float(sum(t.encode()) % 97)]) for t in r.input])


class _Files:
    def __init__(self, host: FakeHost) -> None:
        self._host = host

    def _find(self, id: str) -> tuple[pb.FileInfo, bytes]:
        self._host.need("files")
        return self._host.files.get(id) or _refuse(grpc.StatusCode.NOT_FOUND, id)

    async def Get(self, r: pb.FileGetRequest, metadata: Any = None) -> pb.FileInfo:
        return self._find(r.id)[0]

    async def Read(self, r: pb.FileGetRequest, metadata: Any = None) -> AsyncIterator[pb.FilePart]:
        content = self._find(r.id)[1]
        for start in range(0, len(content), 256 << 10):
            yield pb.FilePart(data=content[start : start + (256 << 10)])

    async def Write(self, requests: AsyncIterable[pb.FileWriteRequest], metadata: Any = None) -> pb.FileInfo:
        self._host.need("files")
        info, content = pb.FileInfo(), b""
        async for r in requests:
            if r.HasField("info"):
                info = r.info
            content += r.data
        return self._host.files[self._host.add_file(info.user_id, info.name, content, info.content_type)][0]


class _Events:
    def __init__(self, host: FakeHost) -> None:
        self._host = host

    async def Emit(self, r: pb.EmitRequest, metadata: Any = None) -> pb.EmitResponse:
        self._host.need("events")
        self._host.events.append(Emitted(r.user_id, r.type, loads(r.data), r.chat_id, r.message_id))
        return pb.EmitResponse(sockets=1)
