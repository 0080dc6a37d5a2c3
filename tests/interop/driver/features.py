"""What is checked with each implementation, one after another: values, providers, modes, restarts, IPNS.

Knows: the nodes that a check starts. Must not know: how they are installed.
"""

import sys
import tempfile
import time
from pathlib import Path

from install import start_of
from peer import LAN, PROTOCOL, Peer
from table import KNOWN

RECORDS = Path(__file__).resolve().parent.parent.parent / "validators/ipns.txt"
OURS, THEIRS = "ours", "theirs"

# Hub, publisher, reader: at least one is ours and one theirs.
TRIPLES = [
    (OURS, OURS, THEIRS),
    (OURS, THEIRS, OURS),
    (OURS, THEIRS, THEIRS),
    (THEIRS, OURS, OURS),
    (THEIRS, OURS, THEIRS),
    (THEIRS, THEIRS, OURS),
]
OPERATIONS = ["get", "find providers", "find peer", "get, publisher gone", "find providers, publisher gone"]


def row(operation, hub, a, b):
    return f"{operation}: hub {hub}, {a} → {b}"


ACKNOWLEDGED = {
    (OURS, THEIRS): "put and provide end well: hub ours, publisher theirs",
    (THEIRS, OURS): "put and provide end well: hub theirs, publisher ours",
}
OUR_CLIENT = "our client at their servers: all operations, and it is in no table"
THEIR_CLIENT = "their client at our servers: all operations, and it is in no table"
MODE = "ours turns client and server again: it takes their records only as a server"
KILLED = "ours is killed and starts again from its disk: they find their value and provider at it"
RESTARTED = "theirs restarts as a new node: it and ours find each other again"
# The library that has kubo can neither publish nor resolve names, but kubo's server checks them.
IPNS_OURS = "IPNS: ours publishes, they resolve (kubo: hold), publisher gone"
IPNS_THEIRS = "IPNS: they publish (kubo: hold), ours resolves, publisher gone"
IPNS_FORGED = "IPNS: a forged record is refused, by them and by ours"

FEATURES = [
    *ACKNOWLEDGED.values(),
    *(row(operation, *triple) for operation in OPERATIONS for triple in TRIPLES),
    OUR_CLIENT,
    THEIR_CLIENT,
    MODE,
    KILLED,
    RESTARTED,
    IPNS_OURS,
    IPNS_THEIRS,
    IPNS_FORGED,
]


