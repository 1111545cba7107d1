#!/usr/bin/env python3
"""Holds Galley against the real Open WebUI on the same data: what each says about it, and what one makes of the other's writes.

    dropin.py --galley PROGRAM --reference PYTHON --upstream PROGRAM --contract DIR --work DIR [--postgres URL] [--frontend DIR]

PYTHON is the interpreter of an environment that has the reference (.ci/reference.txt). On a new SQLite data folder, and side by side
in a new database of the PostgreSQL server at URL:

    make     the reference starts on nothing and is filled through its own API, by the recorded scenarios and by seed() below
    compare  what it says to every account is asked of it, then of Galley on the same data, with the sessions it gave out
    write    Galley is filled in the same way, by old accounts and new ones; rows of all others must stay as they are
    return   the reference starts again, must say what Galley said, and writes on; then Galley must say what the reference said

What is asked are all GET operations of the modules that Galley has, for every row that they can be asked about: see ROWS.
"""
import argparse
import base64
import collections
import concurrent.futures
import glob
import hashlib
import hmac
import json
import os
import pickle
import re
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
import time
import traceback
import urllib.parse
import urllib.request
import zlib

import psycopg
import requests
import socketio

SECRET = "drop-in-secret"
STARTS = 180  # seconds that a server may take until it is ready
STOPS = 60
PASSWORD = "contract-user-1"  # as replay.py gives to the people of scenarios
HERE = os.path.dirname(os.path.abspath(__file__))
MODULES = os.path.join(HERE, "..", "core", "app", "modules.go")

# What the reference is filled with: scenarios by the beginning of their names. What they delete is left, so that it can be looked at.
# Modules that Galley does not have are in it too: their rows are to stay as they are.
MADE = """
    chats-archive chats-branches chats-clone chats-export chats-folder chats-fork chats-import chats-list chats-message-e chats-messages
    chats-new chats-params chats-pin chats-read chats-search chats-share chats-stats chats-tags chats-admin
    folders-crud folders-read folders-share folders-tree files-upload files-html files-list files-content files-rename
    prompts models-create models-access models-update models-history models-profile models-export models-chat-access tools-create tools-access tools-update tools-valves
    skills memories-crud memories-paths memories-search memories-operations groups configs users-me users-settings users-status
    notifications-targets notes-create notes-pin notes-access channels-standard channels-dm channels-threads channels-reactions
    channels-webhooks knowledge-create knowledge-directories knowledge-file-add functions-create functions-history
    calendars-events automations-crud evaluations-feedback apps-manage search-basic
    app-turn-new app-turn-ollama app-turn-think app-turn-tools app-turn-two app-turn-regenerate app-turn-err-500 chats-config
""".split()

# What Galley is filled with; there with what the scenarios delete.
WRITTEN = """
    auths-add auths-profile auths-api-keys users-update users-me users-settings users-status users-default groups
    chats- folders- files-upload files-html files-list files-content files-rename
    prompts models-create models-access models-update models-history models-profile models-export models-toggle models-permission
    tools-create tools-access tools-update tools-valves tools-export memories-crud memories-paths memories-search memories-operations
    configs notifications-targets search-basic search-scope
    app-turn-new app-turn-ollama app-turn-think app-turn-tools app-turn-two app-turn-regenerate app-turn-err app-turn-stop app-turn-approval
""".split()

# What the reference writes after Galley.
REWRITTEN = """
    chats-branches chats-folder chats-share chats-tags folders-tree files-upload-text prompts-update models-update groups-members
    memories-paths app-turn-new app-turn-tools
""".split()

# Scenarios that change what all others depend on, and are played by themselves.
ALONE = re.compile(r"auths-|users-|configs-|chats-config|.*-(disabled|off|permission|permissions)$|chats-share-open|groups-|notifications-|automations-|apps-|notes-|channels-|calendars-")
LANES = 3  # most of a scenario's time is waiting

SLOW = {"chats-share-open", "chats-compact"}  # nothing is left of them that others do not leave

# --- what is asked

# The rows that an operation is asked about: columns are the operation's parameters, owner is who is asked all of his. By tag, and by path
# where that needs others.
ROWS = {
    "chats": 'SELECT user_id AS owner, id, id AS chat_id FROM chat',
    "folders": 'SELECT user_id AS owner, id FROM folder',
    "files": 'SELECT user_id AS owner, id, filename AS file_name FROM file',
    "users": 'SELECT id AS owner, id AS user_id FROM "user"',
    "groups": 'SELECT user_id AS owner, id FROM "group"',
    "models": 'SELECT user_id AS owner, id FROM model',
    "prompts": 'SELECT user_id AS owner, id AS prompt_id FROM prompt',
    "tools": 'SELECT user_id AS owner, id FROM tool',
    "skills": 'SELECT user_id AS owner, id FROM skill',
    "functions": 'SELECT user_id AS owner, id FROM function',
    "notes": 'SELECT user_id AS owner, id FROM note',
    "channels": 'SELECT user_id AS owner, id, id AS channel_id FROM channel',
    "knowledge": 'SELECT user_id AS owner, id FROM knowledge',
    "evaluations": 'SELECT user_id AS owner, id FROM feedback',
    "calendars": 'SELECT user_id AS owner, id AS calendar_id FROM calendar',
    "automations": 'SELECT user_id AS owner, id FROM automation',
    "apps": 'SELECT user_id AS owner, id AS app_id FROM app',
    "/api/tasks/chat/{chat_id}": 'SELECT user_id AS owner, id AS chat_id FROM chat',
    "/api/v1/chats/share/{share_id}": 'SELECT user_id AS owner, id AS share_id FROM shared_chat UNION SELECT user_id, chat_id FROM shared_chat',
    "/api/v1/chats/folder/{folder_id}": 'SELECT user_id AS owner, id AS folder_id FROM folder',
    "/api/v1/chats/folder/{folder_id}/list": 'SELECT user_id AS owner, id AS folder_id FROM folder',
    "/api/v1/chats/list/user/{user_id}": 'SELECT id AS owner, id AS user_id FROM "user"',
    "/api/v1/models/model/history/{history_id}": 'SELECT user_id AS owner, model_id AS id, id AS history_id FROM model_history',
    "/api/v1/prompts/id/{prompt_id}/history/{history_id}": 'SELECT user_id AS owner, prompt_id, id AS history_id FROM prompt_history',
    "/api/v1/prompts/id/{prompt_id}/history/diff":
        'SELECT a.user_id AS owner, a.prompt_id, a.id AS from_id, b.id AS to_id FROM prompt_history a JOIN prompt_history b ON b.parent_id = a.id',
    "/api/v1/tools/id/{id}/history/{history_id}": 'SELECT user_id AS owner, tool_id AS id, id AS history_id FROM tool_history',
    "/api/v1/tools/id/{id}/history/diff":
        'SELECT a.user_id AS owner, a.tool_id AS id, a.id AS from_id, b.id AS to_id FROM tool_history a JOIN tool_history b ON b.parent_id = a.id',
    "/openai/models/{url_idx}": "SELECT 'admin' AS owner, '0' AS url_idx",
    "/openai/models/{url_idx}/catalog": "SELECT 'admin' AS owner, '0' AS url_idx",
    "/ollama/api/tags/{url_idx}": "SELECT 'admin' AS owner, '0' AS url_idx",
    "/ollama/api/version/{url_idx}": "SELECT 'admin' AS owner, '0' AS url_idx",
    "/ollama/v1/models/{url_idx}": "SELECT 'admin' AS owner, '0' AS url_idx",
    "/api/v1/configs/namespace/{namespace}": "SELECT DISTINCT 'admin' AS owner, replace(substr(key, 1, 4), '.e', '') AS namespace FROM config WHERE key LIKE 'auth.%' OR key LIKE 'rag.e%'",
}

