"""Makes Galley plugins in Python. A plugin is a program of its own that Galley starts, watches and talks to::

    from fastapi import FastAPI
    from galley_sdk import Plugin

    app = FastAPI()

    @app.get("/hello")
    def hello() -> str:
        return "Hello"

    Plugin(id="hello", version="1.0.0", app=app).serve()

README.md has the rest.
"""

from . import _process

_process.claim()

from ._caller import CALLER_HEADER, Caller, Group, Meta, caller, meta  # noqa: E402
from ._chat import ChatRequest, Chunk, Model, ToolCallDelta, Usage, text_of  # noqa: E402
from ._core import VERSION  # noqa: E402
from ._errors import ConflictError, Degraded, HostError, NotFoundError, NotGranted, QuotaError, Refusal, ToolError  # noqa: E402
from ._host import Counter, Entry, File, Host  # noqa: E402
from ._log import JsonHandler  # noqa: E402
from ._plugin import Plugin  # noqa: E402
from ._routes import Access, Route, routes_from  # noqa: E402
from ._tools import ToolCall  # noqa: E402

__version__ = VERSION

__all__ = [
    "Access", "CALLER_HEADER", "Caller", "ChatRequest", "Chunk", "ConflictError", "Counter", "Degraded", "Entry", "File", "Group", "Host",
    "HostError", "JsonHandler", "Meta", "Model", "NotFoundError", "NotGranted", "Plugin", "QuotaError", "Refusal", "Route", "ToolCall",
    "ToolCallDelta", "ToolError", "Usage", "caller", "meta", "routes_from", "text_of",
]
