"""A go-libp2p Kademlia DHT server on loopback TCP, driven by lines on stdin.

    python peer.py [--proto /test/kad/1.0.0] [--port 0] [--client]

The Go code (go-libp2p 0.24.2, go-libp2p-kad-dht 0.20.0) is a shared library inside
the PyPI wheel libp2p-go 0.1.4. That wheel and py-libp2p both install a module named
libp2p, so this one needs a virtual environment of its own.

Prints one JSON line when ready and one JSON line per command. See ../PROTOCOL.md.
"""
import argparse
import asyncio
import json
import os
import sys
import time

from libp2p import DisableRelay, Host, ListenAddrStrings
from libp2p.cid import Cid
from libp2p.crypto import KeyType, crypto_generate_keypair
from libp2p.dht import DHT, DhtModeEnum, Mode, NamespacedValidator, ProtocolPrefix, V1ProtocolOverride
from libp2p.main import Identity
from libp2p.peer import AddrInfo, Peer, addr_info_from_p2p_addr
from libp2p.routed_host import RoutedHost
from libp2p.validator import Validator

TIMEOUT = 15


class Greatest(Validator):
    """Any value is valid; the greatest wins."""

    def validate(self, key, value):
        pass

    def select(self, key, values):
        return max(range(len(values)), key=lambda i: values[i])


def to_bytes(s):
    return bytes.fromhex(s[4:]) if s.startswith("hex:") else s.encode()


def to_text(b):
    try:
        return b.decode()
    except UnicodeDecodeError:
        return "hex:" + b.hex()


def say(answer):
    print(json.dumps(answer), flush=True)


class Commands:
    def __init__(self, host, dht):
        self.host, self.dht = host, dht
        self.routed = RoutedHost(host, dht)

    async def dial(self, addr):
        target = addr_info_from_p2p_addr(addr)
        await self.host.connect(target)
        return {"remote": target.id.string}

    async def put(self, key, value):
        await self.dht.put_value(to_bytes(key), to_bytes(value))
        return {}

    async def get(self, key):
        value = await self.dht.get_value(to_bytes(key))
        if value is None:
            raise RuntimeError("not found")
        return {"value": to_text(value)}

    async def provide(self, cid):
        await self.dht.provide(Cid.decode(cid), True)
        return {}

    async def findprovs(self, cid):
        found = await self.dht.find_providers(Cid.decode(cid))
        if not found:
            raise RuntimeError("no providers")
        return {"providers": [{"id": p.id.string, "addrs": p.addrs} for p in found]}

    async def findpeer(self, peer):
        # The library exports no FindPeer; a routed connect to a bare peer id runs it.
        target = AddrInfo(Peer.decode(peer), [])
        await self.routed.connect(target)
        return {"peer": {"id": peer, "addrs": list(self.host.peer_store.addrs(peer))}, "by": "routed connect"}


async def serve(args):
    key, _ = crypto_generate_keypair(KeyType.Ed25519, 0)
    listen = ListenAddrStrings(f"/ip4/127.0.0.1/tcp/{args.port}")
    host = Host(listen, Identity(key), DisableRelay)
    # With the /ipfs prefix go-libp2p-kad-dht takes no validators but pk and ipns;
    # another prefix plus the override names any protocol and keeps /test usable.
    dht = await DHT.new(
        host,
        Mode(DhtModeEnum.ModeClient if args.client else DhtModeEnum.ModeServer),
        ProtocolPrefix("/interop"),
        V1ProtocolOverride(args.proto),
        NamespacedValidator("test", Greatest()),
    )
    await dht.bootstrap()
    commands = Commands(host, dht)
    me = host.id.string
    say({"event": "ready", "impl": "go", "peer": me,
         "addrs": [f"{a}/p2p/{me}" for a in host.addrs], "protocol": args.proto})
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        words = line.split()
        if not words:
            continue
        if words[0] == "quit":
            say({"cmd": "quit", "ok": True, "bye": True})
            break
        start = time.monotonic()
        try:
            handler = getattr(commands, words[0], None)
            if handler is None:
                raise ValueError(f"unknown command {words[0]}")
            answer = {"cmd": words[0], "ok": True, **await asyncio.wait_for(handler(*words[1:]), TIMEOUT)}
        except Exception as e:
            answer = {"cmd": words[0], "ok": False, "error": f"{type(e).__name__}: {e}"}
        answer["ms"] = round((time.monotonic() - start) * 1000)
        say(answer)
    os._exit(0)  # the Go runtime has no orderly end from here


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--proto", default="/ipfs/kad/1.0.0")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--client", action="store_true")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
