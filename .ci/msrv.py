"""Fails if a run-time dependency wants a newer Rust than this crate says it needs."""

import json
import sys

metadata = json.load(sys.stdin)
packages = {p["id"]: p for p in metadata["packages"]}
nodes = {n["id"]: n for n in metadata["resolve"]["nodes"]}


def version(text):
    return tuple(int(part) for part in (text or "0").split("."))


root = metadata["resolve"]["root"]
runtime, left = set(), [root]
while left:
    node = left.pop()
    if node not in runtime:
        runtime.add(node)
        left += [d["pkg"] for d in nodes[node]["deps"] if any(k["kind"] is None for k in d["dep_kinds"])]
own = packages[root]["rust_version"]
newer = [packages[i] for i in runtime if version(packages[i]["rust_version"]) > version(own)]
for package in newer:
    print(f"{package['name']} {package['version']} needs Rust {package['rust_version']}, over {own}")
print(f"{len(runtime)} packages, Rust {own}")
sys.exit(bool(newer))
