"""Runs the examples that rust-libp2p has too, as several processes on loopback. Usage: migrated.py EXAMPLES KAD_NODE"""

import os
import re
import subprocess
import sys
import tempfile
import time

EXAMPLES, KAD_NODE = sys.argv[1:]
running = []


def start(program, *args):
    process = subprocess.Popen(
        [program, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    running.append(process)
    return process


def expect(process, pattern):
    """The next line, which must match."""
    line = process.stdout.readline().rstrip()
    match = re.fullmatch(pattern, line)
    assert match, f"{process.args}: {line!r} is not like {pattern!r}"
    return match


def finish(name, *args, code=0):
    """Runs an example to its end. With `None` any exit code is right."""
    done = subprocess.run([f"{EXAMPLES}/{name}", *args], capture_output=True, text=True, timeout=30)
    assert code in (None, done.returncode), (done.args, done.returncode, done.stdout, done.stderr)
    return done


def store():
    def node(*first):
        process = start(f"{EXAMPLES}/distributed_key_value_store", "--loopback", *first)
        at = expect(process, r"Listening on (/ip4/127\.0\.0\.1/tcp/\d+/p2p/(\w+))")
        for _ in first:
            expect(process, "Joined, and knows [12] peers")
        return process, at

    def ask(process, line, *answers):
        print(line, file=process.stdin, flush=True)
        for answer in answers:
            expect(process, answer)

    one, at = node()
    two, _ = node(at[1])
    three, own = node(at[1])
    ask(two, "PUT name Ada", "Put name at [12] peers")
    ask(three, "PUT_PROVIDER file", "Announced file to [12] peers")
    for process in (one, two, three):
        ask(process, "GET name", 'Got name "Ada"')
        ask(process, "GET_PROVIDERS file", f"{own[2]} provides file")
    ask(two, "GET nothing", "GET nothing failed: .*")
    ask(two, "nonsense", "expected GET, GET_PROVIDERS, PUT or PUT_PROVIDER")
    for process in (one, two, three):
        process.stdin.close()
        assert process.wait(10) == 0


def ipfs():
    flags = ["--network", "amino", "--addresses", "any", "--mode", "server", "--json"]
    first = start(KAD_NODE, *flags, "--no-bootstrap")
    addr = expect(first, r".*?(/ip4/127\.0\.0\.1/tcp/\d+/p2p/\w+).*")[1]
    for _ in range(3):
        expect(start(KAD_NODE, *flags, "--bootstrap", addr), ".*/p2p/.*")
    end = time.monotonic() + 20  # they join while they serve already
    while len(finish("ipfs_kad", "get-peers", "--bootstrap", addr).stdout.splitlines()) < 5:
        assert time.monotonic() < end, "the nodes do not find each other"
    for args in (["get-peers"], ["get-peers", addr.rsplit("/", 1)[1]]):
        found = finish("ipfs_kad", *args, "--bootstrap", addr).stdout.splitlines()
        assert found[0].startswith("The peers closest to ") and len(found) == 5, found
        assert all("/ip4/127.0.0.1/tcp/" in line for line in found[1:]), found
    found = finish("ipfs_kad", "put-pk-record", "--bootstrap", addr).stdout
    assert found == "The public key is kept by 4 peers\n", found
    assert "Usage: " in finish("ipfs_kad", "nonsense", "--bootstrap", addr, code=1).stderr


def files():
    def owner(name, *first):
        path = os.path.join(home, name)
        with open(path, "w") as file:
            file.write(f"what {name} says\n")
        process = start(f"{EXAMPLES}/file_sharing", "provide", name, path, "/ip4/127.0.0.1/tcp/0", *first)
        return process, expect(process, r"Listening on (/ip4/127\.0\.0\.1/tcp/\d+/p2p/\w+)")[1]

    with tempfile.TemporaryDirectory() as home:
        one, addr = owner("letter")
        expect(one, "no peers known; who joins here finds it nevertheless")
        owner("diary", addr)
        for name, seconds in (("letter", 0), ("diary", 20)):
            end = time.monotonic() + seconds  # until its owner has announced it
            while finish("file_sharing", "get", name, addr, code=None).stdout != f"what {name} says\n":
                assert time.monotonic() < end, f"{name} is not found"
        assert "none of its providers sent other" in finish("file_sharing", "get", "other", addr, code=1).stderr


try:
    for check in (store, ipfs, files):
        begun = time.monotonic()
        check()
        print(f"{check.__name__:<12} {time.monotonic() - begun:5.1f} s")
finally:
    for process in running:
        process.kill()
