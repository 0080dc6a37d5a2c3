"""One network of 30 nodes of all implementations, each of which restarts as a new node within two minutes.

Knows: how nodes are driven. Must not know: single implementations, but for what they cannot do.
"""

import random
import sys
import threading
import time

from features import OURS, Stage
from install import TITLES
from peer import cid

NODES, MINUTES = 30, 2
# Nodes of each implementation; the rest is ours.
OF_EACH = {"rust": 4, "js": 4, "py": 3, "go": 5, "go-old": 3}
# Threads that run operations.
WORKERS = 4
# A record is looked for at these ages in seconds, while several of its 20 holders still live.
YOUNGEST, OLDEST = 2, 45
# The share of look-ups that must succeed: theirs may meet their own faults.
OURS_MUST, THEIRS_MUST = 0.99, 0.9

THEY_READ = "network of 30 under restarts: they find what ours published"
WE_READ = "network of 30 under restarts: ours find what they published"
NETWORK_FEATURES = [WE_READ, THEY_READ]


class Member:
    def __init__(self, kind, peer):
        self.kind, self.peer = kind, peer
        self.lock = threading.Lock()


class Network:
    def __init__(self, commands, logs=None):
        kinds = [name for name, count in OF_EACH.items() for _ in range(count) if name in commands]
        self.kinds = [OURS] * (NODES - len(kinds)) + kinds
        self.stage = Stage(None, commands, logs)
        self.random = random.Random(7)
        self.members, self.records = [], []
        self.lock = threading.Lock()
        # Tried and well, by reader's and publisher's kind.
        self.counts = {}
        self.faults = {}

    def start(self, kind):
        """A node that knows three others."""
        with self.lock:
            known = self.random.sample([member.peer for member in self.members], min(3, len(self.members)))
        peer = self.stage.start(kind)
        for other in known:
            peer.dial(other)
        return peer

    def run(self, table):
        begun = time.monotonic()
        with self.stage:
            for kind in self.random.sample(self.kinds, NODES):
                self.members.append(Member(kind, self.start(kind)))
            print(f"network: {NODES} nodes run after {time.monotonic() - begun:.0f} s", flush=True)
            end = time.monotonic() + 60 * MINUTES
            threads = [threading.Thread(target=self.restarts, args=(end,))]
            threads += [threading.Thread(target=self.operations, args=(end, seed)) for seed in range(WORKERS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.conclude(table)

    def restarts(self, end):
        """Each node once, spread over the time."""
        pause = 60 * MINUTES / NODES
        for member in self.random.sample(self.members, NODES):
            due = time.monotonic() + pause
            with member.lock:
                member.peer.close()
                try:
                    member.peer = self.start(member.kind)
                except RuntimeError as error:
                    print(f"network: {error}", file=sys.stderr, flush=True)
            time.sleep(max(0, min(due, end) - time.monotonic()))

    def operations(self, end, seed):
        choice = random.Random(seed)
        for n in range(10_000):
            if time.monotonic() > end:
                return
            member = choice.choice(self.members)
            with member.lock:
                if n % 2 == 0:
                    self.publish(member, f"{seed}-{n}")
                else:
                    self.look_up(member, choice)

    def publish(self, member, name):
        peer, content = member.peer, f"content {name}"
        put = peer.ask("put", f"/test/{name}", f"value-{name}").get("ok")
        # py answers ADD_PROVIDER, which go takes for the answer to its next request; if that is a put, its process dies.
        deadly = "py" in self.kinds and member.kind in ("go", "go-old")
        provided = not deadly and peer.provide(content).get("ok")
        with self.lock:
            self.records.append((time.monotonic(), name, member.kind, peer.id, put, provided and content))

    def look_up(self, member, choice):
        now = time.monotonic()
        with self.lock:
            fresh = [one for one in self.records if YOUNGEST < now - one[0] < OLDEST]
            fresh = [one for one in fresh if OURS in (one[2], member.kind) and one[3] != member.peer.id]
        if not fresh:
            return time.sleep(0.2)
        at, name, kind, publisher, put, content = choice.choice(fresh)
        answers = []
        if put:
            answers.append(("get", member.peer.gets(f"/test/{name}", f"value-{name}")))
        if content:
            answers.append(("providers", member.peer.finds_provider(cid(content), publisher)))
        with self.lock:
            count = self.counts.setdefault((member.kind, kind), [0, 0])
            for what, answer in answers:
                count[0] += 1
                count[1] += bool(answer["ok"])
                if not answer["ok"]:
                    age = now - at
                    self.faults.setdefault((member.kind, kind), []).append(f"{what} after {age:.0f} s: {answer}"[:300])

    def conclude(self, table):
        for (reader, publisher), (tried, well) in sorted(self.counts.items()):
            print(f"network: {reader} finds what {publisher} published: {well} of {tried}")
            for fault in self.faults.get((reader, publisher), [])[:3]:
                print(f"network:   {fault}")

        def answer(reader, publisher, share):
            tried, well = self.counts.get((reader, publisher), [0, 0])
            error = f"{well} of {tried} look-ups of {reader} found what {publisher} published"
            return {"ok": tried > 0 and well >= share * tried, "error": error}

        for name in TITLES:
            if name in self.stage.commands and name in OF_EACH:
                table.note_all(name, {
                    WE_READ: answer(OURS, name, THEIRS_MUST),
                    THEY_READ: answer(name, OURS, THEIRS_MUST),
                })
        ours = answer(OURS, OURS, OURS_MUST)
        if not ours["ok"]:
            table.faults["ours", "network of 30 under restarts"] = ours["error"]
