"""The addresses of a plugin."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ._json import dumps
from ._proto import plugin_pb2 as pb
from ._schema import resolve

Access = Literal["public", "verified", "admin"]

# What of an OpenAPI operation is of use outside of its document.
_KEPT = ("description", "deprecated", "parameters", "requestBody", "responses")
_ACCESS = {"public": pb.ACCESS_PUBLIC, "verified": pb.ACCESS_VERIFIED, "admin": pb.ACCESS_ADMIN}


@dataclass(frozen=True)
class Route:
    """An address of a plugin's HTTP app."""

    method: str  #: "" means any
    path: str  #: "/items/{id}", "/files/{path...}": relative to where the plugin is mounted, in the syntax of Go's ServeMux
    access: Access = "verified"  #: "public": anybody; "verified": accounts that are not pending; "admin": administrators
    permission: str = ""  #: a permission such as "features.notes" that callers need besides
    summary: str = ""  #: one line for the API's description
    openapi: Mapping[str, Any] | None = None  #: OpenAPI operation object

    def __post_init__(self) -> None:
        if self.access not in _ACCESS:
            raise ValueError(f"access is public, verified or admin, not {self.access!r}")
        if not self.path.startswith("/"):
            raise ValueError(f"path {self.path!r} does not begin with /")

    def to_pb(self) -> pb.Route:
        """As Galley is told."""
        openapi = dumps(self.openapi) if self.openapi else b""
        return pb.Route(method=self.method.upper(), path=self.path, access=_ACCESS[self.access], permission=self.permission, summary=self.summary, openapi=openapi)


def routes_from(app: Any, access: Access | Callable[[str, str], Access] = "verified", permission: str = "") -> list[Route]:
    """The routes of a FastAPI or Starlette app, with what its OpenAPI description says of them.

    ``access`` is one for all, or a function of method and path (as the app has it, "/items/{id}").
    """
    describe = getattr(app, "openapi", None)
    document = describe() if callable(describe) else {}
    out: dict[tuple[str, str], Route] = {}
    for method, path in _walk(getattr(app, "routes", ()), ""):
        key = (method, mux_pattern(path))
        if key in out:
            continue
        operation = document.get("paths", {}).get(_plain(path), {}).get(method.lower(), {})
        kept = {name: resolve(operation[name], document) for name in _KEPT if name in operation}
        level = access(method, path) if callable(access) else access
        out[key] = Route(method, key[1], level, permission, str(operation.get("summary", "")), kept or None)
    return list(out.values())


def _walk(routes: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """Methods and paths; "" is any method."""
    # FastAPI keeps included routers as they are and has a function that goes through them
    flatten = getattr(sys.modules.get("fastapi.routing"), "iter_route_contexts", None)
    for route in flatten(routes) if flatten is not None else routes:
        declared = getattr(route, "original_route", route)
        path = getattr(route, "path", None)
        if path is None:
            continue
        inner = getattr(declared, "routes", None)
        if inner:
            yield from _walk(inner, prefix + path)
        elif inner is not None:  # a mounted app of another kind
            yield "", f"{prefix}{path}".rstrip("/") + "/{path:path}"
        elif hasattr(declared, "methods"):
            methods = set(route.methods or ("",))
            for method in sorted(methods - {"HEAD"} if "GET" in methods else methods):
                yield method, prefix + path
        else:  # a WebSocket
            yield "GET", prefix + path


def _plain(path: str) -> str:
    return re.sub(r"\{(\w+):\w+\}", r"{\1}", path)


def mux_pattern(path: str) -> str:
    """A path in the syntax of Go's ServeMux, where a wildcard is a whole segment; what cannot be said so is made wider."""
    out: list[str] = []
    segments = path.split("/")
    for i, segment in enumerate(segments):
        last = i == len(segments) - 1
        rest = re.fullmatch(r"\{(\w+):path\}", segment)
        if rest and last:
            out.append(f"{{{rest[1]}...}}")
        elif re.fullmatch(r"\{\w+(:(?!path)\w+)?\}", segment):
            out.append(_plain(segment))
        elif "{" in segment:
            out.append("{rest...}")
            break
        elif last and not segment:
            out.append("{$}")
        else:
            out.append(segment)
    return "/".join(out)
