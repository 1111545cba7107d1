"""The configuration of a plugin: an instance of the author's class."""

from __future__ import annotations

import dataclasses
from typing import Any, Generic

from typing_extensions import TypeVar

from ._json import dumps, loads
from ._schema import Invalid, Schema, decode, is_pydantic, schema

ConfigT = TypeVar("ConfigT", default=None)


class Configuration(Generic[ConfigT]):
    """Holds the current instance; a new one takes its place in one step."""

    def __init__(self, cls: type[ConfigT] | None) -> None:
        if cls is not None and not (dataclasses.is_dataclass(cls) or is_pydantic(cls)):
            raise TypeError(f"a configuration is a dataclass or a model of pydantic, not {cls!r}")
        self._cls = cls
        self._current: ConfigT | None = None
        if cls is not None:
            try:
                self._current = cls()
            except (TypeError, ValueError):  # there are members without a default
                self._current = None

    @property
    def current(self) -> ConfigT:
        """The configuration now."""
        if self._cls is not None and self._current is None:
            raise RuntimeError("the plugin is not configured yet")
        return self._current  # type: ignore[return-value]

    def schema(self) -> Schema | None:
        """The JSON schema, None if there is nothing to configure."""
        return None if self._cls is None else schema(self._cls)

    def read(self, raw: bytes) -> ConfigT:
        """A new instance from JSON, not yet in place. Raises Invalid."""
        try:
            data: Any = loads(raw) if raw.strip() else {}
        except ValueError as e:
            raise Invalid([("", f"is not JSON: {e}")]) from None
        if not isinstance(data, dict):
            raise Invalid([("", "must be an object")])
        if self._cls is None:
            return None  # type: ignore[return-value]
        new: ConfigT = decode(self._cls, data)
        validate = None if is_pydantic(self._cls) else getattr(new, "validate", None)
        if validate is not None:
            try:
                validate()
            except Invalid:
                raise
            except ValueError as e:
                path = e.args[0] if len(e.args) == 2 and isinstance(e.args[0], str) else ""
                raise Invalid([(path, str(e.args[1]) if path else str(e))]) from None
        return new

    def put(self, new: ConfigT | None) -> ConfigT | None:
        """Puts an instance into place and gives the one before."""
        before, self._current = self._current, new
        return before

    def effective(self, new: ConfigT, raw: bytes) -> bytes:
        """The configuration with its defaults, as JSON."""
        return (raw or b"{}") if self._cls is None else dumps(new)
