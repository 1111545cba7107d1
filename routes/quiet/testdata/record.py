"""Records what the reference answers to requests of groups that are switched off: python record.py BASE > reference.json

The server is started on an empty database with ENABLE_PLUGINS, ENABLE_CHANNELS, ENABLE_NOTES,
ENABLE_MEMORIES, ENABLE_CALENDAR, ENABLE_AUTOMATIONS, ENABLE_APPS, ENABLE_USER_WEBHOOKS, ENABLE_IMAGE_GENERATION and
ENABLE_EVALUATION_ARENA_MODELS set to false and RAG_EMBEDDING_ENGINE=openai; the contract's variables are unset.
"""
import json
import re
import sys
import urllib.request
import urllib.error

base = sys.argv[1]


def call(method, path, token=None, body=None):
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = "Bearer " + token
    request = urllib.request.Request(base + path, method=method, headers=headers, data=json.dumps(body).encode() if body else None)
    try:
        with urllib.request.urlopen(request) as r:
            return r.status, r.read()
    except urllib.error.HTTPError as e:
        return e.code, e.read()


def sign(path, **body):
    status, text = call("POST", "/api/v1/auths/" + path, body.pop("token", None), body)
    return json.loads(text).get("token")


admin = {"email": "admin@quiet.test", "password": "quiet-admin-1"}
user = {"email": "user@quiet.test", "password": "quiet-user-1"}
token = sign("signup", name="Admin", **admin) or sign("signin", **admin)
sign("add", token=token, name="User", role="user", **user)
tokens = {"admin": token, "user": sign("signin", **user)}


def short(v):
    """Long texts (templates, workflows) are settings' defaults, not this record's matter."""
    if isinstance(v, dict):
        return {k: short(w) for k, w in v.items()}
    return "…" if isinstance(v, str) and len(v) > 150 else v


out = {}
for path in open("paths.txt").read().split():
    query = "?start=2026-01-01T00:00:00&end=2026-01-02T00:00:00" if path == "/calendars/events" else ""
    out[path] = {}
    for role, token in tokens.items():
        status, text = call("GET", "/api/v1" + re.sub(r"[{}]", "", path) + query, token)
        out[path][role] = {"status": status, "body": short(json.loads(text))}
json.dump(out, sys.stdout, indent=1, ensure_ascii=False)
