"""Runs Python that people wrote for Galley. See the package comment of pyhost for the protocol.

The main thread reads requests and nothing else. Each version of a module has a thread with an event loop, in which it is
loaded and its coroutines run, so that one that blocks holds up its own module at most. Functions that are no coroutines
get a thread for each call.
"""

import __future__

import asyncio
import collections
import concurrent.futures
import contextlib
import copy
import ctypes
import importlib.abc
import importlib.machinery
import inspect
import json
import os
import re
import sys
import tempfile
import threading
import traceback
import types
import typing

# Standard input and output are the way to Galley. What the code prints goes to the log by way of standard error.
_in = os.fdopen(os.dup(0), "rb", buffering=1 << 16)
_out = os.dup(1)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(2, 1)
sys.stdout.reconfigure(line_buffering=True)
sys.path[:] = [p for p in sys.path if p]  # not the working directory

MAX_MODULES = 128  # versions that stay loaded
GRACE = 1.0  # seconds that code has to heed the end of its call


class Stopped(BaseException):
    """Is raised in code whose call has ended."""


class Refused(Exception):
    """An error that is told as it is, with what Galley needs to know of its kind."""

    def __init__(self, kind, text):
        super().__init__(text)
        self.kind = kind


# ---- messages

_write_lock = threading.Lock()


def _send(message):
    try:
        data = json.dumps(message, default=str).encode()
    except Exception as e:  # of a text that str gives, or of an object within itself
        if "id" not in message:
            raise
        data = json.dumps({"id": message["id"], "error": {"kind": "raised", "text": str(e)}}).encode()
    view = memoryview(data + b"\n")
    with _write_lock:
        while view:
            view = view[os.write(_out, view) :]


_asked = {}  # questions to Galley that wait for an answer, by number
_asked_lock = threading.Lock()
_asked_last = 0


def _ask(message):
    """Sends a message and gives a future of Galley's answer, which any thread and any event loop can wait for."""
    global _asked_last
    future = concurrent.futures.Future()
    with _asked_lock:
        _asked_last += 1
        number = _asked_last
        _asked[number] = future
    _send({**message, "ask": number})
    return future


def _answer(message):
    with _asked_lock:
        future = _asked.pop(message["answer"], None)
    if future is not None and not future.cancelled():
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            future.set_result(message)


# ---- what tools import of the server that they were written for

class _Headers(dict):
    """Headers by their names in any case."""

    def __init__(self, values=None):
        super().__init__({str(k).lower(): v for k, v in dict(values or {}).items()})

    def get(self, key, default=None):
        return super().get(key.lower(), default)

    def __getitem__(self, key):
        return super().__getitem__(key.lower())

    def __setitem__(self, key, value):
        super().__setitem__(key.lower(), value)

    def __contains__(self, key):
        return super().__contains__(key.lower())


class Response:
    media_type = None

    def __init__(self, content=None, status_code=200, headers=None, media_type=None, background=None):
        self.status_code = status_code
        self.body = b"" if content is None else content if isinstance(content, bytes) else str(content).encode()
        self.headers = _Headers(headers)
        self.media_type = media_type or self.media_type


class HTMLResponse(Response):
    media_type = "text/html"


class Request:
    """For annotations."""