class Stage:
    """The nodes of one check; all end with it, and their files."""

    def __init__(self, name, commands, logs=None):
        self.name, self.commands, self.logs = name, commands, logs
        self.proto = LAN if name == "kubo" else PROTOCOL
        self.peers = []
        self.files = tempfile.TemporaryDirectory(prefix="interop-", ignore_cleanup_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for peer in self.peers:
            peer.close()
        self.files.cleanup()

    def signer(self):
        """A process that signs IPNS records with this crate."""
        self.peers.append(Peer("rust", *start_of("rust", self.commands["signer"])))
        return self.peers[-1]

    def start(self, who, *hubs, client=False, flags=(), checked=None):
        """A node that knows these hubs; one of ours that is `checked` takes only values of IPFS."""
        name = self.name if who == THEIRS else who
        checked = self.name == "kubo" if checked is None else checked
        command, env = start_of(name, self.commands[name], client=client, proto=self.proto, checked=checked)
        log = {"log": open(self.logs / f"{self.name}-{name}.log", "a")} if self.logs else {}
        peer = Peer(name, [*command, *flags], {**env, "TMPDIR": self.files.name}, **log)
        self.peers.append(peer)
        for hub in hubs:
            answer = peer.dial(hub)
            if not answer.get("ok"):
                raise RuntimeError(f"{name} cannot dial {hub.kind}: {answer}")
        return peer


def all_of(answers):
    """The first answer that is not well, else a good one."""
    return next((answer for answer in answers if not answer.get("ok")), {"ok": True})


def until(seconds, check):
    """Repeats a check once a second until its answer is well; the last answer."""
    end = time.monotonic() + seconds
    while True:
        answer = check()
        if answer.get("ok") or time.monotonic() > end:
            return answer
        time.sleep(1)


def triple(stage, note, kinds):
    """Hub, publisher and reader: values, providers and peers, while the publisher lives and after."""
    hub_is, a_is, b_is = kinds
    kubo = stage.name == "kubo"
    key, value, content = "/test/" + "-".join(kinds), "value-of-" + "-".join(kinds), "content of " + "-".join(kinds)
    hub = stage.start(hub_is)
    a = stage.start(a_is, hub)
    acknowledged = [] if kubo else [a.ask("put", key, value)]
    provided = a.provide(content)
    if (hub_is, a_is) in ACKNOWLEDGED:
        note(ACKNOWLEDGED[hub_is, a_is], all_of([*acknowledged, provided]))
    # kubo says nothing about providers, but fetches from one that is kubo too.
    fetches = kubo and b_is == THEIRS
    seeks = not fetches or a_is == THEIRS

    def sought(reader):
        if not fetches:
            return reader.finds_provider(provided.get("cid", "-"), a.id)
        return reader.ask("fetch", provided.get("cid", "-"))

    b = stage.start(b_is, hub)
    if not kubo:
        note(row("get", *kinds), b.gets(key, value))
    if seeks:
        note(row("find providers", *kinds), sought(b))
    note(row("find peer", *kinds), b.finds_peer(a.id))
    a.close()
    b.close()
    late = stage.start(b_is, hub)
    if not kubo:
        note(row("get, publisher gone", *kinds), late.gets(key, value))
    if seeks and not fetches:
        note(row("find providers, publisher gone", *kinds), sought(late))


def clients(stage, note, feature, client_is, server_is):
    """Two clients at two servers of the other kind."""
    first = stage.start(server_is)
    second = stage.start(server_is, first)
    if not first.dial(second).get("ok"):
        raise RuntimeError("the servers do not find each other")
    a = stage.start(client_is, first, second, client=True)
    values = stage.name != "kubo"
    answers = [a.ask("put", "/test/client", "of-a-client")] if values else []
    provided = a.provide("of a client")
    answers.append(provided)
    b = stage.start(client_is, first, client=True)
    if values:
        answers.append(b.gets("/test/client", "of-a-client"))
    answers += [b.finds_provider(provided.get("cid", "-"), a.id), b.finds_peer(second.id)]
    # With less than k nodes every server is among the closest to any key.
    handed_out = stage.start(OURS, first, second, client=True).ask("closest", "/test/any")
    handed_out = [peer["id"] for peer in handed_out.get("peers") or []]
    answers.append({"ok": {first.id, second.id} <= set(handed_out), "error": f"servers are not found: {handed_out}"})
    for known in [handed_out, *(server.ask("peers").get("routing_table") or [] for server in (first, second))]:
        answers.append({"ok": a.id not in known and b.id not in known, "error": "a client is in a table"})
    note(feature, all_of(answers))


def mode(stage, note):
    """What they publish while ours is a client stays with them."""
    ours = stage.start(OURS)
    theirs = stage.start(THEIRS, ours)

    def published(name):
        """Publishes, and says whether ours holds anything."""
        answer = theirs.provide(name) if stage.name == "kubo" else theirs.ask("put", f"/test/{name}", "value")
        time.sleep(0.5)
        records = ours.ask("records")
        return bool(records["values"] or records["providers"]), answer

    ours.ask("mode", "client")
    time.sleep(1)
    held, answer = published("to-a-client")
    as_client = {"ok": not held, "error": f"a client took a record, {answer}"}
    ours.ask("mode", "server")

    def served():
        theirs.dial(ours)
        held, answer = published("to-a-server")
        return {"ok": held, "error": f"a server has no record, {answer}"}

    note(MODE, all_of([as_client, until(15, served)]))


def killed(stage, note):
    """A hub of ours with a store, killed without warning."""
    kubo, home = stage.name == "kubo", stage.files.name + "/home"
    hub = stage.start(OURS, flags=["--store", home])
    a = stage.start(THEIRS, hub)
    put = {"ok": True} if kubo else a.ask("put", "/test/kept", "value")
    provided = a.provide("kept")

    # ADD_PROVIDER is not answered, and most do not wait for the end of their stream.
    def stored():
        return {"ok": bool(hub.ask("records")["providers"]), "error": "no provider record is stored"}

    kept = until(5, stored)
    a.close()
    hub.close()
    again = stage.start(OURS, flags=["--store", home, "--listen", hub.addr().split("/p2p/")[0]])
    same = {"ok": again.id == hub.id, "error": "another identity"}
    # kubo tells nothing about providers, so that a reader of ours asks there.
    b = stage.start(OURS if kubo else THEIRS, again)
    got = {"ok": True} if kubo else b.gets("/test/kept", "value")
    note(KILLED, all_of([put, provided, kept, same, got, b.finds_provider(provided.get("cid", "-"), a.id)]))


def restarted(stage, note):
    hub = stage.start(OURS)
    stage.start(THEIRS, hub).close()
    again = stage.start(THEIRS, hub)
    provided = again.provide("after")
    reader = stage.start(OURS, hub)
    answers = [provided, reader.finds_provider(provided.get("cid", "-"), again.id)]
    answers += [reader.finds_peer(again.id), again.finds_peer(reader.id)]
    note(RESTARTED, all_of(answers))


def boxo_record(name):
    """Key and record of boxo, by its name in tests/validators/ipns.txt."""
    words = next(line.split() for line in RECORDS.read_text().splitlines() if line.startswith(name + " "))
    return "hex:" + words[2], "hex:" + words[3]


def ipns(stage, note):
    """Records of this crate and of boxo, between nodes that check them."""
    hub, kubo = stage.start(THEIRS), stage.name == "kubo"
    record = stage.signer().ask("ipns", stage.name, "/ipfs/bafkqaaa")
    publisher = stage.start(OURS, hub, checked=True)
    put = publisher.ask("put", record["key"], record["record"])
    publisher.close()
    reader = stage.start(OURS, hub, checked=True) if kubo else stage.start(THEIRS, hub)
    note(IPNS_OURS, all_of([put, reader.gets(record["key"], record["record"])]))

    key, value = boxo_record("2-v1-v2")
    publisher = stage.start(OURS if kubo else THEIRS, hub, checked=True)
    put = publisher.ask("put", key, value)
    publisher.close()
    note(IPNS_THEIRS, all_of([put, stage.start(OURS, hub, checked=True).gets(key, value)]))


def forged(stage, note):
    """A publisher and a reader of ours that check nothing, and two servers that do."""
    hub = stage.start(THEIRS)
    ours = stage.start(OURS, hub, checked=True)
    key, value = boxo_record("4-only-v1-signature-valid")
    answers = []
    for server in (hub, ours):
        publisher = stage.start(OURS, server, client=True, checked=False)
        put = publisher.ask("put", key, value)
        publisher.close()
        read = stage.start(OURS, server, client=True, checked=False).ask("get", key)
        taken = put.get("stored") or read.get("value") == value
        answers.append({"ok": not taken, "error": f"{server.kind} takes it: {put}, {read}"})
    note(IPNS_FORGED, all_of(answers))


def checks(name):
    """The checks that an implementation can take part in, each with its arguments."""
    yield from ((triple, (kinds,)) for kinds in TRIPLES)
    yield clients, (OUR_CLIENT, OURS, THEIRS)
    # kubo on a local network serves, whatever its configuration says.
    if name != "kubo":
        yield clients, (THEIR_CLIENT, THEIRS, OURS)
    yield mode, ()
    yield killed, ()
    yield restarted, ()
    if name in ("go", "js", "kubo"):
        yield ipns, ()
        yield forged, ()


def check_all(name, commands, table, logs=None):
    """Makes every check; one that fails is made a second time, which is told."""
    for check, arguments in checks(name):
        for attempt in (1, 2):
            noted = {}

            def note(feature, answer):
                noted.setdefault(feature, answer)
                if not answer.get("ok"):
                    noted[feature] = answer

            with Stage(name, commands, logs) as stage:
                try:
                    check(stage, note, *arguments)
                except Exception as error:  # an answer of another shape than expected, above all
                    note("error", {"ok": False, "error": repr(error)})
            failed = [feature for feature, answer in noted.items() if not answer.get("ok")]
            unknown = [feature for feature in failed if (name, feature) not in KNOWN]
            if not unknown or attempt == 2:
                break
            print(f"{name}: again, since failed: {unknown}: {noted[unknown[0]]}", file=sys.stderr, flush=True)
        table.note_all(name, noted)
