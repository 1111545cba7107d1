"""Logs in the form that Galley reads: lines of JSON on the standard error."""

from __future__ import annotations

import datetime
import json
import logging
import sys
import traceback
from typing import TextIO

MAX_LINE = 64 << 10

_LEVELS = ((logging.ERROR, "error"), (logging.WARNING, "warn"), (logging.INFO, "info"), (logging.DEBUG, "debug"))
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


class JsonHandler(logging.Handler):
    """Writes each record as one line: @level, @message, @timestamp, @module and what stands in ``extra``."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        try:
            stream = self._stream or sys.stderr
            stream.write(format_record(record) + "\n")
            stream.flush()
        except Exception:
            self.handleError(record)


def format_record(record: logging.LogRecord) -> str:
    """The line for a record, at most MAX_LINE bytes with its end."""
    when = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
    entry: dict[str, object] = {
        "@level": next((name for level, name in _LEVELS if record.levelno >= level), "trace"),
        "@message": record.getMessage(),
        "@timestamp": when.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "@module": record.name,
    }
    extra = {key: value for key, value in vars(record).items() if key not in _OWN and not key.startswith("@")}
    if record.exc_info and record.exc_info[1] is not None:
        extra["error"] = repr(record.exc_info[1])
        extra["traceback"] = "".join(traceback.format_exception(*record.exc_info))
    if record.stack_info:
        extra["stack"] = record.stack_info
    line = _dumps({**entry, **extra})
    if len(line) < MAX_LINE:
        return line
    # ASCII may take six bytes for a character: shorten to what fits in any case, and keep the end of tracebacks
    room = (MAX_LINE - 4096) // 6 // 2
    entry["@message"] = _cut(str(entry["@message"]), room)
    if "traceback" in extra:
        entry["traceback"] = "…" + str(extra["traceback"])[-room:]
    line = _dumps(entry)
    return line if len(line) < MAX_LINE else _dumps({**entry, "@module": record.name[:100]})


def _dumps(entry: dict[str, object]) -> str:
    return json.dumps(entry, default=repr, separators=(",", ":"))


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[:room] + "…"


def install(level: int = logging.INFO) -> None:
    """Has the root logger and those of uvicorn write for Galley. Handlers that the author set up stay."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(JsonHandler())
        if root.level == logging.WARNING:  # as Python leaves it
            root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