class HTTPException(Exception):
    def __init__(self, status_code, detail=None, headers=None):
        super().__init__(f"{status_code}: {detail}")
        self.status_code, self.detail, self.headers = status_code, detail, headers


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands in for packages that tools import for a name or two, where the machine does not have them."""

    names = {
        "starlette": {},
        "starlette.responses": {"Response": Response, "HTMLResponse": HTMLResponse},
        "starlette.requests": {"Request": Request},
        "fastapi": {"Request": Request, "HTTPException": HTTPException, "Response": Response},
        "fastapi.responses": {"Response": Response, "HTMLResponse": HTMLResponse},
        "fastapi.requests": {"Request": Request},
        "open_webui": {},
        "open_webui.env": {"SRC_LOG_LEVELS": collections.defaultdict(lambda: "INFO"), "GLOBAL_LOG_LEVEL": "INFO"},
    }

    def find_spec(self, name, path=None, target=None):
        if name in self.names:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        module.__dict__.update(self.names[module.__name__])


# ---- modules

CLASSES = {"tool": ("Tools",), "function": ("Pipe", "Filter", "Action", "Event")}


class Module:
    """A version of somebody's source, loaded."""

    def __init__(self, kind, name):
        self.kind, self.id = kind, name
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, name=f"{kind} {name}", daemon=True)
        self.thread.start()
        self.calls = 0
        self.module = self.object = self.found = None
        self.dropped = False

    def _run(self):
        asyncio.set_event_loop(self.loop)
        while not self.loop.is_closed():
            try:
                self.loop.run_forever()
                return
            except Stopped:  # it came after its call had ended
                continue

    def load(self, source):
        name = f"{self.kind}_{self.id}_{os.urandom(8).hex()}"
        module = types.ModuleType(name)
        sys.modules[name] = module  # decorators and type hints look there
        file, path = tempfile.mkstemp(prefix="source-", suffix=".py", dir=".")
        try:
            with os.fdopen(file, "w", encoding="utf-8", errors="surrogatepass") as f:
                f.write(source)
            module.__file__ = os.path.abspath(path)
            # annotations stay texts, as where tools are written for
            code = compile(source, "<string>", "exec", flags=__future__.annotations.compiler_flag, dont_inherit=True)
            exec(code, module.__dict__)
            for found in CLASSES[self.kind]:
                if hasattr(module, found):
                    self.object, self.found = getattr(module, found)(), found
                    break
            else:
                raise Refused("source", f"No {'Tools' if self.kind == 'tool' else 'Function'} class found in the module")
        except BaseException:
            sys.modules.pop(name, None)
            raise
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)
        self.module = module
        sys.modules[f"{self.kind}_{self.id}"] = module

    def drop(self):
        """Is called once no call uses the module any more."""
        if self.module is not None:
            for name in (self.module.__name__, f"{self.kind}_{self.id}"):
                if sys.modules.get(name) is self.module:
                    del sys.modules[name]
        self.loop.call_soon_threadsafe(self.loop.stop)


_modules = collections.OrderedDict()  # (kind, id, hash): Module, those used last at the end
_modules_lock = threading.Lock()


@contextlib.contextmanager
def _using(request):
    key = (request["kind"], request["module"], request["hash"])
    with _modules_lock:
        module = _modules.get(key)
        if module is None:
            raise Refused("unloaded", "The module is not loaded")
        _modules.move_to_end(key)
        module.calls += 1
    try:
        yield module
    finally:
        with _modules_lock:
            module.calls -= 1
            ended = module.dropped and module.calls == 0
        if ended:
            module.drop()


def _keep(key, module):
    """Makes a module known, and forgets those that have not been used for long, and older versions but one."""
    with _modules_lock:
        old = _modules.pop(key, None)
        gone = [old] if old else []
        versions = [k for k in _modules if k[:2] == key[:2]]
        for k in versions[:-1]:
            gone.append(_modules.pop(k))
        while len(_modules) >= MAX_MODULES:
            gone.append(_modules.popitem(last=False)[1])
        _modules[key] = module
        for m in gone:
            m.dropped = True
        gone = [m for m in gone if m.calls == 0]
    for m in gone:
        m.drop()


# ---- specs

def _functions(obj):
    for name in dir(obj):
        if name.startswith("_"):
            continue
        value = getattr(obj, name)
        if callable(value) and not inspect.isclass(value):
            yield value


_PARAM = re.compile(r":param (\w+):\s*(.*)")


def _read_docstring(text):
    """Gives the description and those of the parameters, from a docstring in reST."""
    params, current = {}, None
    for line in (text or "").splitlines():
        line = line.strip()
        found = _PARAM.match(line)
        if found:
            current = None if found[1].startswith("__") else found[1]
            if current:
                params[current] = found[2]
        elif line.startswith(":"):
            current = None
        elif current and line:
            params[current] = params[current] + "\n" + line if params[current] else line
    words = []
    for line in (text or "").strip().split("\n"):
        line = line.strip()
        if line.startswith((":param", ":return")):
            break
        words.append(line)
    return "\n".join(words), params


