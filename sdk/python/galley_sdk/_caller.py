"""Who a call is made for, and what it belongs to."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

from ._proto import plugin_pb2 as pb

CALLER_HEADER = "Galley-Caller"


@dataclass(frozen=True)
class Group:
    """A group that a caller is in."""

    id: str
    name: str = ""


@dataclass(frozen=True)
class Caller:
    """The account a call is made for. Without an id it is a stranger, or the server itself, and false in conditions."""

    id: str = ""
    name: str = ""
    email: str = ""
    role: str = ""  #: "admin", "user" or "pending"
    groups: tuple[Group, ...] = ()

    @property
    def anonymous(self) -> bool:
        """Whether there is no account."""
        return not self.id

    @property
    def is_admin(self) -> bool:
        """Whether the caller is an administrator."""
        return self.role == "admin"

    def __bool__(self) -> bool:
        return bool(self.id)


@dataclass(frozen=True)
class Meta:
    """What a call belongs to; every field may be empty."""

    caller: Caller = field(default_factory=Caller)
    request_id: str = ""
    chat_id: str = ""
    message_id: str = ""
    session_id: str = ""  #: of the browser
    model: str = ""  #: as clients name it
    kind: str = ""  #: "chat", "task" or "proxy"
    task: str = ""  #: "title_generation" and the like
    trace: Mapping[str, str] = field(default_factory=dict)  #: traceparent, tracestate and what else is to be passed on as it came


current: ContextVar[Meta] = ContextVar("galley_meta", default=Meta())


def meta() -> Meta:
    """What the call that is running belongs to."""
    return current.get()


class HasScope(Protocol):
    """What requests and WebSockets of Starlette and FastAPI have."""

    @property
    def scope(self) -> Any: ...


def caller(request: HasScope | None = None) -> Caller:
    """Who calls: of a request, or of the call that is running. In FastAPI: ``Depends(galley_sdk.caller)``."""
    if request is None:
        return current.get().caller
    found = request.scope.get("galley", {}).get("caller")
    return found if isinstance(found, Caller) else Caller()


# FastAPI makes parameters of requests of a dependency's parameters: it is to see none.
setattr(caller, "__signature__", inspect.Signature(return_annotation=Caller))


def caller_from_header(value: bytes) -> Caller:
    """Reads the header that Galley sends; what cannot be read is a stranger."""
    try:
        data = json.loads(value)
        groups = tuple(Group(id=str(g.get("id", "")), name=str(g.get("name", ""))) for g in data.get("groups") or ())
        return Caller(groups=groups, **{name: str(data.get(name) or "") for name in ("id", "name", "email", "role")})
    except (ValueError, AttributeError, TypeError):
        return Caller()


def caller_to_header(who: Caller) -> bytes:
    """Writes the header as Galley does."""
    data = {"id": who.id, "name": who.name, "email": who.email, "role": who.role, "groups": [{"id": g.id, "name": g.name} for g in who.groups]}
    return json.dumps(data, separators=(",", ":")).encode("ascii")


def caller_from_pb(c: pb.Caller) -> Caller:
    return Caller(id=c.id, name=c.name, email=c.email, role=c.role, groups=tuple(Group(g.id, g.name) for g in c.groups))


def caller_to_pb(c: Caller) -> pb.Caller:
    return pb.Caller(id=c.id, name=c.name, email=c.email, role=c.role, groups=[pb.Group(id=g.id, name=g.name) for g in c.groups])


def meta_from_pb(m: pb.Meta, trace: Mapping[str, str]) -> Meta:
    return Meta(
        caller=caller_from_pb(m.caller), request_id=m.request_id, chat_id=m.chat_id, message_id=m.message_id, session_id=m.session_id,
        model=m.model, kind=m.kind, task=m.task, trace=trace,
    )


def meta_to_pb(m: Meta) -> pb.Meta:
    return pb.Meta(
        caller=caller_to_pb(m.caller) if m.caller else None, request_id=m.request_id, chat_id=m.chat_id, message_id=m.message_id,
        session_id=m.session_id, model=m.model, kind=m.kind, task=m.task,
    )