# Ways of asking an operation besides the plain one.
QUERIES = {
    "/api/models": [{"refresh": "true"}],
    "/api/v1/chats/": [{"page": 1}, {"page": 2}, {"page": 1, "include_pinned": "true", "include_folders": "true"},
                       {"page": 1, "sort_by": "title", "sort_dir": "asc"}, {"page": 1, "sort_by": "created_at", "sort_dir": "asc"}],
    "/api/v1/chats/list": [{"page": 1}, {"page": 2}, {"page": 1, "include_pinned": "true", "include_folders": "true"}, {"page": 1, "sort_by": "title", "sort_dir": "desc"}],
    "/api/v1/chats/search": [{"text": t} for t in ("lentils", "tag:none", "pinned:true", "archived:true", "shared:true", "folder:none", "e", "Ö")],
    "/api/v1/chats/archived": [{"page": 1, "order_by": "title", "direction": "asc"}, {"query": "a"}],
    "/api/v1/chats/shared": [{"page": 1, "order_by": "title", "direction": "desc"}, {"query": "e"}],
    "/api/v1/chats/list/user/{user_id}": [{"page": 1, "query": "a", "order_by": "title", "direction": "asc"}],
    "/api/v1/chats/folder/{folder_id}/list": [{"page": 1, "sort_by": "title", "sort_dir": "asc"}],
    "/api/v1/chats/stats/export": [{"page": 1}],
    "/api/v1/files/": [{"page": 1, "content": "false"}, {"page": 2}],
    "/api/v1/files/search": [{"filename": f} for f in ("*", "*.txt", "a*", "no-such-file")],
    "/api/v1/files/user/search": [{"filename": f} for f in ("*.csv", "*e*")],
    "/api/v1/files/{id}/content": [{"attachment": "true"}],
    "/api/v1/groups/": [{"share": "true"}],
    "/api/v1/groups/id/{id}/members": [{"membership": "all"}, {"query": "a", "page": 1}],
    "/api/v1/models/list": [{"page": 1, "order_by": o, "direction": d} for o, d in (("name", "asc"), ("created_at", "desc"), ("updated_at", "asc"))]
                           + [{"query": "e"}, {"view_option": "created"}, {"view_option": "shared"}],
    "/api/v1/prompts/list": [{"page": 1, "order_by": o, "direction": d} for o, d in (("name", "asc"), ("created_at", "desc"), ("updated_at", "asc"))]
                            + [{"query": "e"}, {"view_option": "created"}, {"view_option": "shared"}],
    "/api/v1/search": [{"q": q} for q in ("lentils", "e")] + [{"q": "a", "kind": k} for k in ("chat", "folder", "file", "prompt", "model")],
    "/api/v1/users/": [{"page": 1, "order_by": o, "direction": "asc"} for o in ("name", "email", "role", "created_at")]
                      + [{"page": 2}, {"page": 2, "order_by": "email", "direction": "asc"}, {"query": "an"}],
    "/api/v1/users/usage": [{"start_date": int(time.time()) // 86400 * 86400 - 30 * 86400, "end_date": int(time.time()) // 86400 * 86400 + 2 * 86400}],
    "/api/v1/users/search": [{"query": "a", "order_by": o, "direction": "asc"} for o in ("name", "email")],
    "/api/v1/users/groups": [{"include_inherited": "true"}],
    "/api/v1/users/{user_id}/groups": [{"include_inherited": "true"}],
    "/api/v1/users/user/settings": [{"raw": "true"}],
    "/api/v1/utils/gravatar": [{"email": "someone@example.org"}],
    "/api/v1/models/model/profile/image": [],
}

# Operations that say something of now if they are asked plainly.
NOT_PLAIN = {"/api/v1/users/usage"}

# Operations that are not asked, and why.
NOT_ASKED = {
    "/api/changelog": "is the program's own",
    "/api/usage": "is about sockets that are open now",
    "/api/tasks": "is about work that goes on now",
    "/api/version/updates": "asks another server",
    "/api/v1/utils/db/download": "is the database's file, which the checks of rows look into",
    "/api/v1/users/{user_id}/active": "is about the last minutes",
    "/oauth/clients/{client_id}/authorize": "redirects with a new state",
    "/oauth/clients/{client_id}/callback": "is for a provider's answer",
    "/oauth/{provider}/callback": "is for a provider's answer",
    "/oauth/{provider}/login": "redirects with a new state",
    "/oauth/{provider}/login/callback": "is for a provider's answer",
    "/openai/{path}": "passes anything on",
    "/openai/models/{url_idx}/sse": "is a stream without end",
    "/openai/models/{url_idx}/download/status/{job_id}": "is about work that goes on now",
    "/api/v1/pipelines/{pipeline_id}/valves": "is a pipeline's",
    "/api/v1/pipelines/{pipeline_id}/valves/spec": "is a pipeline's",
    "/cache/{path}": "is asked for the files there are",
    "/health/db": "is about now",
}

# Members of answers that are not compared, and why.
NOT_COMPARED = [
    (r"/api/v1/(users|groups|auths)/.*", r"(^|\.)(last_active_at|is_active)$", "move with each request, whoever answers it"),
    (r"/ollama/v1/models.*", r"\.created$", "is now"),
    (r"/manifest.json", r"^body\.description$", "is a text for people, in words of the program's own"),
    (r"/opensearch.xml", r"^body$", "is a text for people, in words of the program's own"),
    (r"/api/events", r"\.(description|message)$", "are texts for people, in words of the program's own"),
]

# Operations that tell little more of a row than others do: administrators ask them of a few only.
MINOR = {"/api/tasks/chat/{chat_id}", "/api/v1/chats/stats/export/{chat_id}", "/api/v1/chats/{id}/pinned", "/api/v1/chats/{id}/tags", "/api/v1/files/{id}/content/{file_name}",
         "/api/v1/files/{id}/content/html", "/api/v1/files/{id}/process/status", "/api/v1/chats/folder/{folder_id}", "/api/v1/users/{user_id}/oauth/sessions"}

# Lists that are sorted by something that several items can share, and by nothing after that: the operation, the parameter that names what
# they are sorted by, and what they are sorted by without it. Items that share it are in any order.
TIES = {
    "/api/v1/models/list": ("order_by", "created_at"),
    "/api/v1/prompts/list": ("order_by", "updated_at"),
    "/api/v1/models/export": (None, "created_at"),
    "/api/v1/prompts/id/{prompt_id}/history": (None, "created_at"),
}

# Many lists of the reference are sorted by something that several items share, such as seconds, or not at all. PostgreSQL gives rows
# then as they happen to lie: there the outermost lists are compared without their order, and of these operations all lists.
UNSORTED = re.compile(r"/api/models|/api/v1/models|/api/v1/models/(list|all|export|model|base|tags)|/api/v1/groups/|/api/v1/groups/id/\{id\}/(export|members)|"
                      r"/api/v1/folders/|/api/v1/users/(usage|all|groups|\{user_id\}/groups)|/api/v1/prompts/(list|tags)?|/api/v1/tools/(list|export)?|/api/v1/chats/shared/\{id\}/access")
# Pages of such lists, where even the page is open; they are asked in an order of their own.
UNPAGED = {"/api/v1/users/": "order_by=email", "/api/v1/users/search": "order_by=email"}


class Wrong(Exception):
    """What a test found, in words."""


def say(text):
    print(text, flush=True)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# --- the data, looked at from outside


class SQLite:
    name = "sqlite"

    def __init__(self, data):
        self.path, self.url = os.path.join(data, "webui.db"), None

    def query(self, sql):
        with sqlite3.connect(self.path, timeout=30) as db:
            db.execute("PRAGMA query_only = 1")
            cursor = db.execute(sql)
            names = [c[0] for c in cursor.description]
            return [dict(zip(names, row)) for row in cursor]

    def tables(self):
        names = [r["name"] for r in self.query("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
        return {n: [r["name"] for r in self.query('PRAGMA table_info("%s")' % n) if r["pk"]] for n in sorted(names) if not n.startswith("galley_")}

    def rows(self, table):
        return self.query('SELECT * FROM "%s"' % table)

    def schema(self):
        """The reference's tables and columns; Galley's own tables and indexes stand beside them."""
        return {r["name"]: r["sql"] for r in self.query("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL") if "galley" not in r["name"]}

    def drop(self):
        pass


class Postgres:
    name = "postgres"

    def __init__(self, server, name):
        self.server, self.database = server, name
        parts = urllib.parse.urlsplit(server)
        self.url = urllib.parse.urlunsplit(parts._replace(path="/" + name, query=""))
        self.admin('DROP DATABASE IF EXISTS "%s"' % name)
        self.admin('CREATE DATABASE "%s"' % name)

    def admin(self, sql):
        with psycopg.connect(self.server, autocommit=True) as db:
            db.execute(sql)

    def query(self, sql):
        with psycopg.connect(self.url, autocommit=True) as db:
            cursor = db.execute(sql)
            names = [c.name for c in cursor.description]
            return [dict(zip(names, row)) for row in cursor]

    def tables(self):
        rows = self.query("SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public' AND table_name NOT LIKE 'galley\\_%'")
        keys = collections.defaultdict(list)
        for r in self.query("SELECT c.relname, a.attname FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid "
                            "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(i.indkey) WHERE i.indisprimary ORDER BY a.attnum"):
            keys[r["relname"]].append(r["attname"])
        return {r["name"]: keys[r["name"]] for r in sorted(rows, key=lambda r: r["name"])}

    def rows(self, table):
        columns = self.query("SELECT column_name AS c FROM information_schema.columns WHERE table_schema = 'public' AND table_name = '%s'" % table)
        return self.query('SELECT %s FROM "%s"' % (", ".join('"%s"::text' % r["c"] for r in columns), table))

    def schema(self):
        out = {}
        for r in self.query("SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns WHERE table_schema = 'public'"):
            out[r["table_name"] + "." + r["column_name"]] = (r["data_type"], r["is_nullable"], r["column_default"])
        for r in self.query("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"):
            out[r["indexname"]] = r["indexdef"]
        for r in self.query("SELECT conname, conrelid::regclass::text AS t, pg_get_constraintdef(oid) AS d FROM pg_constraint WHERE connamespace = 'public'::regnamespace"):
            out[r["t"] + ":" + r["conname"]] = r["d"]
        return {k: v for k, v in out.items() if "galley" not in k}

    def drop(self):
        self.admin('DROP DATABASE IF EXISTS "%s" WITH (FORCE)' % self.database)


def snapshot(db):
    """All rows of the reference's tables, by table and key."""
    out = {}
    for table, key in db.tables().items():
        rows = db.rows(table)
        out[table] = {tuple(str(r[k]) for k in key or r): {c: str(v) for c, v in r.items()} for r in rows}
    return out


def changed_rows(before, after, allowed):
    """What became of rows of before, where allowed(table, old row, column) does not let it; a deleted row has column None."""
    out = []
    for table, rows in before.items():
        for key, old in rows.items():
            new = after.get(table, {}).get(key)
            if new is None:
                if not allowed(table, old, None):
                    out.append("%s %s: the row is gone" % (table, "/".join(key)))
                continue
            for column, value in old.items():
                if new.get(column) != value and not allowed(table, old, column):
                    out.append("%s %s: %s was %s, is %s" % (table, "/".join(key), column, value[:200], str(new.get(column))[:200]))
    return out


def uploads(data):
    """Digests of the files in the folders of the data that belong to users."""
    out = {}
    for folder, _, names in os.walk(os.path.join(data, "uploads")):
        for n in names:
            path = os.path.join(folder, n)
            out[os.path.relpath(path, data)] = hashlib.sha256(open(path, "rb").read()).hexdigest()
    return out


# --- servers


class Server:
    """Galley or the reference on a data folder, until stop()."""

    def __init__(self, run, kind):
        self.kind, self.run = kind, run
        self.port = free_port()
        self.base = "http://127.0.0.1:%d" % self.port
        run.starts += 1
        self.log = os.path.join(run.args.work, "logs", "dropin-%s-%d-%s" % (run.db.name, run.starts, kind))
        env = {
            "PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "HOST": "127.0.0.1", "PORT": str(self.port),
            "DATA_DIR": run.data, "WEBUI_SECRET_KEY": SECRET, **({"DATABASE_URL": run.db.url} if run.db.url else {}),
            "OPENAI_API_BASE_URL": run.upstream + "/v1", "OPENAI_API_KEY": "sk-test", "OLLAMA_BASE_URL": run.upstream,
            "RAG_EMBEDDING_ENGINE": "openai", "RAG_OPENAI_API_BASE_URL": run.upstream + "/v1", "RAG_OPENAI_API_KEY": "sk-test",
            "ENABLE_OLLAMA_API": "true", "ENABLE_VERSION_UPDATE_CHECK": "false", "OFFLINE_MODE": "true",
        }
        if kind == "galley":
            env["GALLEY_PYTHON"] = os.environ.get("GALLEY_PYTHON", sys.executable)
            command = [run.args.galley, "serve"]
            ready = "/ready"
        else:
            # what the package's own command would set
            env.update(FROM_INIT_PY="true", STATIC_DIR=os.path.join(run.data, "static"), HF_HUB_OFFLINE="1", ANONYMIZED_TELEMETRY="false",
                       PYTHONDONTWRITEBYTECODE=os.environ.get("PYTHONDONTWRITEBYTECODE", ""))
            command = [run.args.reference, "-m", "uvicorn", "open_webui.main:app", "--host", "127.0.0.1", "--port", str(self.port),
                       "--forwarded-allow-ips", "*", "--log-level", "warning"]
            ready = "/ready"
        began = time.time()
        self.out = open(self.log, "w")
        self.process = subprocess.Popen(command, stdout=self.out, stderr=subprocess.STDOUT, env=env, cwd=run.dir)
        run.processes.append(self.process)
        end = began + STARTS
        while True:
            try:
                if urllib.request.urlopen(self.base + ready, timeout=5).status == 200:
                    break
            except OSError as e:
                last = e
            if self.process.poll() is not None or time.time() > end:
                raise Wrong("%s does not start: %s\n%s" % (kind, last, open(self.log, errors="replace").read()[-3000:]))
            time.sleep(0.05)
        run.say("%s is ready after %.1f s" % (kind, time.time() - began))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOPS)
        except subprocess.TimeoutExpired:
            raise Wrong("%s does not stop" % self.kind)
        self.out.close()
        if self.kind == "galley":
            text = open(self.log, errors="replace").read()
            wrong = [line[:300] for line in text.splitlines() if "panic" in line or "level=ERROR" in line]
            if code != 0 or wrong:
                raise Wrong("galley ended with %d\n%s" % (code, "\n".join(wrong[:10])))

    def __enter__(self):
        return self

    def __exit__(self, failed, *_):
        if failed:
            self.process.kill()
            self.process.wait()
            self.out.close()
        else:
            self.stop()

    # One request; what else than want is an error.
    def ask(self, method, path, token=None, want=200, **kw):
        headers = kw.pop("headers", {})
        if token:
            headers["Authorization"] = "Bearer " + token
        r = requests.request(method, self.base + path, headers=headers, timeout=60, allow_redirects=False, **kw)
        if want and r.status_code != want:
            raise Wrong("%s: %s %s answers %d: %s" % (self.kind, method, path, r.status_code, r.text[:300]))
        return r.json() if "json" in r.headers.get("content-type", "") else r.content

    def post(self, path, token=None, want=200, **json):
        return self.ask("POST", path, token, want, json=json)

    def connected(self, token):
        """Whether a socket is let in with a token: what the join says."""
        client = socketio.Client(reconnection=False)
        client.connect(self.base, socketio_path="/ws/socket.io", transports=["websocket"], auth={"token": token}, wait_timeout=15)
        try:
            return client.call("user-join", {"auth": {"token": token}}, timeout=15)
        finally:
            client.disconnect()


class Person:
    """An account: what it signs in with, and a session."""

    def __init__(self, name, email, password, ident, token, role="user"):
        self.name, self.email, self.password, self.id, self.token, self.role = name, email, password, ident, token, role

    def __repr__(self):
        return self.name


# --- asking


def operations(contract, built):
    """The GET operations to ask: (path, names of parameters in it, names of required ones in the query, names of all in the query)."""
    doc = json.load(open(os.path.join(contract, "openapi.json")))
    for path, methods in sorted(doc["paths"].items()):
        op = methods.get("get")
        if op is None or path in NOT_ASKED:
            continue
        tag = (op.get("tags") or [None])[0]
        if tag is not None and tag not in built:
            continue
        parameters = op.get("parameters", [])
        yield path, tag, re.findall(r"\{(\w+)\}", path), [p["name"] for p in parameters if p["in"] == "query" and p.get("required")]


def built_tags():
    """The tags of the API that Galley has, from its own list, and those that have no quiet answers to replace."""
    listed = re.search(r"var built = \[\]string\{([^}]*)\}", open(MODULES).read())
    return set(re.findall(r'"([a-z_]+)"', listed[1])) | {"utils"}


class Asking:
    """Everything that the accounts may ask of a server."""

    def __init__(self, run):
        self.run, self.operations = run, list(operations(run.args.contract, built_tags()))
        self.local = threading.local()

    def rows(self):
        cache = {}

        def get(sql):
            if sql not in cache:
                cache[sql] = sorted((r for r in self.run.db.query(sql)), key=lambda r: json.dumps(r, sort_keys=True, default=str))
            return cache[sql]
        return get

    def requests(self, people):
        """(person, operation, URL) for all of it."""
        rows = self.rows()
        grants = collections.defaultdict(set)
        groups = collections.defaultdict(set)
        for r in rows("SELECT group_id, user_id FROM group_member"):
            groups[r["user_id"]].add(r["group_id"])
        for r in rows("SELECT resource_id, principal_id FROM access_grant"):
            grants[r["principal_id"]].add(r["resource_id"])
        out = []
        for person in people:
            granted = grants[person.id] | grants["*"] | grants["anyone"] | set().union(*(grants[g] for g in groups[person.id]))
            for path, tag, in_path, in_query in self.operations:
                # every way of asking is for the first few, one is for all
                ways = QUERIES.get(path, [])[:None if person in people[:4] else 1]
                table = ROWS.get(path) or ROWS.get(tag) if in_path or (in_query and path not in QUERIES) or path in ROWS else None
                if table is None and in_path:
                    raise Wrong("no rows are known that %s could be asked about: see ROWS" % path)
                if path in NOT_PLAIN or not in_path and in_query and ways:
                    out += [(person, path, path + "?" + urllib.parse.urlencode(q)) for q in ways]
                    continue
                if table is None:
                    out += [(person, path, path + ("?" + urllib.parse.urlencode(q) if q else "")) for q in [{}] + ways]
                    continue
                known = rows(table)
                mine = [r for r in known if r["owner"] == person.id or (person is self.run.admin and path not in MINOR) or (granted & {str(v) for k, v in r.items() if k != "owner"})]
                others = [r for r in known if r not in mine]
                # a few of those that are none of his business, others for each account
                mine += sorted(others, key=lambda r: zlib.crc32((person.id + json.dumps(r, default=str)).encode()))[:5 if person.role == "admin" else 1 if person in people[:6] else 0]
                if person in people[:2] and known:
                    mine.append(dict.fromkeys(known[0], "no-such-row"))
                for r in mine:
                    url = path
                    for name in in_path:
                        url = url.replace("{%s}" % name, urllib.parse.quote(str(r[name]), safe=""))
                    required = {name: r[name] for name in in_query}
                    out += [(person, path, url + ("?" + urllib.parse.urlencode({**required, **q}) if q or required else "")) for q in [{}] + ways]
        return out

    def one(self, server, person, url):
        if not hasattr(self.local, "session"):
            self.local.session = requests.Session()
        r = self.local.session.get(server.base + url, headers={"Authorization": "Bearer " + person.token}, timeout=60, allow_redirects=False)
        self.local.session.cookies.clear()
        kind = r.headers.get("content-type", "").split(";")[0]
        body = None
        if "json" in kind and "ndjson" not in kind:
            try:
                body = r.json()
            except ValueError:
                body = r.text
        elif "ndjson" in kind:
            body = [json.loads(line) for line in r.text.splitlines() if line.strip()]
        elif kind.startswith("text/") or kind == "":
            body = r.text
        else:
            body = "%d bytes, sha256 %s" % (len(r.content), hashlib.sha256(r.content).hexdigest())
        return {"status": r.status_code, "type": kind, "disposition": r.headers.get("content-disposition"), "location": r.headers.get("location"), "body": body}

    def all(self, server, people):
        """Answers to everything, by (name, operation, URL). What the first ordinary account may not ask at all, the others do not ask."""
        asked = self.requests(people)
        ordinary = next(p for p in people if p.role == "user")
        refused = {path for p, path, url in asked if p is ordinary and "{" not in path and self.one(server, p, url)["status"] in (401, 403)}
        return self.these(server, [a for a in asked if a[0].role == "admin" or a[0] is ordinary or a[1] not in refused])

    def these(self, server, asked):
        began = time.time()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda a: self.one(server, a[0], a[2]), asked))
        self.run.say("%s answered %d requests of %d accounts in %.0f s" % (server.kind, len(asked), len({a[0] for a in asked}), time.time() - began))
        return {(p.name, path, url): untied(path, url, a) for (p, path, url), a in zip(asked, answers)}


def untied(path, url, answer):
    """An answer with the items that share what they are sorted by in the order of their ids."""
    if path in TIES and answer["status"] == 200:
        parameter, by = TIES[path]
        by = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query).get(parameter, [by])[0]
        body = answer["body"]
        items = body if isinstance(body, list) else body.get("items", body.get("data"))
        i = 0
        while i < len(items):
            j = i + 1
            while j < len(items) and items[j].get(by) == items[i].get(by):
                j += 1
            items[i:j] = sorted(items[i:j], key=lambda item: item["id"])
            i = j
    return answer