def _resolve(schema, root, within=()):
    """Puts what references mean in their place; one within itself is left empty."""
    if isinstance(schema, list):
        return [_resolve(v, root, within) for v in schema]
    if not isinstance(schema, dict):
        return schema
    out, rest = {}, schema
    path = schema.get("$ref")
    if isinstance(path, str):
        rest = {k: v for k, v in schema.items() if k != "$ref"}
        if path not in within:
            meant = root
            for part in path.split("/")[1:]:
                meant = meant[part]
            meant = _resolve(copy.deepcopy(meant), root, (*within, path))
            if not rest:
                return meant
            out.update(meant)
        else:
            within = (*within, path)
    for k, v in rest.items():
        out[k] = copy.deepcopy(v) if k == "$defs" else _resolve(v, root, within)
    return out


def _untitled(schema, above=""):
    """Takes the titles away, but not a property of that name. Lists stay as they are."""
    out = {}
    for k, v in schema.items():
        if k == "title" and not (above == "properties" and isinstance(v, dict)):
            continue
        out[k] = _untitled(v, k) if isinstance(v, dict) else v
    return out


def _simplify(schema):
    """Makes of what pydantic writes what providers take: no null among types, no default of null, a type everywhere."""
    if not isinstance(schema, dict):
        return
    if "anyOf" in schema:
        rest = [t for t in schema["anyOf"] if t.get("type") != "null"]
        if len(rest) == 1:
            schema.update(rest[0])
            del schema["anyOf"]
        else:
            schema["anyOf"] = rest
    if "default" in schema and schema["default"] is None:
        del schema["default"]
    if not any(k in schema for k in ("type", "anyOf", "properties")):
        schema["type"] = "string"
    for part in schema.get("properties", {}).values():
        _simplify(part)
    if "items" in schema:
        _simplify(schema["items"])


def _spec(function):
    from pydantic import Field, create_model

    hints = typing.get_type_hints(function)
    description, params = _read_docstring(function.__doc__)
    fields = {}
    for name, parameter in inspect.signature(function).parameters.items():
        default = ... if parameter.default is parameter.empty else parameter.default
        if params.get(name):
            default = Field(default, description=params[name])
        fields[name] = (hints.get(name, typing.Any), default)
    model = create_model(function.__name__, **fields)
    model.__doc__ = description
    schema = model.model_json_schema()
    schema = _resolve(schema, schema)
    schema.pop("$defs", None)
    name, description = schema.pop("title", ""), schema.pop("description", "")
    schema = _untitled(schema)
    _simplify(schema)
    return {"name": name, "description": description, "parameters": schema}


def _offered(function):
    """The description that models are given, with the white space of the source."""
    text = function.__doc__
    if text and text.strip():
        return re.split(r":(?:param|return)", text, maxsplit=1)[0]
    return function.__name__


# ---- valves

def _valves_class(module, user):
    return getattr(module.object, "UserValves" if user else "Valves", None)


def _without_null(values):
    return {k: v for k, v in (values or {}).items() if v is not None}


def _options(cls, schema, user):
    """Fills in options that a method of the class gives."""
    fields = getattr(cls, "model_fields", None)
    if not isinstance(fields, dict):
        return schema
    for name, prop in schema.get("properties", {}).items():
        field = fields.get(name)
        extra = field.json_schema_extra if field else None
        given = extra.get("input") if isinstance(extra, dict) else None
        options = given.get("options") if isinstance(given, dict) else None
        if isinstance(options, str) and options:
            method = getattr(cls, options, None)
            if not callable(method):
                print(f"{cls.__name__} has no method {options} for the options of {name}", file=sys.stderr)
                continue
            try:
                takes = inspect.signature(method).parameters
                options = method(**{k: user for k in ("__user__", "user") if k in takes and user is not None})
            except Exception as e:
                print(f"Failed to get the options of {name}: {e}", file=sys.stderr)
                continue
        if isinstance(options, list):
            prop["input"] = {**prop.get("input", {"type": "select"}), "options": options}
    return schema


def _op_schema(request, module):
    cls = _valves_class(module, request.get("user_valves"))
    if cls is None:
        return None
    return _options(cls, cls.model_json_schema(), request.get("user"))


