"""JSON schemas of Python types, and values of the types from JSON."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import inspect
import types
import typing
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from typing_extensions import NotRequired, Required, is_typeddict

Schema = dict[str, Any]

_SCALARS: dict[Any, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    type(None): {"type": "null"},
    datetime.datetime: {"type": "string", "format": "date-time"},
    datetime.date: {"type": "string", "format": "date"},
    datetime.time: {"type": "string", "format": "time"},
    uuid.UUID: {"type": "string", "format": "uuid"},
}
_WORDS = {"string": "a text", "integer": "a whole number", "number": "a number", "boolean": "true or false", "null": "null", "object": "an object", "array": "a list"}
# Names that annotations (metadata of dataclasses' fields, Field of pydantic, annotated_types) use, and the schema's.
_KEYWORDS = {
    "title": "title", "description": "description", "format": "format", "enum": "enum", "min": "minimum", "max": "maximum", "ge": "minimum",
    "le": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum", "multiple_of": "multipleOf", "min_length": "minLength",
    "max_length": "maxLength", "pattern": "pattern",
}


class Invalid(Exception):
    """What is wrong with a value: pairs of a path and a message."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{path}: {message}" if path else message for path, message in problems))
        self.problems = problems


def is_pydantic(t: Any) -> bool:
    """Whether a type is a model of pydantic."""
    return isinstance(t, type) and hasattr(t, "model_json_schema") and hasattr(t, "model_validate")


def keywords(annotation: object) -> Schema:
    """The schema's keywords that an annotation sets."""
    if isinstance(annotation, str):
        return {"description": annotation}
    out: Schema = {}
    for part in [annotation, *(getattr(annotation, "metadata", None) or ())] if not isinstance(annotation, Mapping) else [annotation]:
        for name, keyword in _KEYWORDS.items():
            value = part.get(name) if isinstance(part, Mapping) else getattr(part, name, None)
            if value is not None and not callable(value):
                out[keyword] = list(value) if keyword == "enum" else value
    return out


def optional(t: Any) -> tuple[Any, bool]:
    """A type without None, and whether it had it."""
    if get_origin(t) is Annotated:
        inner, found = optional(get_args(t)[0])
        return (Annotated[(inner, *t.__metadata__)], True) if found else (t, False)
    if get_origin(t) in (Union, types.UnionType):
        rest = tuple(a for a in get_args(t) if a is not type(None))
        if len(rest) < len(get_args(t)):
            return (rest[0] if len(rest) == 1 else Union[rest]), True
    return t, False


def schema(t: Any, inside: tuple[Any, ...] = ()) -> Schema:
    """The JSON schema of a type. ``inside`` are the types that it stands in."""
    if t is Any or t is inspect.Parameter.empty or t is object:
        return {}
    if t in _SCALARS:
        return dict(_SCALARS[t])
    if hasattr(t, "__supertype__"):  # NewType
        return schema(t.__supertype__, inside)
    origin, args = get_origin(t), get_args(t)
    if origin is Annotated:
        out = schema(args[0], inside)
        for annotation in t.__metadata__:
            out.update(keywords(annotation))
        return out
    if origin in (NotRequired, Required):
        return schema(args[0], inside)
    if origin is Literal:
        return _enumerated(list(args))
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema(a, inside) for a in args]}
    if isinstance(t, type) and issubclass(t, enum.Enum):
        return _enumerated([m.value for m in t])
    if is_pydantic(t):
        return inline(t.model_json_schema())
    fields = fields_of(t)
    if fields is not None:
        return {"type": "object"} if t in inside else object_schema(fields, (*inside, t))
    return _container(t, origin or t, args, inside)


def _container(t: Any, kind: Any, args: tuple[Any, ...], inside: tuple[Any, ...]) -> Schema:
    if isinstance(kind, type):
        if issubclass(kind, Mapping):
            return {"type": "object", "additionalProperties": schema(args[1], inside)} if len(args) == 2 else {"type": "object"}
        if kind is tuple and args and args[-1] is not Ellipsis:
            return {"type": "array", "prefixItems": [schema(a, inside) for a in args], "minItems": len(args), "maxItems": len(args)}
        if kind is not bytes and issubclass(kind, Collection):
            out: Schema = {"type": "array", "items": schema(args[0], inside) if args else {}}
            return {**out, "uniqueItems": True} if issubclass(kind, (set, frozenset)) else out
    raise TypeError(f"no JSON schema for {t!r}")


def _enumerated(values: list[Any]) -> Schema:
    kinds = {next((s["type"] for k, s in _SCALARS.items() if type(v) is k), None) for v in values}
    kind = kinds.pop() if len(kinds) == 1 else None
    return {"type": kind, "enum": values} if kind else {"enum": values}


