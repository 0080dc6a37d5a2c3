"""Drives two `kad-node` as a script would, and checks every answer. Usage: node.py EXECUTABLE"""

import json
import subprocess
import sys
import time
import urllib.request

CID = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi"


class Node:
    def __init__(self, *flags):
        begun = time.monotonic()
        command = [sys.argv[1], "--json", *flags]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ready = self.answer()
        self.took = time.monotonic() - begun
        assert self.ready["event"] == "ready", self.ready
        self.peer, self.addr = self.ready["peer"], self.ready["addrs"][0]

    def answer(self):
        return json.loads(self.process.stdout.readline())

    def ask(self, line, ok=True):
        print(line, file=self.process.stdin, flush=True)
        answer = self.answer()
        assert answer["ok"] is ok, (line, answer)
        return answer

    def quit(self):
        self.ask("quit")
        assert self.process.stdout.read() == "", "more output after quit"
        assert self.process.wait(10) == 0


def check_metrics(url, peer):
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text"), answer.headers
        text = answer.read().decode()
    assert text.endswith("# EOF\n") and f'kad_node_info{{peer="{peer}"' in text, text
    types = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types)) > 30, types
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert samples['kad_requests_received_total{kind="put_value"}'] == "2", text
    assert samples["kad_connected_peers"] == "1" and samples["kad_table_peers"] == "1", text
    assert samples['kad_store_records{what="values"}'] == "2", text


def main():
    first = Node("--key-seed", "1", "--metrics", "0")
    second = Node("--listen", "/ip4/127.0.0.1/udp/0/quic-v1", "--bootstrap", first.addr)
    assert second.ask("put /app/greeting hello, world")["stored"] == [first.peer]
    assert first.ask("get /app/greeting")["value"] == "hello, world"
    second.ask("put hex:00ff hex:80ff")
    assert first.ask("#7 get hex:00ff") | {"ms": 0} == {
        "id": "7", "cmd": "get", "ok": True, "ms": 0, "key": "hex:00ff", "value": "hex:80ff", "from": None, "answers": 0,
    }
    assert second.ask(f"provide {CID}")["announced"] == [first.peer]
    (provider,) = first.ask(f"findprovs {CID}")["providers"]
    assert provider["id"] == second.peer and second.addr.startswith(provider["addrs"][0]), provider
    assert first.ask(f"findpeer {second.peer}")["peer"]["id"] == second.peer
    assert [peer["id"] for peer in second.ask("closest /app/greeting")["peers"]] == [first.peer]
    assert first.ask("peers")["connected"] == [second.peer]
    records = second.ask("records")
    assert {record["key"] for record in records["values"]} == {"/app/greeting", "hex:00ff"}, records
    assert [record["id"] for record in records["providers"]] == [second.peer], records
    assert "not found" in second.ask("get /app/nothing", ok=False)["error"]
    assert "unknown command" in second.ask("nonsense", ok=False)["error"]
    check_metrics(first.ready["metrics"], first.peer)
    second.quit()
    first.quit()
    refused = subprocess.run([sys.argv[1], "--network", "moon"], stdin=subprocess.DEVNULL, capture_output=True)
    assert refused.returncode == 2 and b"--network" in refused.stderr, refused
    print(f"node         ready after {first.took:.3f} s and {second.took:.3f} s")
    assert min(first.took, second.took) < 1, "a node is ready in less than a second"


main()
