#!/usr/bin/env python3
"""Replays the recorded contract against the program and fails below a floor.

    contract.py --galley PROGRAM --upstream PROGRAM --contract DIR --floor FILE --work DIR [--frontend DIR] [--only GROUP]

Groups of scenarios (the part of the name before the first "-") are spread over some servers, each with an empty database and
a stand-in model server of its own, because most of a scenario's time is waiting. FILE holds the number of steps that must match.
"""
import argparse
import collections
import glob
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

PATIENCE = 60  # seconds until a server is ready, and until it has stopped


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(url, process, log):
    end = time.time() + PATIENCE
    while True:
        try:
            if urllib.request.urlopen(url, timeout=5).status == 200:
                return
        except OSError as e:
            last = e
        if process.poll() is not None or time.time() > end:
            raise SystemExit("%s: %s\n%s" % (url, last, open(log).read()[-4000:]))
        time.sleep(0.05)


class Shard:
    """A server, its model server, and the replay of some groups against it."""

    def __init__(self, number, args):
        self.number, self.args, self.files, self.processes = number, args, [], []
        self.dir = os.path.join(args.work, "shard-%d" % number)
        os.makedirs(os.path.join(self.dir, "data"))

    def log(self, name):
        return os.path.join(self.args.work, "logs", "%s-%d" % (name, self.number))

    def spawn(self, name, command, env=None):
        with open(self.log(name), "w") as out:
            p = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=env)
        self.processes.append(p)
        return p

    def start(self):
        address = "127.0.0.1:%d" % free_port()
        upstream = "http://" + address
        wait_for(upstream + "/v1/models", self.spawn("upstream", [self.args.upstream, "-addr", address]), self.log("upstream"))
        data = os.path.join(self.dir, "data")
        if self.args.frontend:
            os.symlink(os.path.abspath(self.args.frontend), os.path.join(data, "frontend"))
        port = free_port()
        env = {
            "PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"),
            "HOST": "127.0.0.1", "PORT": str(port), "DATA_DIR": data,
            "OPENAI_API_BASE_URL": upstream + "/v1", "OPENAI_API_KEY": "sk-test", "OLLAMA_BASE_URL": upstream,
            "RAG_EMBEDDING_ENGINE": "openai", "RAG_OPENAI_API_BASE_URL": upstream + "/v1", "RAG_OPENAI_API_KEY": "sk-test",
            "ENABLE_OLLAMA_API": "true", "ENABLE_VERSION_UPDATE_CHECK": "false",
            "GALLEY_PYTHON": os.environ.get("GALLEY_PYTHON", sys.executable),
        }
        base = "http://127.0.0.1:%d" % port
        self.galley = self.spawn("galley", [self.args.galley, "serve"], env)
        wait_for(base + "/ready", self.galley, self.log("galley"))
        self.replay = self.spawn("replay", [
            sys.executable, "-u", os.path.join(self.args.contract, "replay.py"), "--base", base, "--upstream", upstream,
            "--show", "2", *self.files])

    def finish(self, deadline):
        """Waits for the replay, stops the server, and gives (the replay's lines, what is wrong with the server)."""
        wrong = []
        try:
            self.replay.wait(max(deadline - time.time(), 1))
        except subprocess.TimeoutExpired:
            self.replay.kill()  # what it has not come to does not match
            print("out of time: %s" % " ".join(sorted({group(f) for f in self.files})))
        if self.galley.poll() is not None:
            wrong.append("the server ended with %d" % self.galley.returncode)
        else:
            self.galley.send_signal(signal.SIGTERM)
            try:
                if self.galley.wait(PATIENCE) != 0:
                    wrong.append("the server ended with %d after SIGTERM" % self.galley.returncode)
            except subprocess.TimeoutExpired:
                wrong.append("the server does not stop")
        text = open(self.log("galley"), errors="replace").read()
        wrong += ["in the log: " + line[:300] for line in text.splitlines() if "panic" in line][:5]
        return open(self.log("replay"), errors="replace").read().splitlines(), wrong

    def stop(self):
        for p in self.processes:
            if p.poll() is None:
                p.kill()
                p.wait()


def group(path):
    return os.path.basename(path).split("-")[0].removesuffix(".json")


def spread(files, shards):
    """Whole groups go to the shard with the fewest files so far, the largest groups first."""
    groups = collections.defaultdict(list)
    for f in sorted(files):
        groups[group(f)].append(f)
    for name in sorted(groups, key=lambda g: (-len(groups[g]), g)):
        min(shards, key=lambda s: len(s.files)).files += groups[name]


def steps_of(path):
    """How many steps of a scenario are compared: what it counts as when it was not replayed."""
    return sum("want" in step and not step.get("quiet") for step in json.load(open(path))["steps"])


def report(files, lines, show):
    """Prints what failed and the totals of each group; gives (steps that match, steps)."""
    matched = {}
    for line in lines:
        m = re.fullmatch(r"(?:ok|FAIL) +(\S+) +(\d+)/\d+", line)
        if m:
            matched[m[1]] = int(m[2])
    failing = [i for i, line in enumerate(lines) if line.startswith("FAIL")]
    for i in failing[:show]:
        print(lines[i])
        for line in lines[i + 1:i + 7]:
            if not line.startswith("   "):
                break
            print(line)
    if len(failing) > show:
        print("… and %d more scenarios" % (len(failing) - show))
    groups = collections.defaultdict(lambda: [0, 0])
    for path in files:
        g = groups[group(path)]
        g[0] += matched.get(os.path.basename(path).removesuffix(".json"), 0)
        g[1] += steps_of(path)
    print("%-16s %7s %6s" % ("group", "steps", "match"))
    for name, (ok, steps) in sorted(groups.items()):
        print("%-16s %7d %6d%s" % (name, steps, ok, "" if ok == steps else "  %3.0f%%" % (100 * ok / steps)))
    return sum(g[0] for g in groups.values()), sum(g[1] for g in groups.values())


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("galley", "upstream", "contract", "floor", "work"):
        p.add_argument("--" + name, required=True)
    p.add_argument("--frontend", help="installed frontends, as galley frontend install makes them")
    p.add_argument("--only", help="replay this group only; the floor does not count then")
    p.add_argument("--shards", type=int, default=6)
    p.add_argument("--minutes", type=float, default=15, help="for all of it")
    p.add_argument("--show", type=int, default=60, help="failing scenarios to print")
    args = p.parse_args()
    files = glob.glob(os.path.join(args.contract, "scenarios", "*.json"))
    if args.only:
        files = [f for f in files if group(f) == args.only]
    if not files:
        sys.exit("no scenarios")
    os.makedirs(os.path.join(args.work, "logs"), exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    shards = [Shard(i, args) for i in range(args.shards)]
    spread(files, shards)
    shards = [s for s in shards if s.files]
    lines, wrong, began = [], [], time.time()
    try:
        for s in shards:
            s.start()
        for s in shards:
            replayed, w = s.finish(began + 60 * args.minutes)
            lines += replayed
            wrong += w
    finally:
        for s in shards:
            s.stop()
    ok, steps = report(files, lines, args.show)
    floor = 0 if args.only else int(open(args.floor).read())
    print("%d of %d steps match, the floor is %d (%d s)" % (ok, steps, floor, time.time() - began))
    if ok < floor:
        wrong.append("%d steps match, the floor is %d" % (ok, floor))
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