@dataclasses.dataclass(frozen=True)
class Field:
    """A member of an object."""

    name: str
    type: Any
    default: Callable[[], Any] | None = None
    required: bool = True
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def schema(self, inside: tuple[Any, ...] = ()) -> Schema:
        """The member's schema, with its default if that can be written."""
        bare, _ = optional(self.type)
        out = {**schema(bare, inside), **keywords(self.metadata)}
        if self.default is not None and (default := self.default()) is not None:
            from ._json import dumps, loads

            try:
                out["default"] = loads(dumps(default))
            except (TypeError, ValueError):
                pass
        return out


def fields_of(t: Any) -> list[Field] | None:
    """The members of a dataclass or TypedDict; None for other types."""
    if dataclasses.is_dataclass(t):
        hints = typing.get_type_hints(t, include_extras=True)
        return [_dataclass_field(f, hints[f.name]) for f in dataclasses.fields(t) if f.init]
    if is_typeddict(t):
        required = getattr(t, "__required_keys__")
        return [Field(name, hint, required=name in required) for name, hint in typing.get_type_hints(t, include_extras=True).items()]
    return None


def _dataclass_field(f: dataclasses.Field[Any], hint: Any) -> Field:
    default: Callable[[], Any] | None = None
    if f.default is not dataclasses.MISSING:
        value = f.default
        default = lambda: value  # noqa: E731
    elif f.default_factory is not dataclasses.MISSING:
        default = f.default_factory
    return Field(f.name, hint, default, required=default is None, metadata=f.metadata)


def object_schema(fields: Collection[Field], inside: tuple[Any, ...] = ()) -> Schema:
    """The schema of an object with members."""
    out: Schema = {"type": "object", "properties": {f.name: f.schema(inside) for f in fields}}
    required = [f.name for f in fields if f.required and not optional(f.type)[1]]
    return {**out, "required": required} if required else out


def inline(document: Schema) -> Schema:
    """A schema with its $defs put where they are named, as some models do not follow references."""
    return typing.cast(Schema, resolve({k: v for k, v in document.items() if k != "$defs"}, document))


def resolve(node: Any, document: Schema, inside: tuple[str, ...] = ()) -> Any:
    """A part of a document with the references of it replaced; one that is inside itself becomes an object."""
    if isinstance(node, list):
        return [resolve(n, document, inside) for n in node]
    if not isinstance(node, dict):
        return node
    ref = node.get("$ref")
    if not isinstance(ref, str) or not ref.startswith("#/"):
        return {k: resolve(v, document, inside) for k, v in node.items()}
    rest = {k: resolve(v, document, inside) for k, v in node.items() if k != "$ref"}
    if ref in inside:
        return {"type": "object", **rest}
    target: Any = document
    for part in ref[2:].split("/"):
        target = target.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(target, dict) else {}
    return {**resolve(target, document, (*inside, ref)), **rest}


def decode(t: Any, value: Any) -> Any:
    """The value of a type that JSON means. Raises Invalid."""
    problems: list[tuple[str, str]] = []
    out = _decode(t, value, "", problems)
    if problems:
        raise Invalid(problems)
    return out


def decode_fields(fields: Collection[Field], value: Any, path: str = "", problems: list[tuple[str, str]] | None = None) -> dict[str, Any]:
    """The members of a JSON object as keyword arguments. Unknown members are left out. Raises Invalid if no list is given."""
    found: list[tuple[str, str]] = [] if problems is None else problems
    out: dict[str, Any] = {}
    if not isinstance(value, Mapping):
        found.append((path, "must be an object"))
    else:
        for f in fields:
            where = f"{path}.{f.name}" if path else f.name
            if f.name in value:
                before = len(found)
                out[f.name] = _decode(f.type, value[f.name], where, found)
                if len(found) == before and out[f.name] is not None:
                    _bounds(keywords(f.metadata), value[f.name], where, found)
            elif f.required:
                if optional(f.type)[1]:
                    out[f.name] = None
                else:
                    found.append((where, "is missing"))
    if problems is None and found:
        raise Invalid(found)
    return out