def differences(a, b, where=""):
    """(path, value in a, value in b) for whatever differs."""
    if isinstance(a, dict) and isinstance(b, dict):
        out = []
        for k in a.keys() | b.keys():
            at = where + "." + str(k) if where else str(k)
            if k not in a or k not in b:
                out.append((at, a.get(k, "(absent)"), b.get(k, "(absent)")))
            else:
                out += differences(a[k], b[k], at)
        return out
    if isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            return [(where, "%d items" % len(a), "%d items" % len(b))]
        return [d for i, (x, y) in enumerate(zip(a, b)) for d in differences(x, y, "%s.%d" % (where, i))]
    if isinstance(a, bool) != isinstance(b, bool) or a != b:
        return [(where, a, b)]
    return []


def name_of(value):
    return str(value.get("id") or value.get("event") or json.dumps(value, sort_keys=True)) if isinstance(value, dict) else json.dumps(value, sort_keys=True)


def sorted_lists(value, deep, depth=0):
    """A value with its outermost lists, or all, in an order that is the same for all that hold the same."""
    if isinstance(value, list):
        return sorted((sorted_lists(v, True, depth) if deep else v for v in value), key=name_of)
    if isinstance(value, dict):
        out = {k: v for k, v in value.items() if k not in ("is_active", "last_active_at")}
        return {k: sorted_lists(v, deep, depth + 1) if deep or depth == 0 else v for k, v in out.items()}
    return value