def _op_valves(request, module):
    """Gives the values that are to be stored: those that are set, as the class reads them."""
    cls = _valves_class(module, request.get("user_valves"))
    if cls is None:
        raise Refused("no_valves", "The module has no valves")
    return cls(**_without_null(request["values"])).model_dump(exclude_unset=True)


def _op_check(request, module):
    """Says whether stored values suit the class. Those that are missing can be given later."""
    cls = _valves_class(module, False)
    if cls is None:
        return None
    from pydantic import ValidationError

    try:
        cls(**_without_null(request["values"]))
    except ValidationError as e:
        problems = e.errors(include_input=False)
        if all(p["type"] == "missing" for p in problems):
            return None
        raise Refused("valves", "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in problems)) from e
    except Exception as e:
        raise Refused("valves", str(e)) from e
    return None


# ---- calls

class Call:
    """A call in progress, as far as it can be ended."""

    def __init__(self, number):
        self.id = number
        self.lock = threading.Lock()
        self.ended = False
        self.stopped = False
        self.thread = None  # in which code runs that is no coroutine
        self.task = self.module = None

    def stop(self):
        with self.lock:
            self.stopped = True
            if self.ended:
                return
            task, module, thread = self.task, self.module, self.thread
            if task is None:
                if thread is not None:
                    _raise_in(thread, Stopped)
                return
        module.loop.call_soon_threadsafe(task.cancel)
        # a loop that does not come round is held up by the code; by then that may be another call's of the module
        heard = threading.Event()
        module.loop.call_soon_threadsafe(heard.set)
        if not heard.wait(GRACE):
            with self.lock:
                if not self.ended:
                    _raise_in(module.thread, Stopped)


def _raise_in(thread, exception):
    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(exception))


_calls = {}
_calls_lock = threading.Lock()


def _on_loop(call, module, make):
    """Runs a coroutine in the loop of its module, and waits for it."""
    result = concurrent.futures.Future()

    async def run():
        try:
            value = await make()
        except asyncio.CancelledError:
            result.set_exception(Stopped())
        except BaseException as e:
            result.set_exception(e)
        else:
            result.set_result(value)

    def ended(_task):
        if not result.done():  # it was cancelled before it began
            result.set_exception(Stopped())

    def begin():
        with call.lock:
            if call.stopped:
                result.set_exception(Stopped())
                return
            call.module = module
            call.task = module.loop.create_task(run())
            call.task.add_done_callback(ended)

    module.loop.call_soon_threadsafe(begin)
    return result.result()


def _emitter(call):
    async def emit(event):
        if isinstance(event, dict):
            await asyncio.wrap_future(_ask({"call": call.id, "emit": event}))

    return emit


def _caller(call):
    async def ask(event):
        answer = await asyncio.wrap_future(_ask({"call": call.id, "question": event}))
        return {"error": answer["error"]} if answer.get("error") else answer.get("value")

    return ask


