"""What Galley offers to a plugin."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc

from ._caller import Caller, Meta, caller_from_pb, current, meta_to_pb
from ._chat import Chunk, Model, decode_chunk
from ._errors import NotFoundError, host_error
from ._json import dumps, loads
from ._proto import plugin_pb2 as pb
from ._proto import plugin_pb2_grpc as rpc

T = TypeVar("T")
Seconds = float | datetime.timedelta

PART = 128 << 10


def _millis(ttl: Seconds | None) -> int:
    seconds = ttl.total_seconds() if isinstance(ttl, datetime.timedelta) else ttl or 0
    return max(1, round(seconds * 1000)) if seconds > 0 else 0


def _when(ms: int) -> datetime.datetime | None:
    return datetime.datetime.fromtimestamp(ms / 1000, datetime.timezone.utc) if ms else None


def _trace() -> tuple[tuple[str, str], ...]:
    return tuple(current.get().trace.items())


class _Service:
    grant = ""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    async def _ask(self, answer: Awaitable[T]) -> T:
        try:
            return await answer
        except grpc.aio.AioRpcError as e:
            raise host_error(e, self.grant) from None

    async def _each(self, answers: Any) -> AsyncIterator[Any]:
        try:
            async for answer in answers:
                yield answer
        except grpc.aio.AioRpcError as e:
            raise host_error(e, self.grant) from None
        finally:
            cancel = getattr(answers, "cancel", None)
            if cancel is not None:
                cancel()


@dataclass(frozen=True)
class Entry:
    """A value in the store."""

    key: str
    value: bytes
    version: int
    expires: datetime.datetime | None = None  #: None: never

    @property
    def text(self) -> str:
        """The value as text."""
        return self.value.decode("utf-8")

    def json(self) -> Any:
        """The value read as JSON."""
        return loads(self.value)


@dataclass(frozen=True)
class Counter:
    """A counter in the store."""

    value: int
    expires: datetime.datetime | None = None  #: None: never


class Kv(_Service):
    """A store of the plugin's own, in Galley's database: it outlives the process, and all replicas share it. Grant "kv".

    Keys have 1 to 512 bytes of UTF-8, values at most 1 MiB; a text is stored as UTF-8. A full store raises QuotaError.
    """

    grant = "kv"

    async def get(self, key: str) -> Entry | None:
        """Reads a value; None if there is none."""
        try:
            return _entry(await self._ask(self._stub.Get(pb.KvGetRequest(key=key), metadata=_trace())))
        except NotFoundError:
            return None

    async def put(self, key: str, value: bytes | str, ttl: Seconds | None = None) -> int:
        """Writes a value and gives its version. Without ttl (seconds) it stays for ever."""
        answer = await self._ask(self._stub.Put(pb.KvPutRequest(key=key, value=_bytes(value), ttl_ms=_millis(ttl)), metadata=_trace()))
        return int(answer.version)

    async def cas(self, key: str, value: bytes | str, version: int, ttl: Seconds | None = None) -> int:
        """Writes a value if the entry still has the version, 0 meaning that there is none; else raises ConflictError."""
        request = pb.KvCompareAndSetRequest(key=key, value=_bytes(value), version=version, ttl_ms=_millis(ttl))
        return int((await self._ask(self._stub.CompareAndSet(request, metadata=_trace()))).version)

    async def add(self, key: str, delta: int = 1, ttl: Seconds | None = None) -> Counter:
        """Adds to a counter in one step; a missing one counts as 0 and gets the ttl (seconds)."""
        answer = await self._ask(self._stub.Add(pb.KvAddRequest(key=key, delta=delta, ttl_ms=_millis(ttl)), metadata=_trace()))
        return Counter(answer.value, _when(answer.expires_at))

    async def delete(self, key: str) -> bool:
        """Removes a value and says whether it was there."""
        return bool((await self._ask(self._stub.Delete(pb.KvDeleteRequest(key=key), metadata=_trace()))).deleted)

    async def list(self, prefix: str = "") -> AsyncIterator[Entry]:
        """Goes through the entries whose keys have a prefix, in order."""
        after, more = "", True
        while more:
            page = await self._ask(self._stub.List(pb.KvListRequest(prefix=prefix, after=after), metadata=_trace()))
            for e in page.entries:
                after = e.key
                yield _entry(e)
            more = page.more and bool(page.entries)


def _bytes(value: bytes | str) -> bytes:
    return value.encode("utf-8") if isinstance(value, str) else value


def _entry(e: pb.KvEntry) -> Entry:
    return Entry(e.key, e.value, e.version, _when(e.expires_at))


class Users(_Service):
    """Looks up accounts. Grant "users"."""

    grant = "users"

    async def get(self, id: str = "", email: str = "") -> Caller | None:
        """An account with its groups, by id or e-mail address; None if there is none."""
        try:
            return caller_from_pb(await self._ask(self._stub.Get(pb.UserGetRequest(id=id, email=email), metadata=_trace())))
        except NotFoundError:
            return None

    async def list(self, query: str = "", page: int = 1) -> tuple[Sequence[Caller], int]:
        """A page of accounts (from 1, 30 each, without groups) whose name or e-mail address has a part, and how many there are."""
        answer = await self._ask(self._stub.List(pb.UserListRequest(query=query, page=page), metadata=_trace()))
        return [caller_from_pb(u) for u in answer.users], int(answer.total)


class Models(_Service):
    """Asks models of Galley's, whoever serves them. Grant "models". With a user id only models that the user may use are there."""

    grant = "models"

    async def list(self, user_id: str = "") -> Sequence[Model]:
        """The models."""
        answer = await self._ask(self._stub.List(pb.HostModelsRequest(user_id=user_id), metadata=_trace()))
        return [model_from_pb(m) for m in answer.models]

    async def chat(self, body: Mapping[str, Any], user_id: str = "") -> AsyncIterator[Chunk]:
        """Asks a model; body is a chat completion request with "model". Closing the iterator ends the call."""
        answers = self._stub.Chat(pb.HostChatRequest(user_id=user_id, body=dumps(body)), metadata=_trace())
        async for answer in self._each(answers):
            for raw in answer.chunks:
                chunk = decode_chunk(raw)
                if chunk is not None:
                    yield chunk

    async def ask(self, model: str, question: str | Sequence[Mapping[str, Any]], user_id: str = "") -> str:
        """Asks one question, a text or messages, and gives the text of the answer."""
        messages = [{"role": "user", "content": question}] if isinstance(question, str) else list(question)
        return "".join([c.text async for c in self.chat({"model": model, "messages": messages, "stream": True}, user_id)])

    async def embed(self, model: str, texts: Sequence[str], user_id: str = "") -> Sequence[Sequence[float]]:
        """A vector for each text."""
        meta = meta_to_pb(Meta(caller=Caller(id=user_id)))
        answer = await self._ask(self._stub.Embed(pb.EmbedRequest(meta=meta, model=model, input=texts), metadata=_trace()))
        return [list(e.values) for e in answer.embeddings]


