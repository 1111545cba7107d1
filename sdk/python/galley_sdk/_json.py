"""JSON as it crosses the border: UTF-8, no NaN."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import uuid
from typing import Any


def loads(raw: bytes) -> Any:
    """Reads JSON."""
    return json.loads(raw)


def dumps(value: Any) -> bytes:
    """Writes JSON; dataclasses, models of pydantic, enumerations, times and sets as one expects."""
    try:
        return _utf8(value).encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair
        return _ascii(value).encode("ascii")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


_utf8 = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode
_ascii = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_plain).encode