def _decode(t: Any, value: Any, path: str, problems: list[tuple[str, str]]) -> Any:
    def wrong(message: str) -> None:
        problems.append((path, message))

    if t is Any or t is inspect.Parameter.empty or t is object:
        return value
    if hasattr(t, "__supertype__"):
        return _decode(t.__supertype__, value, path, problems)
    bare, may_be_none = optional(t)
    if may_be_none:
        return None if value is None else _decode(bare, value, path, problems)
    origin, args = get_origin(t), get_args(t)
    if origin is Annotated:
        before = len(problems)
        out = _decode(args[0], value, path, problems)
        if len(problems) == before:
            for annotation in t.__metadata__:
                _bounds(keywords(annotation), value, path, problems)
        return out
    if origin in (NotRequired, Required):
        return _decode(args[0], value, path, problems)
    if t in _SCALARS:
        return _scalar(t, value, wrong)
    if origin is Literal:
        if not any(type(a) is type(value) and a == value for a in args):
            wrong("must be one of " + ", ".join(map(str, args)))
        return value
    if origin in (Union, types.UnionType):
        for a in args:
            attempt: list[tuple[str, str]] = []
            out = _decode(a, value, path, attempt)
            if not attempt:
                return out
        wrong("fits none of the types it may have")
        return None
    if isinstance(t, type) and issubclass(t, enum.Enum):
        try:
            return t(value)
        except ValueError:
            return wrong("must be one of " + ", ".join(str(m.value) for m in t))
    if is_pydantic(t):
        return _pydantic(t, value, path, problems)
    fields = fields_of(t)
    if fields is not None:
        before = len(problems)
        members = decode_fields(fields, value, path, problems)
        if len(problems) > before:
            return None
        try:
            return t(**members)
        except (ValueError, TypeError) as e:  # of __post_init__
            return wrong(str(e))
    return _decode_container(t, origin or t, args, value, path, problems)


def _decode_container(t: Any, kind: Any, args: tuple[Any, ...], value: Any, path: str, problems: list[tuple[str, str]]) -> Any:
    if isinstance(kind, type) and issubclass(kind, Mapping):
        if not isinstance(value, dict):
            problems.append((path, "must be an object"))
            return None
        return {k: _decode(args[1] if len(args) == 2 else Any, v, f"{path}.{k}", problems) for k, v in value.items()}
    if not isinstance(value, list):
        problems.append((path, "must be a list"))
        return None
    if kind is tuple and args and args[-1] is not Ellipsis:
        if len(value) != len(args):
            problems.append((path, f"must have {len(args)} members"))
            return None
        return tuple(_decode(a, v, f"{path}.{i}", problems) for i, (a, v) in enumerate(zip(args, value)))
    items = [_decode(args[0] if args else Any, v, f"{path}.{i}", problems) for i, v in enumerate(value)]
    return kind(items) if kind in (set, frozenset, tuple) and not problems else items


def _scalar(t: Any, value: Any, wrong: Callable[[str], None]) -> Any:
    expected = _SCALARS[t]["type"]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if t is float and number:
        return float(value)
    if t is int and number:
        if value == int(value):
            return int(value)
        return wrong("must be a whole number")
    if t in (str, bool, type(None)):
        if isinstance(value, t):
            return value
    elif t not in (int, float) and isinstance(value, str):
        try:
            if t is uuid.UUID:
                return uuid.UUID(value)
            return t.fromisoformat(value[:-1] + "+00:00" if t is datetime.datetime and value.endswith("Z") else value)
        except ValueError:
            return wrong(f"must be a {_SCALARS[t]['format']}")
    return wrong(f"must be {_WORDS[expected]}")


def _bounds(rules: Schema, value: Any, path: str, problems: list[tuple[str, str]]) -> None:
    checks: dict[str, Callable[[Any], bool]] = {
        "minimum": lambda v: value >= v, "maximum": lambda v: value <= v, "exclusiveMinimum": lambda v: value > v, "exclusiveMaximum": lambda v: value < v,
        "minLength": lambda v: len(value) >= v, "maxLength": lambda v: len(value) <= v, "enum": lambda v: value in v,
    }
    texts = {
        "minimum": "must be at least {}", "maximum": "must be at most {}", "exclusiveMinimum": "must be more than {}",
        "exclusiveMaximum": "must be less than {}", "minLength": "must be at least {} long", "maxLength": "must be at most {} long",
    }
    for name, check in checks.items():
        if name not in rules:
            continue
        try:
            ok = check(rules[name])
        except TypeError:  # the rule is of another type than the value
            ok = False
        if not ok:
            text = "must be one of " + ", ".join(map(str, rules[name])) if name == "enum" else texts[name].format(rules[name])
            problems.append((path, text))


def _pydantic(t: Any, value: Any, path: str, problems: list[tuple[str, str]]) -> Any:
    try:
        return t.model_validate(value)
    except ValueError as e:
        errors: Callable[[], list[Any]] | None = getattr(e, "errors", None)
        if errors is None:
            problems.append((path, str(e)))
            return None
        for problem in errors():
            where = ".".join([*([path] if path else []), *map(str, problem["loc"])])
            problems.append((where, str(problem["msg"])))
        return None
