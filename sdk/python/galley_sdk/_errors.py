"""Errors that cross the border between Galley and a plugin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from ._proto import plugin_pb2 as pb

DETAILS_KEY = "grpc-status-details-bin"
_TYPE_URL = "type.googleapis.com/plugin.v1.Refusal"

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}


class Refusal(Exception):
    """Says what the client is answered: an HTTP status from 400 to 599 and ``{"detail": detail}``.

    Models, filters and tools raise it. Any other exception is logged and answered without its text.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        if not 400 <= status <= 599:
            raise ValueError(f"a refusal has a status from 400 to 599, not {status}")
        super().__init__(f"{status} {detail}")
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})

    @property
    def code(self) -> grpc.StatusCode:
        """The gRPC status code that it travels with."""
        return _CODES.get(self.status, grpc.StatusCode.FAILED_PRECONDITION)

    def details(self) -> bytes:
        """The google.rpc.Status that it travels in."""
        refusal = pb.Refusal(status=self.status, detail=self.detail, headers=self.headers)
        status = status_pb2.Status(code=self.code.value[0], message=self.detail)
        status.details.add(type_url=_TYPE_URL, value=refusal.SerializeToString())
        raw: bytes = status.SerializeToString()
        return raw


class ToolError(Exception):
    """Tells the model that a tool could not do its work, and why."""


class Degraded(Exception):
    """Raised by a check: the plugin works, but this is wrong. It is shown to administrators."""


class HostError(Exception):
    """A service of Galley's did not do what it was asked."""


class NotFoundError(HostError):
    """There is no such thing."""


class ConflictError(HostError):
    """An entry changed meanwhile."""


class QuotaError(HostError):
    """The plugin's store is full."""


class NotGranted(HostError):
    """The operator did not grant the service to the plugin."""


_KINDS = {
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ABORTED: ConflictError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: QuotaError,
}


def host_error(error: grpc.aio.AioRpcError, grant: str) -> Exception:
    """The exception for an answer of a host service."""
    trailers: Iterable[Any] = error.trailing_metadata() or ()
    for key, value in trailers:
        if key == DETAILS_KEY and isinstance(value, bytes):
            refusal = _refusal_in(value)
            if refusal is not None:
                return refusal
    text = error.details() or ""
    if error.code() is grpc.StatusCode.PERMISSION_DENIED:
        return NotGranted(f'the operator has not granted "{grant}" to this plugin' + (f": {text}" if text else ""))
    kind = _KINDS.get(error.code())
    return kind(text) if kind else HostError(f"{error.code().name}: {text}")


def _refusal_in(raw: bytes) -> Refusal | None:
    status = status_pb2.Status()
    try:
        status.ParseFromString(raw)
        for detail in status.details:
            if detail.type_url.endswith("/plugin.v1.Refusal"):
                r = pb.Refusal.FromString(detail.value)
                return Refusal(r.status, r.detail, dict(r.headers))
    except (DecodeError, ValueError):  # the code alone says enough
        pass
    return None


def short(error: BaseException) -> str:
    """One line about an exception of the author's code."""
    text = " ".join(str(error).split())
    line = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return line if len(line) <= 200 else line[:199] + "…"
