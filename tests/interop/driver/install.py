"""The implementations: their versions, how each is installed, and how it is started.

Knows: the package registries' clients. Must not know: what is tested.

Each is installed once for each content of its files here, into a cache, by go, npm or pip, which need nothing but their
package registries. One that cannot be had, or not in time, is named with the reason.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from peer import LAN, PROTOCOL

PEERS = Path(__file__).resolve().parent.parent / "peers"
ROOT = PEERS.parent.parent.parent

# Name and title in the order of the table.
TITLES = {
    "rust": "libp2p-kad 0.49 (rust-libp2p 0.57)",
    "js": "@libp2p/kad-dht 16.4.5 (js-libp2p 3.3.11)",
    "py": "py-libp2p 0.8.1",
    "go": "go-libp2p-kad-dht 0.42.2 (go-libp2p 0.51)",
    "go-old": "go-libp2p-kad-dht 0.20.0 (go-libp2p 0.24)",
    "kubo": "kubo 0.22.0 (go-libp2p-kad-dht 0.24)",
}


class Unavailable(Exception):
    """The implementation cannot be had on this machine."""


def needs(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Unavailable(f"there is no `{program}`")


class Installer:
    """Installs into directories below `cache` until `deadline`."""

    def __init__(self, cache, deadline):
        self.cache, self.deadline = cache, deadline

    def run(self, command, **options):
        left = self.deadline - time.monotonic()
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        # A group of its own, so that what it started ends with it.
        process = subprocess.Popen([str(word) for word in command], start_new_session=True, **pipes, **options)
        try:
            output, _ = process.communicate(timeout=max(left, 1))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise Unavailable(f"`{Path(command[0]).name}` did not end in time")
        if process.returncode != 0:
            last = output.strip().splitlines()[-1:]
            raise Unavailable(f"`{Path(command[0]).name}` failed: {''.join(last)[:200]}")

    def place(self, name, install):
        """The directory of an implementation; `install` fills it unless that was done before with the same files."""
        pins = hashlib.sha256()
        for file in sorted(path for path in (PEERS / name).rglob("*") if path.is_file()):
            pins.update(file.name.encode() + file.read_bytes())
        place = self.cache / f"{name}-{pins.hexdigest()[:12]}"
        done = place / "installed"
        if not done.exists():
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(PEERS / name, place, ignore=shutil.ignore_patterns("__pycache__"))
            install(place)
            done.touch()
        return place

    def go(self):
        needs("go")
        env = {**os.environ, "GOTOOLCHAIN": "local"}
        place = self.place("go", lambda place: self.run(["go", "build", "-o", "gopeer", "."], cwd=place, env=env))
        return [place / "gopeer"]

    def js(self):
        needs("node", "npm")
        command = ["npm", "ci", "--no-audit", "--no-fund", "--no-update-notifier", "--silent"]
        place = self.place("js", lambda place: self.run(command, cwd=place))
        return ["node", place / "peer.mjs"]

    def wheels(self, name):
        """A virtual environment of its own for each: two of them install a module `libp2p`."""

        def install(place):
            self.run([sys.executable, "-m", "venv", place / "venv"])
            pip = [place / "venv/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            self.run([*pip, "--no-deps", "-r", place / "requirements.txt"])

        place = self.place(name, install)
        return [place / "venv/bin/python", place / "peer.py"]

    def command(self, name):
        """The command that starts the implementation, without its options."""
        if name in ("py", "go-old", "kubo"):
            return self.wheels(name)
        return getattr(self, name)()


def test_program():
    """The program of `tests/interop.rs`, whose `serve` is a node of libp2p-kad."""
    command = ["cargo", "test", "--quiet", "--all-features", "--test", "interop", "--no-run"]
    build = subprocess.run([*command, "--message-format=json"], cwd=ROOT, capture_output=True, text=True)
    marker = '"executable":"'
    found = [line.split(marker)[1].split('"')[0] for line in build.stdout.splitlines() if marker in line]
    if build.returncode != 0 or not found:
        sys.exit(f"cargo cannot build tests/interop.rs: {build.stderr[-2000:]}")
    return [found[-1], "--ignored", "--exact", "serve::serve", "--nocapture"]


def start_of(name, command, *, client=False, proto=PROTOCOL, checked=False):
    """The command and environment of a node."""
    if name == "rust":
        return command, {"KAD_CLIENT": "1"} if client else {}
    if name == "kubo":
        return [*command, "--proto", LAN], {}
    if name == "ours":
        mode = ["--mode", "client" if client else "server"]
        lan = ["--network", "lan", "--addresses", "any"] if checked else []
        return [*command, "--json", "--protocol", proto, *mode, *lan], {}
    return [*command, "--proto", proto, *(["--client"] if client else [])], {}