def model_from_pb(m: pb.Model) -> Model:
    return Model(m.id, m.name, m.description, m.owned_by, list(m.tags), m.created, loads(m.info) if m.info else None)


def model_to_pb(m: Model) -> pb.Model:
    return pb.Model(
        id=m.id, name=m.name or m.id, description=m.description, owned_by=m.owned_by, tags=m.tags, created=m.created,
        info=dumps(m.info) if m.info else b"",
    )


@dataclass(frozen=True)
class File:
    """Describes a file."""

    id: str
    user_id: str
    name: str
    content_type: str = ""
    size: int = 0
    created: datetime.datetime | None = None


class Files(_Service):
    """Reads and writes files of users. Grant "files"."""

    grant = "files"

    async def get(self, id: str) -> File | None:
        """Describes a file; None if there is none."""
        try:
            return _file(await self._ask(self._stub.Get(pb.FileGetRequest(id=id), metadata=_trace())))
        except NotFoundError:
            return None

    async def read(self, id: str) -> AsyncIterator[bytes]:
        """The content of a file, in parts. Raises NotFoundError."""
        async for part in self._each(self._stub.Read(pb.FileGetRequest(id=id), metadata=_trace())):
            yield part.data

    async def write(self, user_id: str, name: str, content: bytes | AsyncIterable[bytes], content_type: str = "") -> File:
        """Makes a file of a user's."""

        async def requests() -> AsyncIterator[pb.FileWriteRequest]:
            yield pb.FileWriteRequest(info=pb.FileInfo(user_id=user_id, name=name, content_type=content_type))
            async for piece in _pieces(content):
                for start in range(0, len(piece), PART):
                    yield pb.FileWriteRequest(data=piece[start : start + PART])

        return _file(await self._ask(self._stub.Write(requests(), metadata=_trace())))


async def _pieces(content: bytes | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(content, (bytes, bytearray, memoryview)):
        yield bytes(content)
    else:
        async for piece in content:
            yield piece


def _file(f: pb.FileInfo) -> File:
    return File(f.id, f.user_id, f.name, f.content_type, f.size, _when(f.created_at * 1000))


class Events(_Service):
    """Sends events to people's browsers. Grant "events"."""

    grant = "events"

    async def emit(self, user_id: str, type: str, data: Any, chat_id: str = "", message_id: str = "") -> int:
        """Sends an event and gives the number of connections it went to. With chat_id and message_id it belongs to a message."""
        request = pb.EmitRequest(user_id=user_id, chat_id=chat_id, message_id=message_id, type=type, data=dumps(data))
        return int((await self._ask(self._stub.Emit(request, metadata=_trace()))).sockets)

    async def notify(self, user_id: str, text: str, kind: str = "info") -> int:
        """Shows a notification: "info", "success", "warning" or "error"."""
        return await self.emit(user_id, "notification", {"type": kind, "content": text})


@dataclass(frozen=True)
class Stubs:
    """What the clients speak through."""

    kv: Any
    users: Any
    models: Any
    files: Any
    events: Any


class Host:
    """Galley's services. Each needs a grant of the operator's; without it its calls raise NotGranted."""

    def __init__(self, stubs: Stubs, grants: Sequence[str], data_dir: str) -> None:
        self.kv = Kv(stubs.kv)
        self.users = Users(stubs.users)
        self.models = Models(stubs.models)
        self.files = Files(stubs.files)
        self.events = Events(stubs.events)
        self.grants = frozenset(grants)
        self.data_dir = data_dir

    def granted(self, name: str) -> bool:
        """Whether the operator granted something."""
        return name in self.grants


def dial(address: str, host_certificate: bytes, key: bytes, certificate: bytes) -> grpc.aio.Channel:
    """A channel to Galley's host services."""
    credentials = grpc.ssl_channel_credentials(root_certificates=host_certificate, private_key=key, certificate_chain=certificate)
    options = [
        ("grpc.ssl_target_name_override", "localhost"), ("grpc.default_authority", "localhost"), ("grpc.enable_http_proxy", 0),
        ("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1),
    ]
    return grpc.aio.secure_channel(address, credentials, options=options)


def stubs_of(channel: grpc.aio.Channel) -> Stubs:
    """The stubs of a channel."""
    return Stubs(
        kv=rpc.HostKvStub(channel), users=rpc.HostUsersStub(channel), models=rpc.HostModelsStub(channel), files=rpc.HostFilesStub(channel),
        events=rpc.HostEventsStub(channel),
    )
