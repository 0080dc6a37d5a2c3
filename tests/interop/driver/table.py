"""The outcome of every check, as `docs/interop.md` shows it: feature × implementation.

Knows: the words of a cell, and the failures that are known. Must not know: how a check is made.
"""

import json
import threading

from install import TITLES

OK, FAILED, SKIPPED, NONE = "yes", "FAILED", "SKIPPED", "–"

# Why a check fails that is not ours to mend, by number.
CAUSES = {
    1: "py-libp2p puts every peer into its table that opens a stream of the DHT to it, clients too, and hands it out.",
}
# Failures that are known: the implementation and the feature, with the number of the cause.
KNOWN = {
    ("py", "our client at their servers: all operations, and it is in no table"): 1,
}

HEAD = """\
# Interoperability

`tests/interop/run --write` installs these implementations in the versions named, runs them against `kad-node` over
loopback, and writes this page. `.ci/run` compares: a check that held here and fails there ends the gate.

*hub ours, ours → theirs* means: the first publisher knows only the hub, then a reader starts that knows only the hub.
*Publisher gone* means that a second reader starts after publisher and first reader were killed. A number says that
the check fails, and why (below); “–” that the implementation has no such operation.

In the network of 30 nodes every node restarts as a new one within two minutes, while all publish and look up records of
the last 45 s: 9 of 10 look-ups between ours and theirs must succeed, and 99 of 100 between ours. The two of Go announce
no content there: py-libp2p answers ADD_PROVIDER, which both take for the answer to their next request; if that is a
put, their process dies.
"""


class Table:
    """Cells by feature and implementation, filled by several threads."""

    def __init__(self, features):
        self.features = features
        self.cells = {}
        self.faults = {}
        self.lock = threading.Lock()

    def note_all(self, name, answers):
        """Notes the outcomes of a check. An error that belongs to no feature counts as one of its own."""
        with self.lock:
            for feature, answer in answers.items():
                cause = KNOWN.get((name, feature))
                if answer.get("ok"):
                    self.cells.setdefault((name, feature), OK)
                elif cause:
                    self.cells[name, feature] = f"no ({cause})"
                else:
                    self.cells[name, feature] = FAILED
                    self.faults[name, feature] = json.dumps(answer)[:400]

    def skip(self, name):
        for feature in self.features:
            self.cells[name, feature] = SKIPPED

    def skip_rows(self, features):
        for name in TITLES:
            for feature in features:
                self.cells[name, feature] = SKIPPED

    def better(self, before):
        """The checks that hold, and did not in the text before."""
        old = parse(before)
        return [place for place, cell in self.cells.items() if cell == OK and old.get(place, OK).startswith("no")]

    def page(self, before):
        """The text of docs/interop.md; the cells of what was skipped are those of the text before."""
        old = parse(before)
        names = list(TITLES)
        lines = [HEAD, "| | " + " | ".join(TITLES[name] for name in names) + " |", "|---" * (len(names) + 1) + "|"]
        for feature in self.features:
            cells = [self.cells.get((name, feature), NONE) for name in names]
            cells = [old.get((name, feature), cell) if cell == SKIPPED else cell for name, cell in zip(names, cells)]
            lines.append(f"| {feature} | " + " | ".join(cells) + " |")
        lines += ["", *(f"{number}. {why}" for number, why in CAUSES.items()), ""]
        return "\n".join(lines)

    def regressions(self, before):
        """The checks that fail for no known reason, and those that held in the text before and no longer do."""
        old = parse(before)
        if {feature for _, feature in old if feature} != set(self.features):
            yield "docs/interop.md has other rows: write it with tests/interop/run --write"
        for (name, feature), fault in self.faults.items():
            yield f"{name}: {feature}: {fault}"
        for name in TITLES:
            for feature in self.features:
                was, now = old.get((name, feature)), self.cells.get((name, feature), NONE)
                if was == OK and now not in (OK, FAILED, SKIPPED):
                    yield f"{name}: {feature}: was {was} in docs/interop.md, is {now}"


def parse(text):
    cells = {}
    for line in text.splitlines():
        words = [word.strip() for word in line.strip("|").split(" | ")]
        if line.startswith("| ") and len(words) == len(TITLES) + 1:
            cells.update({(name, words[0]): word for name, word in zip(TITLES, words[1:])})
    return cells
