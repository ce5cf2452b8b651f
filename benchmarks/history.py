"""What a long history costs: the newest run, all runs, and the incidents of an environment, in a file and on a server.

A journal has the watches of a year with five deployments a day. What is measured is what commands and pages ask: the
newest run, all runs, the incidents for the first time, and again, as each drawing of a page does.

Ratio keys: newest_file, newest_server (the newest run's over all runs'), again_file, again_server (the incidents' again
over the first time's).

    .venv/bin/python benchmarks/history.py [--watches 1800] [--rounds 5] [--json]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared import measure

from backout.journal.postgres_store import PostgresStore
from backout.journal.sqlite import SqliteJournal
from backout.journal.stored import StoredJournal
from backout.model.plan import Plan, PlanKind, Step
from backout.ports import NotDone
from backout.providers.clock import SystemClock
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.journal_link import PostgresLink
from backout.providers.postgres.server.launcher import PostgresServer
from backout.runbook.incident.incident_cache import IncidentCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.ports import StepContext

    Samples = dict[str, list[float]]

_ENVIRONMENT = "production"
_PASSWORD = "benchmark"  # noqa: S105 - of a server that lives for a minute
_RESULT = {"verdict": "healthy", "decision": {"verdict": "healthy", "why": "x" * 200}, "text": "x" * 500}


class Watched:
    """A step that ends at once, with as much as a watch records."""

    arguments: Any = dict
    effect = irreversible = False

    def do(self, _args: dict[str, Any], _context: StepContext) -> dict[str, Any]:
        """Return what was found."""
        return _RESULT

    def probe(self, _args: dict[str, Any], _context: StepContext) -> NotDone:
        """Return that it is to be done again."""
        return NotDone()


def record(journal: StoredJournal, watches: int) -> None:
    """Record so many watches that ended well."""
    for number in range(watches):
        args = {"deployment": f"d{number}", "version": f"v{number}", "old": f"v{number - 1}", "since": float(number)}
        steps = (Step("watch", "Watch the deployment", args), Step("conclude", "Conclude", {}))
        run = journal.submit(
            Plan(PlanKind.GUARD, _ENVIRONMENT, f"deployment {number}", steps, ("x" * 100,)), actor="bench", reason="it"
        )
        journal.drive(run, dict.fromkeys(("watch", "conclude"), Watched()), actor="bench")


def measure_s(ask: Callable[[], object]) -> float:
    """Return how long an answer took."""
    began = time.perf_counter()
    ask()
    return time.perf_counter() - began


def read(journal: StoredJournal, watches: int) -> dict[str, float]:
    """Return how long each question took, in seconds. Exits where an answer lacks something."""
    cache = IncidentCache(journal, journal)
    found = {
        "newest": measure_s(lambda: next(journal.walk_runs(_ENVIRONMENT))),
        "all": measure_s(lambda: journal.runs(_ENVIRONMENT)),
        "first": measure_s(lambda: cache.list_incidents(_ENVIRONMENT)),
        "again": measure_s(lambda: cache.list_incidents(_ENVIRONMENT)),
    }
    if len(journal.runs(_ENVIRONMENT)) != watches:
        raise SystemExit("history: runs are missing")
    return found


def compare(watches: int, rounds: int) -> Samples:
    """Return the samples of all rounds: {"newest_file": [...], ...}, in seconds."""
    samples: Samples = {}
    with ExitStack() as ends:
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="backout-bench-")))
        server = PostgresServer(folder / "data", find_binaries())
        server.create()
        port = server.start(password=_PASSWORD).port
        ends.callback(server.stop, mode="immediate")
        url = f"postgresql://postgres:{_PASSWORD}@127.0.0.1:{port}/postgres"
        journals = {
            "file": SqliteJournal(folder / "journal.sqlite", SystemClock()),
            "server": StoredJournal(PostgresStore(PostgresLink(lambda: url)), SystemClock(), locks=folder),
        }
        for journal in journals.values():
            ends.callback(journal.close)
            record(journal, watches)
        for _ in range(rounds):
            for name, journal in journals.items():
                for what, seconds in read(journal, watches).items():
                    samples.setdefault(f"{what}_{name}", []).append(seconds)
    return samples


def main() -> None:
    """Measure, and print a table or one `backout.benchmark/1`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--watches", type=int, default=1800, help="in the journal")
    options = parser.parse_args()
    samples = compare(options.watches, options.rounds)
    pairs = {
        f"{one}_{name}": (samples[f"{one}_{name}"], samples[f"{other}_{name}"])
        for one, other in (("newest", "all"), ("again", "first"))
        for name in ("file", "server")
    }
    ratios = {key: measure.ratio(*pair) for key, pair in pairs.items()}
    if options.json:
        print(measure.as_json(measure.relative("history", samples, pairs)))
        return
    print(f"history: {options.watches} watches, {measure.describe_machine()}")
    for key, values in samples.items():
        spread = f"{min(values):.4f} to {max(values):.4f}, n = {len(values)}"
        print(f"  {key:<14} {statistics.median(values):9.4f} s  ({spread})")
    for key, value in ratios.items():
        print(f"  {key:<14} {value:9.4f}")


if __name__ == "__main__":
    main()
