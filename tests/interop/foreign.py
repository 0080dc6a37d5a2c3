#!/usr/bin/env python3
"""Our node among go-libp2p, js-libp2p and py-libp2p nodes, over loopback TCP: who finds what through whom.

    tests/interop/foreign.py [--node PATH] [--build DIR] [--kinds go,js,py]

For every hub, A and B of which at least one is ours: A knows only the hub, puts a value and provides content; then B
starts, knows only the hub, and gets the value, finds the provider and finds A, with addresses. Then A leaves, and
another B gets and finds again, from those who keep it. Prints a table and exits 1 if anything failed. A kind whose
tools (go; node and npm) are missing is skipped, and said to be; py, which needs a C compiler and libgmp, is left out
unless it is named. Builds into target/foreign; needs `cargo build -p libp2p-kad-node` first.
"""

import argparse
import base64
import hashlib
import itertools
import json
import queue
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PROTOCOL = "/test/kad/1.0.0"

# Operations that fail among the others too: (hub, A, operation).
KNOWN = {
    # go echoes py's own signed record of its sender, in which py then misses go's id; the value is kept and found.
    ("go", "py", "put"),
}


def log(*words):
    print(*words, file=sys.stderr, flush=True)


class Peer:
    """One process that speaks peers/PROTOCOL.md on its standard streams."""

    def __init__(self, kind, command):
        self.kind = kind
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
        )
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()
        ready = self.answer(20)
        self.id, self.addrs = ready["peer"], ready["addrs"]

    def read(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                self.lines.put(json.loads(line))

    def answer(self, seconds):
        try:
            return self.lines.get(timeout=seconds)
        except queue.Empty:
            return {"ok": False, "error": f"no answer in {seconds} s"}

    def ask(self, *words):
        try:
            self.process.stdin.write(" ".join(words) + "\n")
        except OSError as error:
            return {"ok": False, "error": str(error)}
        return self.answer(30)

    def dial(self, other):
        addr = next(addr for addr in other.addrs if "/tcp/" in addr)
        return self.ask("dial", addr)

    def close(self):
        self.process.kill()
        self.process.wait()


def cid(text):
    """A CIDv1 of raw bytes, sha2-256, in base 32."""
    raw = b"\x01\x55\x12\x20" + hashlib.sha256(text.encode()).digest()
    return "b" + base64.b32encode(raw).decode().lower().rstrip("=")


def build(directory, kinds):
    """The command of each kind that can be had here."""
    commands = {}
    if "go" in kinds:
        if shutil.which("go"):
            program = directory / "gopeer"
            if not program.exists():
                log("building the go peer, about 90 s")
                subprocess.run(["go", "build", "-o", program, "."], cwd=HERE / "peers/go", check=True)
            commands["go"] = [program, "--proto", PROTOCOL]
        else:
            log("SKIPPED: go-libp2p, since there is no `go`")
    if "js" in kinds:
        if shutil.which("node") and shutil.which("npm"):
            place = directory / "js"
            if not (place / "node_modules").exists():
                log("installing the js peer")
                shutil.copytree(HERE / "peers/js", place, dirs_exist_ok=True)
                subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--silent"], cwd=place, check=True)
            commands["js"] = ["node", place / "peer.mjs", "--proto", PROTOCOL]
        else:
            log("SKIPPED: js-libp2p, since there is no `node` and `npm`")
    if "py" in kinds:
        place = directory / "py"
        python = place / "bin/python"
        if not python.exists():
            log("installing the py peer, about 60 s")
            subprocess.run([sys.executable, "-m", "venv", place], check=True)
            requirements = HERE / "peers/py/requirements.txt"
            subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "-r", requirements], check=True)
        commands["py"] = [python, HERE / "peers/py/peer.py", "--proto", PROTOCOL]
    return commands