class _Namespace(types.SimpleNamespace):
    """An object any attribute of which is there."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        value = _Namespace()
        setattr(self, name, value)
        return value


def _coerced(value, hint):
    """Puts a number or a text right that the model sent as the other."""
    kinds = set(typing.get_args(hint))
    if isinstance(value, str) and (hint is int or kinds == {int, type(None)}):
        return int(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and (hint is str or kinds == {str, type(None)}):
        return str(value)
    return value


def _op_call(request, module, call):
    function = getattr(module.object, request["function"])
    takes = inspect.signature(function).parameters
    try:
        hints = typing.get_type_hints(function)
    except Exception:
        hints = {}
    cls = _valves_class(module, False)
    if cls is not None and hasattr(module.object, "valves"):
        module.object.valves = cls(**(request.get("valves") or {}))
    extra = dict(request.get("extra") or {})
    user = dict(extra.get("__user__") or {})
    cls = _valves_class(module, True)
    if cls is not None:
        user["valves"] = cls(**(request.get("user_valves") or {}))
    extra["__user__"] = user
    extra["__event_emitter__"], extra["__event_call__"] = _emitter(call), _caller(call)
    extra["__request__"] = _Namespace(headers={}, cookies={}, query_params={})
    arguments = {k: v for k, v in extra.items() if k in takes}
    for name, value in request["arguments"].items():
        if name in takes and value is not None:
            value = _coerced(value, hints.get(name, takes[name].annotation))
        arguments[name] = value
    if inspect.iscoroutinefunction(function):
        value = _on_loop(call, module, lambda: function(**arguments))
    else:
        value = function(**arguments)
        if inspect.isawaitable(value):
            async def wait():
                return await value

            value = _on_loop(call, module, wait)
    return _result(value)


def _is_page(value):
    return any(c.__name__ == "HTMLResponse" for c in type(value).__mro__) and hasattr(value, "body")


def _result(value):
    context = None
    if isinstance(value, tuple) and len(value) == 2 and _is_page(value[0]):
        value, context = value
    if _is_page(value):
        body = bytes(value.body).decode("utf-8", "replace")
        if "inline" not in value.headers.get("Content-Disposition", ""):
            return {"content": body}
        return {"page": body, "status": value.status_code, "content": context if isinstance(context, (str, dict, list)) else None}
    if isinstance(value, tuple):
        return {"content": json.dumps(value[0], indent=2, ensure_ascii=False) if value else ""}
    if value is None or isinstance(value, (str, dict, list)):
        json.dumps(value)  # the error is the tool's
        return {"content": value}
    return {"content": str(value)}


# ---- requests

def _op_load(request, call):
    for path in request.get("paths") or ():
        if path not in sys.path:
            sys.path.append(path)
    module = Module(request["kind"], request["module"])
    try:
        async def load():
            module.load(request["source"])

        _on_loop(call, module, load)
        out = {
            "class": module.found,
            "valves": hasattr(module.object, "Valves"),
            "user_valves": hasattr(module.object, "UserValves"),
        }
        if request["kind"] == "tool":
            functions = list(_functions(module.object))
            out["specs"] = [_spec(f) for f in functions]
            out["offered"] = {f.__name__: _offered(f) for f in functions}
            out["takes"] = {f.__name__: [p for p in inspect.signature(f).parameters if p.startswith("__")] for f in functions}
    except BaseException:
        module.drop()
        raise
    _keep((request["kind"], request["module"], request["hash"]), module)
    return out


OPS = {"schema": _op_schema, "valves": _op_valves, "check": _op_check}


def _serve(request, call):
    number = request["id"]
    try:
        try:
            if request["op"] == "load":
                value = _op_load(request, call)
            elif request["op"] == "call":
                with _using(request) as module:
                    value = _op_call(request, module, call)
            else:
                with _using(request) as module:
                    value = OPS[request["op"]](request, module)
        finally:
            with call.lock:
                call.ended = True
        message = {"id": number, "value": value}
    except Refused as e:
        message = {"id": number, "error": {"kind": e.kind, "text": str(e)}}
    except Stopped:
        message = {"id": number, "error": {"kind": "stopped", "text": "The call was stopped"}}
    except BaseException as e:  # SystemExit too: it is the call that ends
        if not isinstance(e, SyntaxError):
            traceback.print_exc()
        message = {"id": number, "error": {"kind": "raised", "type": type(e).__name__, "text": str(e)}}
    with _calls_lock:
        _calls.pop(number, None)
    _send(message)


def main():
    try:
        import pydantic

        version = pydantic.VERSION
    except ImportError:
        version = None
    sys.meta_path.append(StandIns())  # asked last
    _send({"hello": {"python": "%d.%d.%d" % sys.version_info[:3], "pydantic": version}})
    while True:
        line = _in.readline()
        if not line:
            os._exit(0)
        message = json.loads(line)
        if "answer" in message:
            _answer(message)
        elif message["op"] == "ping":
            _send({"id": message["id"], "value": None})
        elif message["op"] == "stop":
            with _calls_lock:
                call = _calls.get(message["call"])
            if call is not None:
                threading.Thread(target=call.stop, daemon=True).start()
        else:
            call = Call(message["id"])
            with _calls_lock:
                _calls[call.id] = call
            call.thread = threading.Thread(target=_serve, args=(message, call), daemon=True)
            call.thread.start()


main()
