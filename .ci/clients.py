#!/usr/bin/env python3
"""Drives a server with the official OpenAI and Ollama clients and an API key.

    clients.py http://127.0.0.1:8080

The server is the one the contract was replayed against: its administrator is replay.py's, its models are the stand-in's.
"""
import sys

import ollama
import openai
import requests

EMAIL, PASSWORD = "admin@contract.test", "contract-admin-1"
MODEL, OLLAMA_MODEL, UNKNOWN = "echo-small", "llama-echo", "no-such-model"
QUESTION, ANSWER = "a walk in the park", "You said: a walk in the park"


def api_key(base):
    """Signs in, or up where there is no account yet, and makes a key."""
    http = requests.Session()
    r = http.post(base + "/api/v1/auths/signin", json={"email": EMAIL, "password": PASSWORD})
    if r.status_code != 200:
        r = http.post(base + "/api/v1/auths/signup", json={"name": "Contract Admin", "email": EMAIL, "password": PASSWORD})
    r.raise_for_status()
    http.headers["Authorization"] = "Bearer " + r.json()["token"]
    config = http.get(base + "/api/v1/auths/admin/config")
    config.raise_for_status()
    if not config.json().get("ENABLE_API_KEYS"):
        http.post(base + "/api/v1/auths/admin/config", json={**config.json(), "ENABLE_API_KEYS": True}).raise_for_status()
    r = http.post(base + "/api/v1/auths/api_key")
    r.raise_for_status()
    return r.json()["api_key"]


def expect(what, ok, seen):
    print("%-4s %s" % ("ok" if ok else "FAIL", what))
    if not ok:
        sys.exit("%s: %r" % (what, seen))


def with_openai(path, base, key):
    client = openai.OpenAI(base_url=base + path, api_key=key, max_retries=0, timeout=30)
    ids = [m.id for m in client.models.list()]
    expect("openai %s lists models" % path, MODEL in ids, ids)
    messages = [{"role": "user", "content": QUESTION}]

    whole = client.chat.completions.create(model=MODEL, messages=messages)
    expect("openai %s chats" % path, whole.choices[0].message.content == ANSWER, whole)

    pieces = [c.choices[0].delta.content or "" for c in client.chat.completions.create(model=MODEL, messages=messages, stream=True) if c.choices]
    expect("openai %s streams" % path, "".join(pieces) == ANSWER and sum(map(bool, pieces)) > 1, pieces)

    try:
        seen = client.chat.completions.create(model=UNKNOWN, messages=messages)
    except openai.APIStatusError as e:
        seen = e
    expect("openai %s is told of an unknown model" % path,
           isinstance(seen, openai.APIStatusError) and seen.status_code in (400, 404) and "not found" in seen.response.text, seen)

    try:
        seen = openai.OpenAI(base_url=base + path, api_key="sk-" + "0" * 32, max_retries=0).models.list()
    except openai.APIStatusError as e:
        seen = e
    expect("openai %s is told of a wrong key" % path, isinstance(seen, openai.AuthenticationError), seen)


def with_ollama(base, key):
    client = ollama.Client(host=base + "/ollama", headers={"Authorization": "Bearer " + key}, timeout=30)
    names = [m.model for m in client.list().models]
    model = next((n for n in names if n and n.split(":")[0] == OLLAMA_MODEL), None)
    expect("ollama lists models", model is not None, names)
    messages = [{"role": "user", "content": QUESTION}]

    whole = client.chat(model=model, messages=messages)
    expect("ollama chats", whole.message.content == ANSWER, whole)

    pieces = [part.message.content or "" for part in client.chat(model=model, messages=messages, stream=True)]
    expect("ollama streams", "".join(pieces) == ANSWER and sum(map(bool, pieces)) > 1, pieces)

    try:
        seen = client.chat(model=UNKNOWN, messages=messages)
    except ollama.ResponseError as e:
        seen = e
    expect("ollama is told of an unknown model",
           isinstance(seen, ollama.ResponseError) and seen.status_code in (400, 404) and "not found" in str(seen), seen)


def main():
    base = sys.argv[1].rstrip("/")
    key = api_key(base)
    with_openai("/api", base, key)
    with_openai("/openai", base, key)
    with_ollama(base, key)


if __name__ == "__main__":
    main()
