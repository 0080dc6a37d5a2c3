"""One process that speaks peers/PROTOCOL.md on its standard streams.

Knows: the protocol, and the words in which each implementation wants a command. Must not know: what is tested.
"""

import base64
import hashlib
import json
import os
import queue
import subprocess
import threading
import time

PROTOCOL = "/test/kad/1.0.0"
LAN = "/ipfs/lan/kad/1.0.0"
# The longest time until a process is ready, and until a command is answered, in seconds.
READY, ANSWER = 30, 30


def multihash(text):
    return b"\x12\x20" + hashlib.sha256(text.encode()).digest()


def cid(text):
    """A CIDv1 of raw bytes, sha2-256, in base 32."""
    return "b" + base64.b32encode(b"\x01\x55" + multihash(text)).decode().lower().rstrip("=")


class Peer:
    def __init__(self, kind, command, env=None, log=subprocess.DEVNULL):
        self.kind = kind
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            bufsize=1,
            env={**os.environ, **(env or {})},
        )
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()
        ready = self.answer(READY)
        if "peer" not in ready:
            self.close()
            raise RuntimeError(f"{kind} does not start: {ready.get('error')}")
        self.id, self.addrs = ready["peer"], ready["addrs"]

    def read(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                self.lines.put(json.loads(line))
        self.lines.put(None)

    def answer(self, seconds):
        try:
            answer = self.lines.get(timeout=seconds)
        except queue.Empty:
            return {"ok": False, "error": f"no answer in {seconds} s"}
        if answer is None:
            self.lines.put(None)
            return {"ok": False, "error": "the process has ended"}
        return answer

    def ask(self, *words):
        try:
            self.process.stdin.write(" ".join(words) + "\n")
        except OSError:
            pass  # it has ended, and the answer says so
        return self.answer(ANSWER)

    def addr(self):
        return next(addr for addr in self.addrs if "/tcp/" in addr)

    def dial(self, other):
        """Dials a peer, and waits until this one takes it for a server, which takes a moment."""
        answer = self.ask("dial", other.addr())
        end = time.monotonic() + 5
        while answer.get("ok") and time.monotonic() < end:
            table = self.ask("peers").get("routing_table")
            if table is None:
                time.sleep(1)  # the old go and kubo tell nobody whom they know
                break
            if other.id in table:
                break
            time.sleep(0.1)
        return answer

    def provide(self, content):
        """Provides it; the answer has the CID, or the key that stands for it."""
        if self.kind == "kubo":
            return self.ask("add", content)
        key = "hex:" + multihash(content).hex() if self.kind == "rust" else cid(content)
        return {**self.ask("provide", key), "cid": cid(content)}

    def providers(self, wanted):
        if self.kind == "rust":
            raw = base64.b32decode(wanted[1:].upper() + "=" * (-(len(wanted) - 1) % 8))
            wanted = "hex:" + raw[2:].hex()
        return self.ask("findprovs", wanted)

    def finds_provider(self, wanted, provider):
        """The answer, with `ok` only if the provider is in it, with addresses where the implementation tells them."""
        answer = self.providers(wanted)
        found = [one for one in answer.get("providers") or [] if one["id"] == provider]
        right = bool(found) and (self.kind == "rust" or bool(found[0]["addrs"]))
        return {**answer, "ok": right}

    def finds_peer(self, peer):
        answer = self.ask("findpeer", peer)
        return {**answer, "ok": bool(answer.get("ok") and answer["peer"]["addrs"])}

    def gets(self, key, value):
        answer = self.ask("get", key)
        return {**answer, "ok": answer.get("value") == value}

    def close(self):
        self.process.kill()
        self.process.wait()