class Table:
    def __init__(self):
        self.cells = {}
        self.faults = []
        self.tried = 0

    def note(self, run, what, ok, answer):
        hub, a, b = run
        known = not ok and (hub, a, what) in KNOWN
        word = "ok" if ok else "known" if known else "FAILED"
        earlier = self.cells.get((hub, f"{a} -> {b}", what), "ok")
        self.cells[hub, f"{a} -> {b}", what] = max(word, earlier, key=["ok", "known", "FAILED"].index)
        self.tried += 1
        if not ok and not known:
            self.faults.append(f"hub {hub}, {a} -> {b}, {what}: {json.dumps(answer)[:300]}")

    def show(self):
        columns = list(dict.fromkeys(what for _, _, what in self.cells))
        rows = dict.fromkeys((hub, pair) for hub, pair, _ in self.cells)
        print(f"{'hub':<6}{'A -> B':<14}" + "".join(f"{column:<16}" for column in columns))
        for hub, pair in rows:
            words = [self.cells.get((hub, pair, column), "-") for column in columns]
            print(f"{hub:<6}{pair:<14}" + "".join(f"{word:<16}" for word in words))
        for fault in self.faults:
            print("FAILED:", fault)
        known = list(self.cells.values()).count("known")
        print(f"{self.tried - len(self.faults) - known} of {self.tried} ok, {known} known not to work among the others")


def found(answer, peer):
    providers = answer.get("providers") or []
    return any(provider["id"] == peer.id and provider["addrs"] for provider in providers)


def run(start, kinds, table):
    hub_kind, a_kind, b_kind = kinds
    name = "-".join(kinds)
    key, value, content = f"/test/{name}", f"value-of-{name}", cid(name)
    peers = []

    def new(kind, hub=None):
        peer = start(kind)
        peers.append(peer)
        if hub:
            table.note(kinds, "dial", peer.dial(hub).get("ok"), "dial")
        return peer

    try:
        hub = new(hub_kind)
        a = new(a_kind, hub)
        until_known(a, hub)
        answer = a.ask("put", key, value)
        table.note(kinds, "put", answer.get("ok"), answer)
        answer = a.ask("provide", content)
        table.note(kinds, "provide", answer.get("ok"), answer)
        b = new(b_kind, hub)
        until_known(b, hub)
        answer = b.ask("get", key)
        table.note(kinds, "get", answer.get("value") == value, answer)
        answer = b.ask("findprovs", content)
        table.note(kinds, "findprovs", found(answer, a), answer)
        answer = b.ask("findpeer", a.id)
        table.note(kinds, "findpeer", answer.get("ok") and answer["peer"]["addrs"], answer)
        a.close()
        b.close()
        late = new(b_kind, hub)
        until_known(late, hub)
        answer = late.ask("get", key)
        table.note(kinds, "get, A gone", answer.get("value") == value, answer)
        answer = late.ask("findprovs", content)
        table.note(kinds, "provs, A gone", found(answer, a), answer)
    finally:
        for peer in peers:
            peer.close()


def until_known(peer, hub):
    """A node takes a moment to learn that the peer which it dialled serves. Bounded, and nothing is asserted by it."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        answer = peer.ask("peers")
        if not answer.get("ok"):
            time.sleep(1)  # go tells nobody whom it knows
            return
        if hub.id in json.dumps(answer.get("routing_table", "")):
            return
        time.sleep(0.1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node", type=Path, default=ROOT / "target/debug/kad-node")
    parser.add_argument("--build", type=Path, default=ROOT / "target/foreign")
    parser.add_argument("--kinds", default="go,js")
    args = parser.parse_args()
    if not args.node.exists():
        sys.exit(f"{args.node} is missing: cargo build -p libp2p-kad-node")
    args.build.mkdir(parents=True, exist_ok=True)
    commands = build(args.build.resolve(), args.kinds.split(","))
    if not commands:
        log("SKIPPED: nothing to test against")
        return
    commands["ours"] = [args.node, "--json", "--protocol", PROTOCOL, "--listen", "/ip4/127.0.0.1/tcp/0"]
    table = Table()
    for kinds in itertools.product(commands, repeat=3):
        if "ours" in kinds:
            log("hub {}, {} -> {}".format(*kinds))
            run(lambda kind: Peer(kind, [str(word) for word in commands[kind]]), kinds, table)
    table.show()
    sys.exit(1 if table.faults else 0)


if __name__ == "__main__":
    main()
