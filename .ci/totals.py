#!/usr/bin/env python3
"""Prints how many steps of the contract match, by group of scenarios, and fails below a floor.

    totals.py RESULTS.json FLOOR-FILE

RESULTS.json is what replay.py --json wrote; FLOOR-FILE holds a number, which is raised as more steps match.
"""
import collections
import json
import sys


def main():
    results = json.load(open(sys.argv[1]))
    floor = int(open(sys.argv[2]).read())
    groups = collections.defaultdict(lambda: [0, 0])
    for step in results:
        group = groups[step["scenario"].split("-")[0]]
        group[0] += step["ok"]
        group[1] += 1
    print("group              steps  match")
    for name, (ok, steps) in sorted(groups.items()):
        print("%-16s %7d %6d  %s" % (name, steps, ok, "" if ok == steps else "%.0f%%" % (100 * ok / steps)))
    ok = sum(g[0] for g in groups.values())
    print("%-16s %7d %6d  floor %d" % ("all", len(results), ok, floor))
    if ok < floor:
        sys.exit("%d steps match, the floor is %d" % (ok, floor))


if __name__ == "__main__":
    main()
