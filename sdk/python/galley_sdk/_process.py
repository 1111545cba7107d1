"""What a process that Galley started must do before anything else: keep the standard output for the handshake."""

from __future__ import annotations

import logging
import os
import sys
from types import TracebackType

COOKIE_NAME, COOKIE = "GALLEY_PLUGIN", "galley-plugin-v1"

#: File descriptor of the standard output as Galley gave it; None in a process that Galley did not start.
handshake_output: int | None = None


def claim() -> None:
    """Has what is printed go to the log, from the first import of the package on: Galley reads the first line of output as the handshake."""
    global handshake_output
    # children of the plugin are no plugins
    if handshake_output is not None or os.environ.get(COOKIE_NAME) != COOKIE:
        return
    del os.environ[COOKIE_NAME]
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
    sys.stdout.flush()
    handshake_output = os.dup(1)
    os.dup2(2, 1)
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(line_buffering=True)
    sys.excepthook = _report


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Logs what ends the program as one entry, not line by line."""
    from ._log import format_record

    record = logging.LogRecord("galley_sdk", logging.CRITICAL, "", 0, "the program ended: %s: %s", (kind.__name__, error), (kind, error, trace))
    sys.stderr.write(format_record(record) + "\n")