def compared(says, said, of, with_, sorts):
    """A report of how two servers' answers differ: lines. sorts is false for a database that sorts only what it is told to."""
    found = collections.defaultdict(list)
    for key in said:
        if not sorts and key[1] in UNPAGED and UNPAGED[key[1]] not in key[2]:
            continue
        if not sorts:
            deep = UNSORTED.fullmatch(key[1])
            said[key], says[key] = ({**a, "body": sorted_lists(a["body"], deep)} for a in (said[key], says[key]))
        for where, a, b in differences(said[key], says[key]):
            if not any(re.fullmatch(p, key[1]) and re.search(f, where) for p, f, _ in NOT_COMPARED):
                found[key[1], re.sub(r"\.\d+(?=\.|$)", ".*", re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", where))].append((key, a, b))
    lines = []
    for (path, where), cases in sorted(found.items()):
        (person, _, url), a, b = cases[0]
        lines.append("GET %s: %s differs in %d answers" % (path, where, len(cases)))
        lines.append("    %s asks %s\n        %s: %s\n        %s: %s" % (person, url, of, json.dumps(a, default=str)[:300], with_, json.dumps(b, default=str)[:300]))
    return lines


# --- filling


def scenarios(contract, beginnings):
    """The scenarios whose names begin so, in the order of the beginnings."""
    names = sorted(os.path.basename(p)[:-len(".json")] for p in glob.glob(os.path.join(contract, "scenarios", "*.json")))
    out = []
    for b in beginnings:
        found = [n for n in names if n.startswith(b) and n not in SLOW and n not in out]
        if not found:
            raise Wrong("no scenario begins with %s" % b)
        out += found
    return [os.path.join(contract, "scenarios", n + ".json") for n in out]


def filling(replay, people, deletes):
    """A class of scenarios whose people are some of these accounts in turn, so that each comes to have much; deletes says whether
    what they delete is deleted. Scenarios that change accounts have people of their own."""

    class Filling(replay.Scenario):
        turn = 0

        def account(self, name):
            known = (self.doc.get("users") or {}).get(name)
            if known is None or known.get("role", "user") != "user" or name + ".token" in self.vars or self.name.split("-")[0] in ("auths", "users"):
                return super().account(name)
            person = people[Filling.turn % len(people)]
            Filling.turn += 1
            self.vars[name + ".token"], self.vars[name + ".id"], self.vars[name + ".email"] = person.token, person.id, person.email
            return person.token

        def send(self, step):
            call = step.get("call", "")
            if not deletes and (call.startswith("DELETE /api/") or call.endswith("/delete")) and "/tags" not in call:
                return {"status": 0, "body": None}
            return super().send({**step, "until_within": min(step.get("until_within", 15), 5)})

    return Filling


def code(secret, step):
    """The code of an authenticator app."""
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    digest = hmac.new(key, struct.pack(">Q", step), hashlib.sha1).digest()
    at = digest[-1] & 15
    return "%06d" % ((struct.unpack(">I", digest[at:at + 4])[0] & 0x7FFFFFFF) % 1000000)


class Factor:
    """Somebody's authenticator app; each code is good once."""

    def __init__(self, secret, recovery, step):
        self.secret, self.recovery, self.step = secret, recovery, step

    def code(self):
        now = int(time.time()) // 30
        while self.step + 1 > now + 1:
            time.sleep(1)  # the codes of this minute are used up
            now = int(time.time()) // 30
        self.step = max(self.step + 1, now - 1)
        return code(self.secret, self.step)


class Run:
    """All of it on one database."""

    def __init__(self, args, kind):
        self.args, self.processes, self.starts, self.began, self.wrong = args, [], 0, time.time(), []
        self.dir = os.path.join(args.work, "dropin-" + kind)
        self.data = os.path.join(self.dir, "data")
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(os.path.join(self.data, "static"))
        os.makedirs(os.path.join(args.work, "logs"), exist_ok=True)
        self.db = SQLite(self.data) if kind == "sqlite" else Postgres(args.postgres, "dropin_%d" % os.getpid())
        if args.frontend:
            os.symlink(os.path.abspath(args.frontend), os.path.join(self.data, "frontend"))
        sys.path.insert(0, args.contract)
        import replay
        self.replay = replay
        self.asking = Asking(self)
        self.people, self.factors, self.checks = [], {}, []

    def say(self, text):
        say("%-8s %4d s  %s" % (self.db.name, time.time() - self.began, text))

    def found(self, what, lines):
        """Notes what is wrong."""
        if lines:
            self.wrong.append("%s: %s" % (self.db.name, what) + "".join("\n    " + line for line in lines[:60]) + ("\n    … %d lines more" % (len(lines) - 60) if len(lines) > 60 else ""))
            self.say("WRONG: " + self.wrong[-1])

    def start_upstream(self):
        address = "127.0.0.1:%d" % free_port()
        if self.args.made:
            address = self.state()[0]
        self.upstream = "http://" + address
        p = subprocess.Popen([self.args.upstream, "-addr", address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.processes.append(p)
        while True:
            try:
                urllib.request.urlopen(self.upstream + "/v1/models", timeout=5)
                return
            except OSError:
                if p.poll() is not None:
                    raise Wrong("the stand-in model server does not start")
                time.sleep(0.05)

    # accounts

    def add(self, server, admin, name, role="user"):
        email = "%s@drop-in.test" % name.lower().replace(" ", ".")
        r = server.post("/api/v1/auths/add", admin.token, name=name, email=email, password=PASSWORD, role=role)
        person = Person(name, email, PASSWORD, r["id"], r["token"], role)
        self.people.append(person)
        return person

    def sign_in(self, server, person):
        """A new session for somebody, with the second factor if the server asks for it."""
        r = server.post("/api/v1/auths/signin", email=person.email, password=person.password)
        if "token" not in r:
            factor = self.factors.get(person.id)
            if factor is None:
                if r.get("next_step") != "enroll":
                    raise Wrong("%s answers the sign-in of %s with %s" % (server.kind, person, r.get("next_step")))
                secret = server.post("/api/v1/auths/mfa/enroll/start", challenge_token=r["challenge_token"])["manual_key"].replace(" ", "")
                factor = Factor(secret, None, 0)
                r = server.post("/api/v1/auths/mfa/enroll/confirm", challenge_token=r["challenge_token"], code=factor.code())
                factor.recovery = r["recovery_codes"]
                self.factors[person.id] = factor
            elif len(factor.recovery) % 2 == 0:
                r = server.post("/api/v1/auths/mfa/verify", challenge_token=r["challenge_token"], code=factor.recovery.pop(), recovery=True)
            else:
                r = server.post("/api/v1/auths/mfa/verify", challenge_token=r["challenge_token"], code=factor.code())
        person.token = r["token"]
        return person

    def sign_in_all(self, server):
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda p: self.sign_in(server, p), self.people))
        self.say("%s lets all %d accounts in with their passwords" % (server.kind, len(self.people)))

    def second_factors(self, server, admin, *people):
        """Makes second factors the rule for as long as it takes these people to sign in, which ends all sessions twice."""
        self.admin_config(server, admin, ENABLE_MFA=True)
        for p in (admin,) + people:
            self.sign_in(server, p)
            status = server.ask("GET", "/api/v1/auths/mfa/status", p.token)
            if status != {"enabled": True, "required": True, "recovery_codes_remaining": len(self.factors[p.id].recovery)}:
                raise Wrong("%s says of the second factor of %s: %s" % (server.kind, p, status))
        self.admin_config(server, admin, ENABLE_MFA=False)
        self.sign_in(server, admin)

    def admin_config(self, server, admin, **changes):
        config = server.ask("GET", "/api/v1/auths/admin/config", admin.token)
        server.post("/api/v1/auths/admin/config", admin.token, **{**config, **changes})

    def play(self, server, admin, people, beginnings, deletes):
        """Fills a server by scenarios."""
        args = argparse.Namespace(base=server.base, upstream=self.upstream, record=False)
        self.replay.Scenario.admins[server.base] = (admin.token, admin.id)
        began, files = time.time(), scenarios(self.args.contract, beginnings)
        alone = [f for f in files if ALONE.match(os.path.basename(f)[:-len(".json")])]
        rest = [f for f in files if f not in alone]
        lanes = [(filling(self.replay, people[i::LANES], deletes), rest[i::LANES]) for i in range(LANES)]

        def one(kind, path):
            s, at = kind(path, args), time.time()
            try:
                s.run()
            finally:
                for client in s.sockets.values():
                    if client.connected:
                        client.disconnect()
            if self.args.verbose:
                self.say("%-40s %.1f s" % (s.name, time.time() - at))
            return sum(not d for *_, d in s.results), len(s.results)

        with concurrent.futures.ThreadPoolExecutor(LANES) as pool:
            results = [r for lane in pool.map(lambda lane: [one(lane[0], path) for path in lane[1]], lanes) for r in lane]
        kind = filling(self.replay, people, deletes)
        results += [one(kind, path) for path in alone]
        good, steps = map(sum, zip(*results))
        self.say("%s was filled by %d scenarios in %.0f s; %d of %d steps are as recorded" % (server.kind, len(results), time.time() - began, good, steps))

    # the four parts

    def make(self):
        with Server(self, "reference") as ref:
            form = self.replay.ADMIN
            r = ref.post("/api/v1/auths/signup", **form)
            self.admin = admin = Person("admin", form["email"], form["password"], r["id"], r["token"], "admin")
            self.people.append(admin)
            self.keeper = self.add(ref, admin, "Mia Keeper")  # has a second factor
            self.second_factors(ref, admin, self.keeper)
            self.sign_in(ref, self.keeper)
            self.old = [self.add(ref, admin, n) for n in (
                "Ada Lövel", "Ben Ò", "Chloé Dun", "Dan", "Eve", "Fay 漢字", "Gus", "Hal", "Ida", "Jan", "Kim", "Lou")]
            self.second_admin = self.add(ref, admin, "Nora Admin", "admin")
            self.add(ref, admin, "Pete Pending", "pending")
            self.play(ref, admin, self.old, MADE, deletes=False)
            self.seed(ref, "ref", self.old[0], self.old[1], self.old[2:])
            before = self.asking.all(ref, self.people)
        return before

    def compare(self, said, server, of, what):
        people = {p.name: p for p in self.people}
        says = self.asking.these(server, [(people[name], path, url) for name, path, url in said])
        if self.args.keep:
            with open("%s-%s" % (self.dir, what.replace(" ", "-")), "wb") as f:
                pickle.dump((says, said), f)
        self.found(what, compared(says, said, of, server.kind, self.db.name == "sqlite"))

    def untouched(self, before, what, allowed):
        self.found(what, changed_rows(before, snapshot(self.db), allowed))

    def sockets(self, server):
        for p in self.people:
            joined = server.connected(p.token)
            if p.role == "pending" and not joined:
                continue
            if not isinstance(joined, dict) or joined.get("id") != p.id :
                self.found("%s answers the socket of %s with %s" % (server.kind, p, joined), [""])
        self.say("%s lets all sockets in" % server.kind)

    def run(self):
        self.start_upstream()
        if self.args.made:
            said = self.load()
        else:
            said = self.make()
            if self.args.keep:
                self.save(said)
        schema, files, rows = self.db.schema(), uploads(self.data), snapshot(self.db)
        self.say("made: %s" % ", ".join("%s %d" % (t, len(r)) for t, r in rows.items() if r))
        reading = lambda table, old, column: (table, column) == ("user", "last_active_at") or (table, column) == ("api_key", "last_used_at")
        with Server(self, "galley") as galley:
            self.compare(said, galley, "reference", "Galley on the reference's data")
            self.sockets(galley)
            self.check(galley)
            self.untouched(rows, "rows that Galley changes while it is read only", reading)
            said = self.write(galley, rows)
        self.found("uploads that Galley lost", ["%s" % f for f, d in files.items() if uploads(self.data).get(f, d) != d])
        changed = differences(schema, {k: v for k, v in self.db.schema().items()})
        self.found("the schema after Galley", ["%s: %s, now %s" % d for d in changed])
        with Server(self, "reference") as ref:
            self.compare(said, ref, "galley", "the reference on what Galley wrote")
            self.sockets(ref)
            self.read_back(ref)
            said = self.rewrite(ref)
        with Server(self, "galley") as galley:
            self.compare(said, galley, "reference", "Galley on what the reference wrote after it")

    def save(self, said):
        shutil.rmtree(self.dir + "-made", ignore_errors=True)
        shutil.copytree(self.data, self.dir + "-made/data", symlinks=True)
        with open(self.dir + "-made/state", "wb") as f:
            pickle.dump((self.upstream.removeprefix("http://"), said, self.people, self.factors, self.admin, self.keeper, self.old), f)

    def state(self):
        return pickle.load(open(self.dir + "-made/state", "rb"))

    def load(self):
        shutil.rmtree(self.data)
        shutil.copytree(self.dir + "-made/data", self.data, symlinks=True)
        _, said, self.people, self.factors, self.admin, self.keeper, self.old = self.state()
        return said

    def write(self, galley, rows):
        """Fills Galley, and gives what it says of all then."""
        admin, old = self.admin, self.old
        self.newcomer = self.add(galley, admin, "Zoë New")
        self.second_factors(galley, admin, self.keeper, self.newcomer)
        self.sign_in_all(galley)
        fresh = [self.add(galley, admin, n) for n in ("Quin", "Roy", "Sue", "Ted Ünlü")]
        self.add(galley, admin, "Una Admin", "admin")
        self.writers = writers = [old[3], old[6], self.newcomer] + fresh
        self.play(galley, admin, writers, WRITTEN, deletes=True)
        self.seed(galley, "gal", fresh[0], fresh[1], fresh[2:] + [old[3]])
        self.change_password(galley, fresh[1])
        self.change_password(galley, old[6])
        theirs = {p.id for p in [*writers, admin, self.keeper]}
        self.untouched(rows, "rows of others that Galley changes", lambda table, old, column: (
            (table, column) == ("user", "last_active_at") or (table, column) == ("api_key", "last_used_at") or table == "config"
            or (table, column) == ("auth", "session_stamp") or (table == "access_grant" and old["resource_id"] in ("echo-small", "echo-large", "echo-slow")) or old.get("user_id", old["id"] if table in ("user", "auth") else None) in theirs))
        return self.asking.all(galley, [admin, self.newcomer, fresh[0], old[0]] + fresh[1:] + [p for p in self.people if p in (old[1], old[3], old[6], self.keeper) or p.role != "user" and p is not admin])

    def read_back(self, ref):
        """What Galley wrote that a list of answers does not show."""
        self.second_factors(ref, self.admin, self.newcomer, self.keeper)
        self.sign_in_all(ref)
        self.check(ref)

    def check(self, server):
        """What is not in the answers that are compared."""
        for check in self.checks:
            check(server)
        self.say("%s has all of %d things" % (server.kind, len(self.checks)))

    def rewrite(self, ref):
        self.play(ref, self.admin, self.writers, REWRITTEN, deletes=True)
        return self.asking.all(ref, self.writers)

    def change_password(self, server, person):
        old, person.password = person.password, "a new one of %s" % person.name
        server.post("/api/v1/auths/update/password", person.token, password=old, new_password=person.password)
        self.sign_in(server, person)
        self.checks.append(lambda s: s.post("/api/v1/auths/signin", want=400, email=person.email, password=old))

    def seed(self, server, mark, first, second, others):
        """Fills a server with what the scenarios leave little of, through the requests that the web interface makes."""
        admin, me, run = self.admin, first.token, mark

        # accounts: profiles, settings, API keys, groups below groups with permissions
        server.post("/api/v1/auths/update/profile", me, name="%s „Ω😀“" % first.name, profile_image_url="data:image/png;base64," + PNG, bio="line\none\ttab",
                    gender="x", date_of_birth="1990-02-28")
        server.post("/api/v1/auths/update/timezone", me, timezone="Europe/Vienna")
        server.post("/api/v1/users/user/settings/update", me, ui={"theme": "dark", "nested": {"a": [1, 2.5, 1e-7, None, True, "ü"]}, "system": "be brief"}, other={"b": 2})
        server.post("/api/v1/users/user/info/update", me, location="Graz", n=1)
        server.post("/api/v1/users/user/status/update", me, status_emoji="🏔", status_message="away")
        self.admin_config(server, admin, ENABLE_API_KEYS=True, ENABLE_USER_STATUS=True, RESPONSE_WATERMARK="made by %s" % run)
        upper = server.post("/api/v1/groups/create", admin.token, name="Upper " + run, description="", permissions={"features": {"api_keys": True}, "chat": {"import": True}})
        lower = server.post("/api/v1/groups/create", admin.token, name="Lower " + run, description="below", parent_group_id=upper["id"],
                            permissions={"workspace": {"models": True, "prompts": True, "tools": False}, "sharing": {"public_models": True}})
        server.post("/api/v1/groups/id/%s/users/add" % lower["id"], admin.token, user_ids=[first.id, second.id])
        key = server.post("/api/v1/auths/api_key", me)["api_key"]
        # what becomes of it on the other server
        self.checks.append(lambda s: s.ask("GET", "/api/v1/chats/", key))
        for name in ("banners", "suggestions"):
            form = {"banners": [{"id": run, "type": "info", "title": "", "content": "hello *%s*" % run, "dismissible": True, "timestamp": 1700000000}],
                    "suggestions": [{"title": ["One", run], "content": "Tell me of %s" % run}]}[name]
            server.post("/api/v1/configs/" + name, admin.token, **{name: form})
        permissions = server.ask("GET", "/api/v1/users/default/permissions", admin.token)
        permissions["chat"]["import"] = True
        permissions["sharing"]["public_prompts"] = True
        server.post("/api/v1/users/default/permissions", admin.token, **permissions)
        # a second key takes the place of the first
        server.post("/api/v1/auths/api_key", second.token)
        newer = server.post("/api/v1/auths/api_key", second.token)["api_key"]
        self.checks.append(lambda s: s.ask("GET", "/api/v1/memories/", newer))

        # files
        texts = {"notes %s.txt" % run: b"A walk in the park.\r\nLentils boil for 20 minutes.\n", "päth ☃ %s.md" % run: "# Über\n\nText ☃\n".encode(),
                 "table-%s.csv" % run: b"a,b\n1,2\n3,4\n", "pixel-%s.png" % run: base64.b64decode(PNG), "%s.bin" % run: bytes(range(256)) * 40}
        files = {}
        for name, content in texts.items():
            r = server.ask("POST", "/api/v1/files/", me, files={"file": (name, content)}, data={"metadata": json.dumps({"from": run})})
            files[name] = r
            self.checks.append(lambda s, i=r["id"], c=content: self.same("the bytes of an upload", s.ask("GET", "/api/v1/files/%s/content" % i, first.token), c))
        for r in files.values():
            self.until(lambda: server.ask("GET", "/api/v1/files/%s/process/status" % r["id"], me).get("status") in ("completed", "failed"), "a file is processed")
        text = files["notes %s.txt" % run]

        # folders, and chats of every kind in and out of them
        top = server.post("/api/v1/folders/", me, name="Top %s" % run, data={"system_prompt": "You cook.", "files": [{"type": "file", "id": text["id"], "name": text["filename"]}]},
                          meta={"icon": "🍲"})
        sub = server.post("/api/v1/folders/", me, name="Sub ü", parent_id=top["id"])
        server.post("/api/v1/folders/%s/update/expanded" % top["id"], me, is_expanded=True)
        server.post("/api/v1/folders/%s/access/update" % top["id"], me, want=None, access_grants=[
            {"principal_type": "user", "principal_id": second.id, "permission": "read"}])
        chats = {}
        for title, length in (("Plain", 2), ("Branched", 7), ("Long ☃", 60), ("Pinned", 2), ("Archived", 2), ("Tagged", 2), ("Shared", 4), ("Open to group", 4), ("In folder", 2),
                              ("Renamed", 2), ("Cloned", 5), ("With file", 2)):
            chats[title] = server.post("/api/v1/chats/new", me, chat=conversation("%s %s" % (title, run), length, text if title == "With file" else None))["id"]
        chat = lambda title: "/api/v1/chats/" + chats[title]
        server.post(chat("Pinned") + "/pin", me)
        for tag in ("One Tag", "ünï", run):
            server.post(chat("Tagged") + "/tags", me, name=tag)
        server.ask("DELETE", chat("Tagged") + "/tags", me, json={"name": run})
        server.post(chat("Shared") + "/share", me)
        server.post("/api/v1/chats/shared/%s/access/update" % chats["Shared"], me, access_grants=[{"principal_type": "user", "principal_id": second.id, "permission": "read"}])
        server.post(chat("Open to group") + "/share", me)
        server.post("/api/v1/chats/shared/%s/access/update" % chats["Open to group"], me, access_grants=[{"principal_type": "group", "principal_id": lower["id"], "permission": "read"}])
        server.post(chat("In folder") + "/folder", me, folder_id=sub["id"])
        server.post(chat("With file") + "/folder", me, folder_id=top["id"])
        server.post(chat("Renamed"), me, chat={"title": "A new name „%s“" % run})
        server.post(chat("Cloned") + "/clone", me, title="Clone %s" % run)
        server.post(chat("Branched") + "/messages/q1", me, content="edited ☃")
        server.post(chat("Archived") + "/archive", me)
        gone = server.post("/api/v1/chats/new", me, chat=conversation("Gone", 2))["id"]
        server.ask("DELETE", "/api/v1/chats/" + gone, me)
        self.checks.append(lambda s: s.ask("GET", "/api/v1/chats/" + gone, first.token, want=401))
        # with a row of its own the base model is everybody's
        server.post("/api/v1/models/create", admin.token, want=None, id="echo-small", base_model_id=None, name="Echo", meta={}, params={},
                    access_grants=[{"principal_type": "user", "principal_id": "*", "permission": "read"}])
        server.ask("GET", "/api/models?refresh=true", second.token)
        self.turn(server, second, run)

        # workspace
        grants = lambda *to: [{"principal_type": t, "principal_id": i, "permission": p} for t, i, p in to]
        server.post("/api/v1/models/create", admin.token, id="cook-" + run, base_model_id="echo-small", name="Cook " + run,
                    meta={"description": "ü", "tags": [{"name": "food"}], "capabilities": {"vision": False}, "profile_image_url": "data:image/png;base64," + PNG},
                    params={"system": "You cook.", "temperature": 0.1, "stop": ["\n"]}, access_grants=grants(("group", lower["id"], "read"), ("user", second.id, "write")))
        server.post("/api/v1/prompts/create", me, command="soup-" + run, name="Soup", content="Cook {{dish}} for {{CURRENT_DATE}}", tags=["food", "Ü"],
                    access_grants=grants(("user", second.id, "read")), want=None)
        server.post("/api/v1/prompts/create", admin.token, command="all-" + run, name="All", content="x", access_grants=grants(("user", "*", "read")))
        server.post("/api/v1/tools/create", admin.token, id="clock_" + run, name="Clock", content=TOOL, meta={"description": "d", "manifest": {}}, access_grants=grants(("user", "*", "read")))
        server.post("/api/v1/tools/id/clock_%s/valves/update" % run, admin.token, zone="UTC")
        for content in ("likes lentils", "lives in Graz ☃"):
            server.post("/api/v1/memories/add", me, content=content)

    def turn(self, server, person, mark):
        """A question and its answer as the web interface has them: asked by HTTP, answered through a socket."""
        client, done = socketio.Client(reconnection=False), threading.Event()

        def heard(event, *args):
            data = args[0].get("data", {}) if args and isinstance(args[0], dict) else {}
            if data.get("type") == "chat:active" and data.get("data", {}).get("active") is False:
                done.set()
        client.on("*", heard)
        client.connect(server.base, socketio_path="/ws/socket.io", transports=["websocket"], auth={"token": person.token}, wait_timeout=15)
        try:
            client.call("user-join", {"auth": {"token": person.token}}, timeout=15)
            question, answer = "00000000-0000-4000-8000-%012x" % zlib.crc32(mark.encode()), "00000000-0000-4000-9000-%012x" % zlib.crc32(mark.encode())
            r = server.post("/api/chat/completions", person.token, stream=True, model="echo-small", params={}, features={}, session_id=client.get_sid(), id=answer, parent_id=None,
                            user_message={"id": question, "parentId": None, "childrenIds": [answer], "role": "user", "content": "a walk %s" % mark, "timestamp": int(time.time()),
                                          "models": ["echo-small"]},
                            background_tasks={"title_generation": True, "tags_generation": True, "follow_up_generation": True})
            if not done.wait(30):
                raise Wrong("%s does not end a turn" % server.kind)
        finally:
            client.disconnect()
        chat = r["chat_id"]
        self.checks.append(lambda s: self.same("the answer of a turn", s.ask("GET", "/api/v1/chats/" + chat, person.token)["chat"]["history"]["messages"][answer]["content"],
                                               "You said: a walk %s" % mark))

    def until(self, condition, what):
        end = time.time() + 30
        while not condition():
            if time.time() > end:
                raise Wrong("not in time: " + what)
            time.sleep(0.05)

    def same(self, what, got, want):
        if got != want:
            self.found(what, ["is %r" % (got,), "was %r" % (want,)])


def conversation(title, messages, file=None):
    """A chat as the web interface makes it; with seven messages, of several branches."""
    history, parent = {}, None
    for i in range(messages):
        role, number = ("user", "assistant")[i % 2], i // 2 + 1
        ident = "qa"[i % 2] + str(number)
        at = "a1" if messages == 7 and ident == "q3" else parent
        history[ident] = {"id": ident, "parentId": at, "childrenIds": [], "role": role, "timestamp": 1700000000 + i, "content": "%s: message %d of %s ☃ \"quoted\" \\ <b>" % (role, i, title)}
        if role == "user":
            history[ident]["models"] = ["echo-small"]
            if file and i == 0:
                history[ident]["files"] = [{"type": "file", "id": file["id"], "name": file["filename"], "url": file["id"]}]
        else:
            history[ident].update(model="echo-small", modelName="echo-small", done=True, usage={"total_tokens": 7, "cost": 0.000012}, sources=[])
        if at:
            history[at]["childrenIds"].append(ident)
        parent = ident
    return {"title": title, "models": ["echo-small"], "params": {"temperature": 0.5}, "files": [], "tags": [], "timestamp": 1700000000000,
            "history": {"messages": history, "currentId": parent}, "messages": list(history.values())}


PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
TOOL = """from pydantic import BaseModel


class Tools:
    class Valves(BaseModel):
        zone: str = "UTC"

    def __init__(self):
        self.valves = self.Valves()

    def now(self, zone: str) -> str:
        \"""
        Tells the time.
        :param zone: where
        \"""
        return "noon"
"""


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("galley", "reference", "upstream", "contract", "work"):
        p.add_argument("--" + name, required=True)
    p.add_argument("--postgres", help="a server where databases may be made")
    p.add_argument("--frontend", help="installed frontends, as galley frontend install makes them")
    p.add_argument("--only", choices=("sqlite", "postgres"))
    p.add_argument("--keep", action="store_true", help="leave a copy of what the reference made, in WORK/dropin-…-made, and the database")
    p.add_argument("--made", action="store_true", help="go on with that copy")
    p.add_argument("--verbose", action="store_true")
    args = p.parse_args()
    args.work = os.path.abspath(args.work)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    kinds = [args.only] if args.only else ["sqlite"] + (["postgres"] if args.postgres else [])
    if len(kinds) > 1:  # side by side
        children = [subprocess.Popen([sys.executable, *sys.argv, "--only", k]) for k in kinds]
        try:
            sys.exit(max(c.wait() for c in children))
        finally:
            for c in children:
                c.terminate()
    run = Run(args, kinds[0])
    try:
        run.run()
    except (Wrong, requests.RequestException, socketio.exceptions.SocketIOError) as e:
        run.found("the test came to an end", (str(e) if isinstance(e, Wrong) else traceback.format_exc()).splitlines())
    finally:
        for process in run.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        if not args.keep:
            run.db.drop()
    if run.wrong:
        run.say("%d things are wrong" % len(run.wrong))
        sys.exit(1)
    run.say("nothing is lost")


if __name__ == "__main__":
    main()
