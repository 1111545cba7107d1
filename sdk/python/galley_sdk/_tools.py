"""Functions that models may call."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ._caller import Caller, Meta, current
from ._call import call
from ._json import dumps
from ._schema import Field, Schema, decode_fields, object_schema

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class ToolCall:
    """A call of a tool. A parameter of this type gets it, and models do not see the parameter."""

    def __init__(self, name: str, emit: Callable[[str, bytes], None]) -> None:
        self.name = name
        self._emit = emit

    @property
    def meta(self) -> Meta:
        """What the call belongs to."""
        return current.get()

    @property
    def caller(self) -> Caller:
        """Who the call is made for."""
        return current.get().caller

    def emit(self, type: str, data: Any) -> None:
        """Shows something beside the message while the tool runs. May be called from any thread."""
        self._emit(type, dumps(data))

    def status(self, text: str, done: bool = False) -> None:
        """Shows a line above the answer. ``done`` ends its animation."""
        self.emit("status", {"description": text, "done": done})


@dataclass(frozen=True)
class Tool:
    """A tool as models see it, and the function behind it."""

    name: str
    description: str
    parameters: Schema
    function: Callable[..., Any]
    fields: tuple[Field, ...] | None  #: None: the function takes the arguments as they are
    call_parameter: str = ""

    async def run(self, arguments: Any, tool_call: ToolCall) -> Any:
        """Calls the function. Raises Invalid for arguments that do not fit."""
        extra = {self.call_parameter: tool_call} if self.call_parameter else {}
        if self.fields is None:
            return await call(self.function, **arguments, **extra)
        return await call(self.function, **decode_fields(self.fields, arguments), **extra)


def make_tool(f: Callable[..., Any], name: str | None, description: str | None, parameters: Mapping[str, Any] | None) -> Tool:
    """Makes a tool of a function: its parameters from the type hints, their descriptions from the docstring."""
    name = name or f.__name__
    if not _NAME.fullmatch(name):
        raise ValueError(f"tool name {name!r} is not of letters, digits, - and _, at most 64")
    text, about = read_docstring(inspect.getdoc(f) or "")
    hints = typing.get_type_hints(f, include_extras=True)
    fields: list[Field] = []
    call_parameter = ""
    for p in inspect.signature(f).parameters.values():
        hint = hints.get(p.name, p.annotation)
        if hint is ToolCall:
            call_parameter = p.name
        elif p.kind is p.POSITIONAL_ONLY:
            raise TypeError(f"tool {name}: {p.name} is positional only")
        elif p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            if parameters is None:
                raise TypeError(f"tool {name}: models cannot give *{p.name}")
        else:
            fields.append(_field(p, hint, about))
    schema = dict(parameters) if parameters is not None else object_schema(fields)
    return Tool(name, description or text, schema, f, None if parameters is not None else tuple(fields), call_parameter)


def _field(p: inspect.Parameter, hint: Any, about: Mapping[str, str]) -> Field:
    default: Callable[[], Any] | None = None
    if p.default is not p.empty:
        default = lambda: p.default  # noqa: E731
    annotated = any(isinstance(m, str) or getattr(m, "description", None) for m in getattr(hint, "__metadata__", ()))
    metadata = {"description": about[p.name]} if p.name in about and not annotated else {}
    return Field(p.name, hint, default, required=default is None, metadata=metadata)


_SPHINX = re.compile(r":param\s+(?:[^:]*\s)?\*{0,2}(\w+):\s*(.*)")
_SECTION = re.compile(r"(Args|Arguments|Parameters|Returns?|Raises|Yields|Examples?|Notes?|Attributes|Todo)\s*:?")
_ENTRY = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")


def read_docstring(doc: str) -> tuple[str, dict[str, str]]:
    """The text of a docstring up to its sections, and what it says of parameters (Google's, NumPy's or Sphinx's style)."""
    text: list[str] = []
    about: dict[str, str] = {}
    section, name, indent = "", "", 0
    for line in doc.splitlines():
        bare = line.strip()
        depth = len(line) - len(line.lstrip())
        heading = _SECTION.fullmatch(bare)
        sphinx = _SPHINX.match(bare)
        if sphinx:
            section, name, indent = "sphinx", sphinx[1], depth
            about[name] = sphinx[2]
        elif bare.startswith(":") and re.match(r":\w+[^:]*:", bare):
            section, name = "other", ""
        elif heading and depth == 0:
            section, name = heading[1], ""
        elif not bare or set(bare) == {"-"} and section:
            if not section:
                text.append("")
        elif not section:
            text.append(bare)
        elif section in ("Args", "Arguments", "Parameters"):
            name, indent = _parameter(bare, depth, name, indent, about)
        elif section == "sphinx" and name and depth > indent:
            about[name] = f"{about[name]} {bare}".strip()
    paragraphs = re.split(r"\n\s*\n", "\n".join(text).strip())
    return "\n\n".join(" ".join(p.split()) for p in paragraphs).strip(), {k: v.strip() for k, v in about.items() if v.strip()}


def _parameter(bare: str, depth: int, name: str, indent: int, about: dict[str, str]) -> tuple[str, int]:
    """Reads a line of a section of parameters; gives the parameter that further lines belong to."""
    entry = _ENTRY.fullmatch(bare)
    if name and depth > indent:
        about[name] = f"{about[name]} {bare}".strip()
        return name, indent
    if depth == 0:  # NumPy: "name : type", the text on the next lines
        name = re.split(r"[\s:]", bare, maxsplit=1)[0]
        about[name] = ""
        return name, depth
    if entry:
        about[entry[1]] = entry[2]
        return entry[1], depth
    return "", depth
