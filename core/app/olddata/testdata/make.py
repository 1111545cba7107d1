#!/usr/bin/env python3
"""Makes databases as people have them who began years ago: rows as old versions of Open WebUI wrote them, brought to the
revision of 0.12.4 by its own migrations, and then rows of shapes that no version means to write but some database holds.

    make.py PYTHON_WITH_OPEN_WEBUI peewee.db.gz alembic.db.gz

The first database begins with the tables that versions before 0.3.6 made (and all later ones up to 0.6 on a new
installation too: they ran those migrations first); their columns refuse null, are declared otherwise and stand in another
order to this day. The second begins with Alembic's first revision and holds nulls where its tables let them in.

Every account has the password "old-password-1" unless said otherwise.
"""

import gzip
import json
import os
import sqlite3
import subprocess
import sys
import tempfile

DAY = 86400
T = 1_700_000_000  # November 2023

# What peewee's migrations 001 to 018 of 0.3.35 leave behind.
PEEWEE = """
CREATE TABLE "migratehistory" ("id" INTEGER NOT NULL PRIMARY KEY, "name" VARCHAR(255) NOT NULL, "migrated_at" DATETIME NOT NULL);
CREATE TABLE "tag" ("id" VARCHAR(255) NOT NULL, "name" VARCHAR(255) NOT NULL, "user_id" VARCHAR(255) NOT NULL, "data" TEXT);
CREATE UNIQUE INDEX "tag_id" ON "tag" ("id");
CREATE TABLE "chatidtag" ("id" VARCHAR(255) NOT NULL, "tag_name" VARCHAR(255) NOT NULL, "chat_id" VARCHAR(255) NOT NULL, "user_id" VARCHAR(255) NOT NULL, "timestamp" INTEGER NOT NULL NOT NULL);
CREATE UNIQUE INDEX "chatidtag_id" ON "chatidtag" ("id");
CREATE TABLE "auth" ("id" VARCHAR(255) NOT NULL, "email" VARCHAR(255) NOT NULL, "password" TEXT NOT NULL NOT NULL, "active" INTEGER NOT NULL);
CREATE UNIQUE INDEX "auth_id" ON "auth" ("id");
CREATE TABLE "chat" ("id" VARCHAR(255) NOT NULL, "user_id" VARCHAR(255) NOT NULL, "title" TEXT NOT NULL NOT NULL, "chat" TEXT NOT NULL, "share_id" VARCHAR(255), "archived" INTEGER NOT NULL, "created_at" DATETIME NOT NULL NOT NULL, "updated_at" DATETIME NOT NULL NOT NULL);
CREATE UNIQUE INDEX "chat_id" ON "chat" ("id");
CREATE UNIQUE INDEX "chat_share_id" ON "chat" ("share_id");
CREATE TABLE "document" ("id" INTEGER NOT NULL PRIMARY KEY, "collection_name" VARCHAR(255) NOT NULL, "name" VARCHAR(255) NOT NULL, "title" TEXT NOT NULL NOT NULL, "filename" TEXT NOT NULL NOT NULL, "content" TEXT, "user_id" VARCHAR(255) NOT NULL, "timestamp" INTEGER NOT NULL NOT NULL);
CREATE UNIQUE INDEX "document_collection_name" ON "document" ("collection_name");
CREATE UNIQUE INDEX "document_name" ON "document" ("name");
CREATE TABLE "prompt" ("id" INTEGER NOT NULL PRIMARY KEY, "command" VARCHAR(255) NOT NULL, "user_id" VARCHAR(255) NOT NULL, "title" TEXT NOT NULL NOT NULL, "content" TEXT NOT NULL, "timestamp" INTEGER NOT NULL NOT NULL);
CREATE UNIQUE INDEX "prompt_command" ON "prompt" ("command");
CREATE TABLE "user" ("id" VARCHAR(255) NOT NULL, "name" VARCHAR(255) NOT NULL, "email" VARCHAR(255) NOT NULL, "role" VARCHAR(255) NOT NULL, "profile_image_url" TEXT NOT NULL NOT NULL, "api_key" VARCHAR(255), "created_at" INTEGER NOT NULL NOT NULL, "updated_at" INTEGER NOT NULL NOT NULL, "last_active_at" INTEGER NOT NULL NOT NULL, "settings" TEXT, "info" TEXT, "oauth_sub" TEXT);
CREATE UNIQUE INDEX "user_api_key" ON "user" ("api_key");
CREATE UNIQUE INDEX "user_id" ON "user" ("id");
CREATE TABLE "memory" ("id" VARCHAR(255) NOT NULL, "user_id" VARCHAR(255) NOT NULL, "content" TEXT NOT NULL, "updated_at" INTEGER NOT NULL, "created_at" INTEGER NOT NULL);
CREATE UNIQUE INDEX "memory_id" ON "memory" ("id");
CREATE TABLE "model" ("id" TEXT NOT NULL, "user_id" TEXT NOT NULL, "base_model_id" TEXT, "name" TEXT NOT NULL, "meta" TEXT NOT NULL, "params" TEXT NOT NULL, "created_at" INTEGER NOT NULL, "updated_at" INTEGER NOT NULL);
CREATE UNIQUE INDEX "model_id" ON "model" ("id");
CREATE TABLE "tool" ("id" TEXT NOT NULL, "user_id" TEXT NOT NULL, "name" TEXT NOT NULL, "content" TEXT NOT NULL, "specs" TEXT NOT NULL, "meta" TEXT NOT NULL, "created_at" INTEGER NOT NULL, "updated_at" INTEGER NOT NULL, "valves" TEXT);
CREATE UNIQUE INDEX "tool_id" ON "tool" ("id");
CREATE TABLE "file" ("id" TEXT NOT NULL, "user_id" TEXT NOT NULL, "filename" TEXT NOT NULL, "meta" TEXT NOT NULL, "created_at" INTEGER NOT NULL);
CREATE UNIQUE INDEX "file_id" ON "file" ("id");
CREATE UNIQUE INDEX "user_oauth_sub" ON "user" ("oauth_sub");
CREATE TABLE "function" ("id" TEXT NOT NULL, "user_id" TEXT NOT NULL, "name" TEXT NOT NULL, "type" TEXT NOT NULL, "content" TEXT NOT NULL, "meta" TEXT NOT NULL, "created_at" INTEGER NOT NULL, "updated_at" INTEGER NOT NULL, "valves" TEXT, "is_active" INTEGER NOT NULL, "is_global" INTEGER NOT NULL);
CREATE UNIQUE INDEX "function_id" ON "function" ("id");
INSERT INTO "migratehistory" ("name", "migrated_at") VALUES ('001_initial_schema', '2024-01-01 00:00:00'), ('018_add_function_is_global', '2024-07-01 00:00:00');
"""

PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


def j(value):
    """JSON as old versions wrote it: ASCII."""
    return json.dumps(value)


class Maker:
    def __init__(self, python, path, peewee):
        self.python, self.path, self.peewee = python, path, peewee
        self.refused = []

    def connect(self):
        return sqlite3.connect(self.path)

    def script(self, text):
        with self.connect() as db:
            db.executescript(text)

    def insert(self, table, **row):
        """A row, with the columns that the table has by now. A row that an old table's constraints refuse is left out."""
        with self.connect() as db:
            have = {c[1] for c in db.execute(f'PRAGMA table_info("{table}")')}
            names = [n for n in row if n in have]
            missing = [n for n in row if n not in have]
            if missing:
                raise SystemExit(f"{table} has no {missing}")
            try:
                db.execute(
                    f'INSERT INTO "{table}" ({", ".join(chr(34) + n + chr(34) for n in names)}) VALUES ({", ".join("?" * len(names))})',
                    [row[n] for n in names],
                )
            except sqlite3.IntegrityError as err:
                if "NOT NULL" not in str(err) or not self.peewee:
                    raise
                self.refused.append((table, row.get("id")))

    def upgrade(self, revision):
        code = (
            "from alembic import command; from alembic.config import Config; from pathlib import Path; import open_webui;"
            "at = Path(open_webui.__file__).parent; c = Config(at / 'alembic.ini');"
            f"c.set_main_option('script_location', str(at / 'migrations')); command.upgrade(c, '{revision}')"
        )
        env = dict(
            os.environ, DATABASE_URL="sqlite:///" + self.path, DATA_DIR=os.path.dirname(self.path), ENABLE_DB_MIGRATIONS="false",
            WEBUI_SECRET_KEY="x", STATIC_DIR=os.path.join(os.path.dirname(self.path), "static"), FROM_INIT_PY="true",
        )
        done = subprocess.run([self.python, "-c", code], env=env, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])

    def hash(self, kind):
        code = f"import bcrypt; print(bcrypt.hashpw(b'old-password-1', bcrypt.gensalt(4)).decode().replace('$2b$', '{kind}'))"
        return subprocess.run([self.python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()

    # 0.1 to 0.3.5: peewee's tables. Documents and settings are text, tags are rows.
    def first(self):
        if self.peewee:
            self.script(PEEWEE)
        self.upgrade("7e5b5dc7342b")
        people = [
            # id, name, address, role, picture, hash, active, settings, info, key, oauth
            ("ada", "Ada", "Ada@Old.Test", "admin", "/user.png", "$2b$", 1, {"ui": {"theme": "dark", "models": ["llama2:latest"]}}, None, "sk-ada-0123456789", None),
            ("bob", "Bob", "bob@old.test", "user", PIXEL, "$2a$", 1, None, None, None, "google@1234"),
            ("cyd", "Cyd", "cyd@old.test", "user", "https://www.gravatar.com/avatar/0a1b", "$2y$", 1, {"ui": None}, {}, None, "5678"),
            ("dan", "Dan", "dan@old.test", "pending", "", "$2b$", 1, {}, {"location": "51.5, 0.1"}, None, None),
            ("eve", "", "eve@old.test", "moderator", "/static/user.png", "$2b$", 1, {"ui": {}, "theme": "light", "models": ["a"]}, None, None, "oidc@with@at"),
            ("fay", "Fay", "fay@old.test", "user", "/user.png", "$2b$", 0, None, None, None, None),
            ("gil", "Gil", "gil@old.test", "user", "/user.png", None, 1, None, None, None, None),
            ("kim", "Kim", "kim@old.test", "user", "/user.png", "$2b$", 1, None, None, None, None),
            ("lou", "Lou", "lou@old.test", "user", "/user.png", "$2b$", 1, None, None, None, None),
            ("hal", "Hal", "hal@old.test", "user", "/user.png", "plain", 1, None, None, None, None),
        ]
        for at, (id, name, email, role, picture, kind, active, settings, info, key, sub) in enumerate(people):
            self.insert(
                "user", id=id, name=name, email=email.lower() if id == "ada" else email, role=role, profile_image_url=picture, last_active_at=T + at, updated_at=T + at, created_at=T + at,
                api_key=key, settings=j(settings), info=j(info), oauth_sub=sub,
            )
            if kind:
                self.insert("auth", id=id, email=email.lower(), password="old-password-1" if kind == "plain" else self.hash(kind), active=active)
        self.first_chats()
        for id, owner, name in [("t1", "bob", "Work Stuff"), ("t2", "bob", "pinned"), ("t3", "cyd", "Work Stuff"), ("t4", "bob", "work stuff"), ("t5", "ada", "Caf\u00e9 \u00c4")]:
            self.insert("tag", id=id, name=name, user_id=owner, data=None)
        for at, (chat, owner, name) in enumerate([
            ("onlylist", "bob", "Work Stuff"), ("onlylist", "bob", "pinned"), ("both", "bob", "work stuff"), ("both", "bob", "Gone Tag"), ("cyd-old", "cyd", "Work Stuff"), ("nowhere", "bob", "x"),
            ("empty", "bob", "pinned"), ("ada-old", "ada", "Caf\u00e9 \u00c4"),
        ]):
            self.insert("chatidtag", id=f"ct{at}", tag_name=name, chat_id=chat, user_id=owner, timestamp=T)
        self.insert("document", collection_name="0f" * 31, name="report", title="Report", filename="report.pdf", content=j({"tags": [{"name": "old"}]}), user_id="ada", timestamp=T)
        self.insert("document", collection_name="1f" * 31, name="untagged", title="Untagged", filename="u.txt", content=None, user_id="bob", timestamp=T)
        for command, owner, title in [("/hello", "bob", "Hello"), ("plain", "bob", "No slash"), ("/With-Caps", "ada", "Caps"), ("/dash dash", "ghost", "Of a deleted user"), ("//two", "cyd", "Two slashes")]:
            self.insert("prompt", command=command, user_id=owner, title=title, content="Say {{CLIPBOARD}} [name]", timestamp=T)
        for id, owner, base, meta, params in [
            ("preset", "ada", "echo-small", {"profile_image_url": PIXEL, "description": "Old", "suggestion_prompts": None, "categories": [{"name": "x"}], "user": {"name": "someone"}}, {"system": "Be old", "temperature": 0.5, "stop": ["x"], "num_ctx": 2048}),
            ("bare", "ada", "echo-small", {}, {}),
            ("base", "ada", None, {"profile_image_url": "/static/favicon.png", "capabilities": None}, {}),
            ("lost", "ghost", "gone:latest", {"tags": ["a", {"name": "B"}], "knowledge": [{"collection_name": "0f" * 31, "type": "doc", "name": "report"}]}, {}),
            ("nulls", "ada", "echo-small", {}, {}),
        ]:
            self.insert("model", id=id, user_id=owner, base_model_id=base, name=id.title(), meta=j(meta), params=j(params), created_at=T, updated_at=T)
        for id, owner, specs, meta in [
            ("clock", "ada", [{"name": "now", "description": "The time", "parameters": {"type": "object", "properties": {}, "required": []}}], {"description": "Old tool", "manifest": {"title": "Clock"}}),
            ("specless", "bob", [], {}),
        ]:
            self.insert("tool", id=id, user_id=owner, name=id.title(), content="class Tools:\n    def now(self) -> str:\n        return ''\n", specs=j(specs), meta=j(meta), valves=j({}), created_at=T, updated_at=T)
        self.insert("function", id="shout", user_id="ada", name="Shout", type="filter", content="class Filter:\n    pass\n", meta=j({"description": "x"}), valves=j(None), is_active=1, is_global=0, created_at=T, updated_at=T)
        for at, (owner, content) in enumerate([("bob", "Likes tea"), ("bob", ""), ("cyd", "\ud83d\udc4b".encode("utf-16", "surrogatepass").decode("utf-16")), ("ghost", "of a deleted user")]):
            self.insert("memory", id=f"mem{at}", user_id=owner, content=content, updated_at=T + at, created_at=T + at)
        for id, owner, meta in [
            ("file-abs", "bob", {"name": "a.txt", "content_type": "text/plain", "size": 3, "path": "/app/backend/data/uploads/file-abs_a.txt"}),
            ("file-rel", "bob", {"name": "b.txt", "content_type": "text/plain", "size": 3, "path": "data/uploads/file-rel_b.txt"}),
            ("file-none", "bob", {}),
            ("file-list", "bob", {"name": "l.txt", "content_type": ["text/plain", None]}),
            ("file-ghost", "ghost", {"name": "g.txt", "content_type": 5}),
        ]:
            self.insert("file", id=id, user_id=owner, filename=id + ".txt", meta=j(meta), created_at=T)

    def first_chats(self):
        def chat(id, doc, owner="bob", title="", created=T, updated=None, **more):
            self.count = getattr(self, "count", 0) + 1
            self.insert("chat", id=id, user_id=owner, title=title or id.title(), chat=doc if isinstance(doc, str) else j(doc), created_at=created, updated_at=T + self.count if updated is None else updated, archived=more.pop("archived", 0), **more)

        pair = [{"role": "user", "content": "legacy hello"}, {"role": "assistant", "content": "legacy answer"}]
        chat("onlylist", {"title": "Only a list", "models": ["llama2:latest"], "messages": [{"id": "a", "parentId": None, "childrenIds": ["b"], **pair[0]}, {"id": "b", "parentId": "a", "childrenIds": [], "model": "llama2:latest", **pair[1]}], "options": {}, "timestamp": T * 1000})
        chat("noids", {"title": "A list without ids", "models": [""], "messages": pair})
        chat("oddlist", {"messages": [None, 5, "x", {}, {"id": 7, "role": "user", "content": "number for an id"}, {"id": "ok", "role": "user", "content": "fine"}]})
        both = {
            "a": {"id": "a", "parentId": None, "childrenIds": ["b", "c"], "role": "user", "content": "Caf\u00e9 legacy \ud83d\ude00", "timestamp": T, "models": ["llama2:latest", "mistral"], "files": [{"type": "image", "url": PIXEL}, {"type": "doc", "name": "report", "collection_name": "0f" * 31, "title": "Report", "filename": "report.pdf", "upload_status": True, "error": ""}, {"type": "collection", "name": "All", "collection_names": ["0f" * 31]}]},
            "b": {"id": "b", "parentId": "a", "childrenIds": [], "role": "assistant", "content": "one", "model": "llama2:latest", "modelName": "Llama", "userContext": None, "context": "[1,2,3]", "timestamp": T + 1, "done": True, "info": {"total_duration": 5, "eval_count": 7, "prompt_eval_count": 3, "openai": True}, "annotation": {"rating": 1, "reason": "x"}, "citations": [{"source": {"name": "report"}, "document": ["text"], "metadata": [{"source": "report.pdf"}]}], "originalContent": "uno"},
            "c": {"id": "c", "parentId": "a", "childrenIds": [], "role": "assistant", "content": "", "model": "mistral", "timestamp": T + 2, "done": False, "error": True, "statusHistory": [{"done": True, "action": "web_search", "description": "Searched", "urls": ["https://x.test"]}], "status": {"done": False, "description": "Searching"}},
        }
        chat("both", {"id": "", "title": "List and history", "models": ["llama2:latest", "mistral"], "system": "Be kind", "params": {}, "options": {"temperature": 1}, "history": {"messages": both, "currentId": "b"}, "messages": [both["a"], both["b"]], "tags": ["Work Stuff", "Gone Tag"], "timestamp": T * 1000, "files": []}, title="List and history")

        def tree(id, messages, **more):
            history = {"messages": messages}
            if "current" in more:
                history["currentId"] = more.pop("current")
            chat(id, {"title": id, "models": ["echo-small"], "history": history, **more.pop("doc", {})}, **more)

        user = {"id": "a", "parentId": None, "childrenIds": ["b"], "role": "user", "content": "legacy question", "timestamp": T}
        answer = {"id": "b", "parentId": "a", "childrenIds": [], "role": "assistant", "content": "legacy reply", "model": "echo-small", "timestamp": T, "done": True}
        tree("nocurrent", {"a": user, "b": answer})
        tree("lostcurrent", {"a": user, "b": answer}, current="zzz")
        tree("nullcurrent", {"a": user, "b": answer}, current=None)
        tree("numbercurrent", {"a": user, "b": answer}, current=5)
        tree("midcurrent", {"a": user, "b": answer}, current="a")
        tree("cycle", {"a": {**user, "parentId": "b"}, "b": answer}, current="b")
        tree("selfparent", {"a": {**user, "parentId": "a"}}, current="a")
        tree("lostparent", {"b": {**answer, "parentId": "gone"}}, current="b")
        tree("nochildren", {"a": {k: v for k, v in user.items() if k != "childrenIds"}, "b": {k: v for k, v in answer.items() if k != "childrenIds"}}, current="b")
        tree("oddchildren", {"a": {**user, "childrenIds": None}, "b": {**answer, "childrenIds": "b"}, "c": {**answer, "id": "c", "childrenIds": [None, 5, "gone"]}}, current="b")
        tree("norole", {"a": {k: v for k, v in user.items() if k != "role"}, "b": {**answer, "role": None}}, current="b")
        tree("oddrole", {"a": {**user, "role": "system"}, "b": {**answer, "role": 5}}, current="b")
        tree("noid", {"a": {k: v for k, v in user.items() if k != "id"}, "b": {**answer, "id": "other"}}, current="b")
        tree("parts", {"a": {**user, "content": [{"type": "text", "text": "legacy parts"}, {"type": "image_url", "image_url": {"url": PIXEL}}]}, "b": {**answer, "content": None}}, current="b")
        tree("oddcontent", {"a": {**user, "content": 5}, "b": {**answer, "content": {"a": "b"}}, "c": {"id": "c", "parentId": "b", "role": "user"}}, current="c")
        tree("times", {"a": {**user, "timestamp": T + 0.5}, "b": {**answer, "timestamp": str(T)}, "c": {**answer, "id": "c", "timestamp": T * 1000}, "d": {**answer, "id": "d", "timestamp": None}, "e": {**answer, "id": "e", "timestamp": -5}, "f": {**answer, "id": "f", "timestamp": "yesterday"}}, current="b")
        tree("oddmessages", {"a": user, "b": None, "c": "text", "d": [], "e": 5, "": {**answer, "id": "", "parentId": "a"}}, current="a")
        tree("oddfields", {"a": {**user, "files": None, "parentId": 5, "models": None}, "b": {**answer, "files": "x", "sources": {}, "citations": None, "statusHistory": {"done": True}, "error": "text", "usage": [], "info": None, "annotation": None, "output": None, "done": "yes", "model": 5, "modelIdx": "0", "tags": "x"}}, current="b")
        tree("nomodels", {"a": user}, current="a", doc={"models": None, "params": None, "files": None, "tags": None, "timestamp": "x"})
        chat("historylist", {"title": "History is a list", "history": [], "messages": []})
        chat("historynull", {"title": "History is null", "history": None})
        chat("messagesnull", {"title": "Messages are null", "history": {"messages": None, "currentId": None}, "messages": None})
        chat("messageslist", {"title": "Messages are a list", "history": {"messages": [user, answer], "currentId": "b"}})
        chat("empty", {}, title="An empty document")
        chat("titleless", {"models": ["x"], "title": None, "history": {"messages": {}, "currentId": None}}, title="")
        chat("nottitled", {"models": ["x"], "title": "In the document only", "history": {"messages": {}, "currentId": None}}, title="New Chat")
        chat("zero", {"title": "No time", "history": {"messages": {"a": user}, "currentId": "a"}}, created=0, updated=0)
        chat("millis", {"title": "In milliseconds", "history": {"messages": {"a": user}, "currentId": "a"}}, created=T * 1000, updated=T * 1000)
        chat("nanos", {"title": "In nanoseconds", "history": {"messages": {"a": user}, "currentId": "a"}}, created=T * 10**9, updated=T * 10**9)
        chat("negative", {"title": "Before 1970", "history": {"messages": {"a": user}, "currentId": "a"}}, created=-T, updated=-T)
        chat("surrogate", '{"title": "\\ud83d alone", "history": {"messages": {"a": {"id": "a", "parentId": null, "childrenIds": [], "role": "user", "content": "broken \\ud83d here \\u0000 nul"}}, "currentId": "a"}}', title="A lone surrogate")
        chat("halfpair", '{"title": "Half a pair", "history": {"messages": {"a": {"id": "a", "parentId": null, "childrenIds": [], "role": "user", "content": "half \\udc00 a legacy pair"}}, "currentId": "a"}}', title="Half a pair")
        chat("nan", '{"title": "NaN", "params": {"temperature": NaN, "top_p": Infinity}, "history": {"messages": {}, "currentId": null}}', title="Not a number")
        chat("twice", '{"title": "first", "title": "second", "history": {"messages": {"a": {"id": "a", "role": "user", "content": "one"}, "a": {"id": "a", "role": "user", "content": "two"}}, "currentId": "a"}}', title="Names twice")
        chat("wasarchived", {"title": "Archived long ago", "history": {"messages": {"a": user}, "currentId": "a"}}, archived=1)
        chat("textdoc", '"a string"', owner="lou")
        chat("listdoc", "[]", owner="lou")
        chat("nulldoc", "null", owner="lou")
        chat("baddoc", "not json", owner="lou")
        chat("cyd-old", {"title": "Of Cyd", "history": {"messages": {"a": user, "b": answer}, "currentId": "b"}}, owner="cyd")
        chat("ada-old", {"title": "Of Ada", "history": {"messages": {"a": user, "b": answer}, "currentId": "b"}}, owner="ada")
        chat("of-ghost", {"title": "Of a deleted user", "history": {"messages": {"a": user, "b": answer}, "currentId": "b"}}, owner="ghost")
        # a link as old versions made it: a second row of a user that is none
        chat("shared-doc", {"title": "Shared", "history": {"messages": {"a": user, "b": answer}, "currentId": "b"}, "messages": [user, answer]}, share_id="old-link")
        chat("old-link", {"title": "Shared", "history": {"messages": {"a": user}, "currentId": "a"}, "messages": [user]}, owner="shared-shared-doc", title="Shared, as it was")
        chat("old-link-lost", {"title": "Of nothing"}, owner="shared-nothing")
        chat("shared-gone", {"title": "Its copy is gone", "history": {"messages": {"a": user, "b": answer}, "currentId": "b"}}, share_id="link-to-nothing")

    # 0.3.35 to 0.4: documents are JSON, folders, feedback, knowledge.
    def second(self):
        self.upgrade("4ace53fd72c8")
        for id, parent, owner, name, items, meta, expanded in [
            ("f-root", None, "bob", "Root", {"chat_ids": ["in-folder"], "file_ids": []}, None, 1),
            ("f-child", "f-root", "bob", "Child", None, {}, 0),
            ("f-orphan", "gone", "bob", "Orphan", None, None, 0),
            ("f-one", "f-two", "bob", "One", None, None, 0),
            ("f-two", "f-one", "bob", "Two", None, None, 0),
            ("f-self", "f-self", "bob", "Self", None, None, 0),
            ("f-same", None, "bob", "root", None, {"icon": None}, 0),
            ("f-odd", None, "ada", "", {}, {"icon": "5"}, 0),
            ("f-ghost", None, "ghost", "Of a deleted user", None, None, 0),
        ]:
            self.insert("folder", id=id, parent_id=parent, user_id=owner, name=name, items=j(items), meta=j(meta), is_expanded=expanded, created_at=T, updated_at=T)
        doc = {"title": "In a folder", "history": {"messages": {"a": {"id": "a", "parentId": None, "childrenIds": [], "role": "user", "content": "hi"}}, "currentId": "a"}}
        for at, (id, folder, pinned, meta) in enumerate([
            ("in-folder", "f-root", None, {}), ("in-child", "f-child", 0, {"tags": ["Work_Stuff", "other"]}), ("in-nothing", "gone", 0, {"tags": []}), ("in-cycle", "f-one", 0, {}),
            ("in-foreign", "f-odd", 0, {"tags": ["Upper"], "loaded_knowledge": None}), ("pinned-in", "f-root", 1, {"tags": ["none"]}), ("pinned-null", None, None, {"tags": []}),
        ]):
            self.insert("chat", id=id, user_id="bob", title=id, chat=j({**doc, "title": id}), created_at=T, updated_at=T + 100 + at, archived=0, pinned=pinned, meta=j(meta), folder_id=folder)
        for at, (owner, version, kind, data, meta, snapshot) in enumerate([
            ("bob", 0, "rating", {"rating": 1, "model_id": "llama2:latest", "sibling_model_ids": None, "reason": "", "comment": ""}, {"arena": False, "chat_id": "both", "message_id": "b", "message_index": 2, "tags": ["work_stuff"]}, {"chat": {"id": "both", "chat": {"title": "x"}}}),
            ("bob", 0, "rating", {"rating": "1", "model_id": "arena-model"}, {}, None),
            ("ada", 0, "rating", {"rating": -1, "model_id": "llama2:latest", "sibling_model_ids": ["mistral"]}, None, None),
            ("ghost", 0, "rating", {"rating": 1, "model_id": "mistral", "sibling_model_ids": ["llama2:latest"]}, {"tags": None}, {}),
            ("bob", 0, "rating", {}, {}, {"chat": None}),
            ("bob", 0, "other", {"rating": None, "model_id": None, "tags": "x"}, {}, {}),
        ]):
            self.insert("feedback", id=f"fb{at}", user_id=owner, version=version, type=kind, data=j(data), meta=j(meta), snapshot=j(snapshot), created_at=T + at, updated_at=T + at)
        self.insert("knowledge", id="kb", user_id="bob", name="Base", description="", data=j({"file_ids": ["file-abs", "gone", "file-rel"]}), meta=j(None), created_at=T, updated_at=T)
        self.insert("knowledge", id="kb-ghost", user_id="ghost", name="Lost", description=None, data=j(None), meta=None, created_at=T, updated_at=None)
        self.insert("config", id=1, version=0, created_at="2024-10-01 00:00:00", updated_at="2024-10-01 00:00:00", data=j(self.config()))

    def config(self):
        """Settings as they were kept in one document. Some have gone, some have moved, some were typed in by hand."""
        return {
            "version": 0,
            "ui": {"default_locale": "de-DE", "default_models": "llama2:latest,echo-small", "prompt_suggestions": [{"title": ["Old", "one"], "content": "hi"}, {"title": "not a list", "content": "x"}], "enable_signup": True, "enable_community_sharing": False, "banners": [{"id": "b", "type": "info", "title": "Old", "content": "Hello", "dismissible": True, "timestamp": T}], "default_user_role": "user", "enable_message_rating": True},
            "openai": {"enable": True, "api_base_urls": ["https://api.openai.test/v1"], "api_keys": ["sk-old"], "api_configs": {"https://api.openai.test/v1": {"enable": True, "prefix_id": "old"}}},
            "ollama": {"enable": False, "base_urls": ["http://ollama.test:11434"], "enable_ollama_api": True},
            "user": {"permissions": {"chat": {"deletion": True, "editing": False, "temporary": True}}},
            "rag": {"template": "Use [context]", "top_k": "5", "chunk_size": 1500, "web": {"search": {"enable": True, "engine": "searxng", "domain": {"filter_list": []}}}, "file": {"max_size": None, "max_count": ""}},
            "task": {"model": {"default": "", "external": ""}, "title": {"prompt_template": "T {{prompt}}"}, "query": {"search": {"enable": True}}},
            "audio": {"tts": {"engine": "", "voice": "alloy"}, "stt": {"engine": ""}},
            "image_generation": {"enable": False, "engine": "openai"},
            "auth": {"api_key": {"enable": True}, "admin": {"show": True, "email": None}, "jwt_expiry": "-1"},
            "webhook_url": "", "model": {"order": ["x"]}, "gone": {"setting": [1, 2, {"a": None}]}, "SHOW_ADMIN_DETAILS": True,
            "evaluation": {"arena": {"enable": True, "models": [{"id": "arena-1", "name": "Arena", "meta": {"profile_image_url": "/favicon.png", "description": "d", "model_ids": None, "access_control": None}}]}},
            "channels": {"enable": True}, "oauth": {"enable_signup": True}, "code_execution": {"engine": "pyodide"}, "direct": {"enable": "true"},
        }

    # 0.5 and 0.6: groups with their members inside, access control of each thing, channels.
    def third(self):
        self.upgrade("3781e22d8b01")
        self.insert("group", id="g", user_id="ada", name="Readers", description="", data=j(None), meta=j(None), permissions=j({"workspace": {"models": True, "knowledge": True}, "chat": {"delete": False, "edit": True}}), user_ids=j(["bob", "ghost"]), created_at=T, updated_at=T)
        self.insert("group", id="g-null", user_id="ada", name="Nulls", description="x", data=None, meta=None, permissions=None, user_ids=None, created_at=T, updated_at=T)
        self.insert("group", id="g-odd", user_id="ghost", name="Odd", description="x", data=j({}), meta=j({}), permissions=j({"workspace": None, "chat": {"delete": "yes"}, "gone": {"x": True}, "features": True}), user_ids=j(["kim"]), created_at=T, updated_at=T)
        reads = {"read": {"group_ids": ["g", "gone"], "user_ids": ["cyd"]}, "write": {"group_ids": [], "user_ids": ["bob", "ghost"]}}
        with self.connect() as db:
            for table, key, rules in [
                ("model", "preset", reads), ("model", "bare", None), ("model", "base", {}), ("model", "lost", {"read": {"group_ids": ["g"]}}), ("model", "nulls", {"read": None, "write": {}} and {"read": {}, "write": {}}),
                ("prompt", "/hello", reads), ("prompt", "plain", {}), ("tool", "clock", reads), ("tool", "specless", None), ("knowledge", "kb", reads), ("file", "file-abs", reads),
            ]:
                db.execute(f'UPDATE "{table}" SET access_control = ? WHERE {"command" if table == "prompt" else "id"} = ?', [j(rules), key])
        self.insert("channel", id="ch", user_id="ada", name="general", description=None, data=None, meta=None, access_control=None, created_at=T * 10**9, updated_at=T * 10**9, type=None)
        self.insert("message", id="m1", user_id="bob", channel_id="ch", content="hello", data=None, meta=None, created_at=T * 10**9, updated_at=T * 10**9, parent_id=None)
        self.insert("message", id="m2", user_id="ghost", channel_id="gone", content="lost", data=j({}), meta=j({}), created_at=T * 10**9, updated_at=T * 10**9, parent_id="m1")
        for id, path, meta, data, hash in [
            ("file-data", "/app/backend/data/uploads/x", {"name": "d.txt", "content_type": "text/plain", "size": 5, "collection_name": "file-data", "data": {}}, {"content": "hello"}, "ab" * 32),
            ("file-nodata", None, {"name": "n.txt"}, None, None),
            ("file-textsize", "", {"name": None, "size": "7", "content_type": None}, {"content": None}, ""),
        ]:
            self.insert("file", id=id, user_id="bob", filename=meta["name"] or "", path=path, meta=j(meta), data=None if data is None else j(data), hash=hash, created_at=T, updated_at=None if id == "file-nodata" else T)

    # 0.6.5 and later: notes, folders with data, sessions of providers.
    def fourth(self):
        self.upgrade("a5c220713937")
        self.insert("note", id="n1", user_id="bob", title="Note", data=j({"content": {"json": None, "html": "<p>x</p>", "md": "x"}, "versions": [], "files": None}), meta=j(None), access_control=j({}), created_at=T * 10**9, updated_at=T * 10**9)
        self.insert("note", id="n2", user_id="ghost", title="", data=None, meta=None, access_control=None, created_at=T, updated_at=T)
        self.insert("folder", id="f-data", parent_id=None, user_id="bob", name="With data", items=None, meta=None, data=j({"system_prompt": "Be brief", "files": [{"type": "collection", "id": "gone"}]}), is_expanded=0, created_at=T, updated_at=T)
        self.insert("oauth_session", id="os", user_id="bob", provider="google", token="not encrypted with this key", expires_at=T, created_at=T, updated_at=T)

    # What is odd today: nobody's migration makes it, hands and other programs do.
    def last(self):
        self.upgrade("head")
        with self.connect() as db:
            # some messages of a chat have no row, as after a crash or an import by SQL
            db.execute("DELETE FROM chat_message WHERE chat_id IN ('nochildren', 'cyd-old') OR id = 'both-a'")
            db.execute("UPDATE chat SET current_message_id = 'gone' WHERE id = 'midcurrent'")
            # the migration that made chat_message stops at documents that are no objects
            good = j({"title": "x", "history": {"messages": {}, "currentId": None}})
            for id, doc, meta, tasks in [
                ("numberdoc", "5", "{}", None), ("realdoc", "5.5", "{}", None), ("truedoc", "true", "{}", None), ("fulllistdoc", '[{"title": "x"}]', "{}", None),
                ("metanull", good, "null", None), ("metalist", good, "[]", None), ("metanumber", good, "5", None), ("oddtasks", good, "{}", "{}"), ("numbertasks", good, "{}", "5"),
                ("nulltags", good, '{"tags": null}', None), ("texttags", good, '{"tags": "x"}', None), ("oddtags", good, '{"tags": [null, 5, "ok", {"name": "x"}]}', None),
            ]:
                db.execute("INSERT INTO chat (id, user_id, title, chat, created_at, updated_at, archived, meta, tasks) VALUES (?, 'lou', ?, ?, ?, ?, 0, ?, ?)", [id, id.title(), doc, T, T, meta, tasks])
            if not self.peewee:
                db.execute("UPDATE model SET meta = 'null', params = 'null' WHERE id = 'nulls'")
                db.execute("UPDATE folder SET meta = '{\"icon\": 5}' WHERE id = 'f-odd'")
                db.execute("UPDATE \"user\" SET scim = '[]' WHERE id = 'eve'")
            db.execute("UPDATE chat SET variables = '[]' WHERE id = 'both'")
            db.execute("UPDATE chat_message SET created_at = NULL, updated_at = NULL WHERE id = 'nullcurrent-a'")
            db.execute("UPDATE prompt SET tags = NULL, meta = NULL, data = NULL, version_id = NULL WHERE command = 'plain'")
            db.execute("UPDATE prompt SET version_id = 'gone' WHERE command = 'With-Caps'")
            db.execute("UPDATE memory SET meta = 'null', path = '' WHERE id = 'mem1'")
        self.insert("shared_chat", id="newer-link", chat_id="shared-doc", user_id="bob", title="A second link", chat=j({"title": "x"}), created_at=T, updated_at=T)
        self.insert("shared_chat", id="link-lost", chat_id="nothing", user_id="ghost", title="Of nothing", chat=j({}), created_at=T, updated_at=T)
        for at, (kind, thing, who, id, permission) in enumerate([
            ("model", "bare", "group", "gone", "read"), ("model", "preset", "robot", "x", "read"), ("model", "preset", "user", "cyd", "own"), ("nothing", "x", "user", "*", "read"), ("file", "file-rel", "user", "cyd", "read"),
        ]):
            self.insert("access_grant", id=f"ag{at}", resource_type=kind, resource_id=thing, principal_type=who, principal_id=id, permission=permission, created_at=T)
        self.insert("config", key="gone.entirely", value=j({"a": [1]}), updated_at=None)
        for key, value in [("ui.watermark", None), ("models.default_metadata", None), ("user.webhooks", "x")]:
            with self.connect() as db:
                db.execute("INSERT OR REPLACE INTO config (key, value, updated_at) VALUES (?, ?, ?)", [key, j(value), T])
        # nulls, where the tables let them in
        none = dict(title=None, archived=None, pinned=None)
        self.insert("chat", id="nulls", user_id="ivy", chat=None, created_at=None, updated_at=None, meta="{}", **none)
        self.insert("chat", id="null-title", user_id="jon", chat=j({"title": "Titled inside"}), created_at=T, updated_at=T, meta="{}", title=None, archived=0)
        self.insert("chat", id="null-archived", user_id="jon", chat=j({"title": "Neither archived nor not"}), created_at=T, updated_at=T, meta="{}", title="Archived is null", archived=None)
        self.insert("chat", id="jon-good", user_id="jon", chat=j({"title": "Good"}), created_at=T, updated_at=T, meta="{}", title="Good", archived=0)
        self.insert("user", id="ivy", name=None, email="ivy@old.test", role="user", profile_image_url=None, last_active_at=None, updated_at=None, created_at=None)
        self.insert("auth", id="ivy", email="ivy@old.test", password=self.hash("$2b$"), active=1)
        self.insert("user", id="jon", name="Jon", email="jon@old.test", role="user", profile_image_url=None, last_active_at=T, updated_at=T, created_at=T)
        self.insert("auth", id="jon", email="jon@old.test", password=self.hash("$2b$"), active=1)


def main():
    python, *outputs = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        for output, peewee in zip(outputs, [True, False]):
            path = os.path.join(folder, "webui.db")
            if os.path.exists(path):
                os.remove(path)
            maker = Maker(python, path, peewee)
            for step in (maker.first, maker.second, maker.third, maker.fourth, maker.last):
                step()
            with maker.connect() as db:
                db.execute("PRAGMA journal_mode = DELETE")
            db.close()
            with sqlite3.connect(path) as db:
                db.execute("VACUUM")
            db.close()
            with open(path, "rb") as f, gzip.GzipFile(output, "wb", 9, mtime=0) as z:
                z.write(f.read())
            print(output, os.path.getsize(path), os.path.getsize(output), "refused:", maker.refused)


main()
