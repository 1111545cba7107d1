"""What an author declares."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar, overload

from ._chat import Model
from ._config import Configuration, ConfigT
from ._filters import FilterFunction, FilterKind
from ._host import Host
from ._routes import Route
from ._tools import Tool, make_tool

F = TypeVar("F", bound=Callable[..., Any])

_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class Plugin(Generic[ConfigT]):
    """A plugin: an id, a version, and what it has of HTTP, models, tools and filters. ``serve()`` runs it."""

    def __init__(
        self,
        *,
        id: str,
        version: str,
        name: str = "",
        description: str = "",
        app: Any = None,
        routes: Sequence[Route] = (),
        config: type[ConfigT] | None = None,
        wants: Sequence[str] = (),
        metrics: Any = None,
    ) -> None:
        """Declares a plugin.

        ``app`` is an ASGI app that answers below /api/v1/plugins/ID; without ``routes`` every path of it is for all accounts.
        ``config`` is a dataclass whose fields operators may set. ``wants`` names the grants without which the plugin is of no
        use. ``metrics`` is a registry of prometheus_client or a function that gives Prometheus' text format.
        """
        if not _ID.fullmatch(id):
            raise ValueError(f"id {id!r} is not of lower case letters, digits, - and _, at most 64")
        if not version:
            raise ValueError("version is empty")
        if routes and app is None:
            raise ValueError("routes without app")
        self.id, self.version, self.name, self.description = id, version, name, description
        self.app, self.routes, self.wants, self.metrics = app, tuple(routes), tuple(wants), metrics
        self.models: dict[str, tuple[Model, Callable[..., Any] | None]] = {}
        self.embedders: dict[str, Callable[..., Any]] = {}
        self.backend_handlers: tuple[Callable[..., Any], Callable[..., Any]] | None = None
        self.tools: dict[str, Tool] = {}
        self.filters: list[FilterFunction] = []
        self.checks: list[Callable[..., Any]] = []
        self.hooks: dict[str, list[Callable[..., Any]]] = {"start": [], "stop": [], "config": []}
        self.configuration = Configuration(config)
        self.connected: Host | None = None

    # ---- while it runs

    @property
    def config(self) -> ConfigT:
        """The configuration now. A new one takes its place as a whole; this object does not change."""
        return self.configuration.current

    @property
    def host(self) -> Host:
        """What Galley offers."""
        if self.connected is None:
            raise RuntimeError("the plugin is not connected to Galley yet; use plugin.host in calls and in on_start")
        return self.connected

    @property
    def data_dir(self) -> str:
        """A folder that the plugin may keep files in; replicas do not share it."""
        return self.host.data_dir

    def serve(self) -> None:
        """Runs the plugin until Galley ends it. The last line of a program."""
        from ._serve import serve

        serve(self)

    # ---- models

    def model(
        self, id: str, *, name: str = "", description: str = "", owned_by: str = "", tags: Sequence[str] = (), created: int = 0,
        info: Mapping[str, Any] | None = None,
    ) -> Callable[[F], F]:
        """Declares a model. The function gets a ChatRequest and yields texts, Chunks, or whole chunks as dicts."""

        def add(f: F) -> F:
            self._new_model(Model(id, name, description, owned_by, tags, created, info), f)
            return f

        return add

    def backend(self, models: Callable[..., Any]) -> Callable[[F], F]:
        """Declares models that ``models``, a function, lists (Models or ids); the decorated function answers for all of them."""

        def add(f: F) -> F:
            if self.backend_handlers is not None:
                raise ValueError("a plugin has one backend")
            self.backend_handlers = (models, f)
            return f

        return add

    def embedder(self, id: str, *, name: str = "", description: str = "") -> Callable[[F], F]:
        """Declares a model that makes embeddings. The function gets a list of texts and gives a vector for each."""

        def add(f: F) -> F:
            if id in self.embedders:
                raise ValueError(f"two embedders are named {id!r}")
            self.embedders[id] = f
            if id not in self.models:
                self.models[id] = (Model(id, name, description), None)
            return f

        return add

    def _new_model(self, model: Model, f: Callable[..., Any]) -> None:
        if not model.id:
            raise ValueError("a model needs an id")
        if model.id in self.models and self.models[model.id][1] is not None:
            raise ValueError(f"two models are named {model.id!r}")
        self.models[model.id] = (model, f)

    # ---- tools

    @overload
    def tool(self, function: F, /) -> F: ...
    @overload
    def tool(self, /, *, name: str | None = None, description: str | None = None, parameters: Mapping[str, Any] | None = None) -> Callable[[F], F]: ...
    def tool(
        self, function: Any = None, /, *, name: str | None = None, description: str | None = None, parameters: Mapping[str, Any] | None = None,
    ) -> Any:
        """Declares a tool: its parameters from the type hints, its description from the docstring.

        What it returns is told to the model: a text as it is, anything else as JSON. ``parameters`` is a JSON schema to take
        instead of the type hints; the function then gets the arguments as they are.
        """

        def add(f: Any) -> Any:
            made = make_tool(f, name, description, parameters)
            if made.name in self.tools:
                raise ValueError(f"two tools are named {made.name!r}")
            self.tools[made.name] = made
            return f

        return add if function is None else add(function)

    # ---- filters

    def filter(self, kind: FilterKind, *, priority: int = 0, models: Sequence[str] = (), tasks: bool = False) -> Callable[[F], F]:
        """Declares a filter function, called with what it looks at and, if it takes two arguments, the Meta.

        "inlet" and "outlet" get the body and return the changed body, or None if it stays as it came; a Refusal ends the
        request. "stream" gets each Chunk of an answer and returns None (as it came), a Chunk, or a list of them; it must not
        block. A class is made anew for each answer and called with its chunks. Lower priorities come first. ``models`` are the ids it is for;
        none means all. ``tasks`` has it see requests for titles, tags and the like too.
        """
        if kind not in ("inlet", "outlet", "stream"):
            raise ValueError(f"a filter is inlet, outlet or stream, not {kind!r}")

        def add(f: F) -> F:
            self.filters.append(FilterFunction(kind, f, priority, frozenset(models), tasks))
            self.filters.sort(key=lambda x: x.priority)
            return f

        return add

    # ---- the process

    def check(self, function: F) -> F:
        """Declares a check of the plugin's health: Degraded is shown to administrators, another exception has the process started anew."""
        self.checks.append(function)
        return function

    def on_start(self, function: F) -> F:
        """Has a function called once the plugin is connected and configured. An exception refuses the plugin."""
        self.hooks["start"].append(function)
        return function

    def on_stop(self, function: F) -> F:
        """Has a function called at the end of the process."""
        self.hooks["stop"].append(function)
        return function

    def on_config(self, function: F) -> F:
        """Has a function called with each new configuration, the first one included."""
        self.hooks["config"].append(function)
        return function
