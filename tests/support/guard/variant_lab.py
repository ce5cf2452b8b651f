"""Variants of the sample application, deployed on the twin while guard watches: what it says of each."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backout.twin import remote

from fm5_app import FM5
from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drillbook import Drillbook, Trial

TABLE = FM5 / "variants.toml"
OUTCOMES = ("roll back", "hold", "told", "healthy")
WATCH_S, BASELINE_S = 40, 30
CRON = "*/10 * * * *"
_PAST = 1200
_GUARD = f"""\
at_most = "1 per 1s"
baseline = "{BASELINE_S}s"

[environments.production.guard.synthetic]
every = "200ms"
paths = CHECKS
"""


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Args:
        bad: whether it is one of those that nobody may call healthy.
        entry: its file below src/variants.
        expect: what `guard --expect` is told.
        visitors: who comes beside the usual ones; rate: a second.
        watch_s: how long guard watches, early: no longer than until it can say "healthy".
        baseline_s: how long the good version is looked at before: a rare route needs longer to be seen at all.
    """

    name: str
    bad: bool
    what: str
    outcome: str
    entry: str
    expect: tuple[str, ...] = ()
    visitors: str = ""
    rate: float = 20.0
    watch_s: int = WATCH_S
    early: bool = False
    baseline_s: int = BASELINE_S

    def allows(self, outcome: str) -> bool:
        """Whether an outcome is that of the table; told and healthy are both healthy: visitors are not all alike."""
        kept = {"told", "healthy"}
        return outcome == self.outcome or {outcome, self.outcome} <= kept


def read_variants() -> tuple[Variant, ...]:
    """Return the rows in the table's order."""
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return tuple(
        Variant(
            name=name,
            bad=kind == "bad",
            what=row["what"],
            outcome=row["outcome"],
            entry=row.get("entry", f"{kind}/{name}"),
            expect=tuple(row.get("expect", ())),
            visitors=row.get("visitors", ""),
            rate=float(row.get("rate", 20)),
            watch_s=int(row.get("watch", WATCH_S)),
            baseline_s=int(row.get("baseline", BASELINE_S)),
        )
        for kind in ("bad", "odd")
        for name, row in table[kind].items()
    )


def checks() -> list[str]:
    """Return the paths that guard asks itself."""
    found: list[str] = tomllib.loads(TABLE.read_text(encoding="utf-8"))["checks"]
    return found


@dataclass(frozen=True)
class Seen:
    """What became of one deployment: an outcome of `OUTCOMES`, guard's words, and its whole result."""

    outcome: str
    words: str
    result: dict[str, Any]


def outcome_of(result: dict[str, Any]) -> str:
    """Return the outcome that guard's result comes to.

    >>> outcome_of({"action": "rollback"}), outcome_of({"action": "stable"}), outcome_of({"action": "hold"})
    ('roll back', 'healthy', 'hold')
    """
    action = result["action"]
    if action == "rollback":
        return "roll back"
    if action == "stable":
        return "told" if result.get("shifts") else "healthy"
    return "hold"


def prepare(book: Drillbook) -> None:
    """Set the stage: the good version live, latency judged as on the real thing, visitors coming."""
    book.stage.set_up()
    text = book.stage.config_file.read_text(encoding="utf-8")
    text = text.replace("[journal]", _GUARD.replace("CHECKS", json.dumps(checks())) + "\n[journal]")
    book.stage.config_file.write_text(text, encoding="utf-8")
    book.good = book.stage.deploy("good")
    book.welcome()
    book.prove_good()


def try_variant(book: Drillbook, variant: Variant) -> Seen:
    """Deploy a variant over the good version, as a pipeline does, while a guard waits for it; return what it says."""
    book.welcome()
    _set_baseline(book, variant.baseline_s)
    trial = _settled(book, variant.baseline_s)
    words = [word for each in variant.expect for word in ("--expect", each)] + ["--early"] * variant.early
    process = trial.start("guard", "--next", "--mode", "act", "--for", f"{variant.watch_s}s", *words, "--json")
    until(lambda: trial.is_known_well(book.good, checks()), 30, "the good version answers well", every_s=0.2)
    bad = book.stage.deploy(variant.entry)
    with contextlib.ExitStack() as while_watched:
        if variant.visitors:
            while_watched.enter_context(book.stage.visitors(variant.rate, variant.visitors))
        if variant.name == "cron-throws":
            while_watched.enter_context(_running_schedules(book))
        out, err = process.communicate(timeout=PATIENCE_S)
    results = [line for line in map(json.loads, out.splitlines()) if line.get("type") == "result"]
    assert results, (variant.name, out[-2000:], err[-2000:])
    result = results[-1]
    said = f"{result['verdict']}, {result['action']}: {result['reason']} (exit {process.returncode})"
    assert (trial.live() == bad) is (result["action"] != "rollback"), said
    return Seen(outcome_of(result), said, result)


def _set_baseline(book: Drillbook, seconds: int) -> None:
    text = book.stage.config_file.read_text(encoding="utf-8")
    text = re.sub(r'^baseline = "\d+s"$', f'baseline = "{seconds}s"', text, count=1, flags=re.MULTILINE)
    book.stage.config_file.write_text(text, encoding="utf-8")


def _settled(book: Drillbook, seconds: int) -> Trial:
    """Return a trial that begins with the good version and a past of so long; nothing tells of earlier trials."""
    book.forget_remarks()
    book.make_good_live()
    trial = book.trial()
    traffic = trial.tools().traffic
    assert traffic is not None
    tools, since = traffic, int(time.time())

    def settled() -> bool:
        now = int(time.time())
        rows = [row for row in tools.read(now - seconds, now).counts if row.version == book.good]
        requests, errors = sum(row.requests for row in rows), sum(row.errors for row in rows)
        return now - since >= seconds and requests >= _PAST and errors <= requests / 500

    until(settled, 4 * seconds, "a past of the good version", every_s=0.5)
    return trial


@contextlib.contextmanager
def _running_schedules(book: Drillbook) -> Iterator[None]:
    """Run the application's schedule every second until the block ends: the real one would take ten minutes."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(1.0):
            remote.run_schedule(book.stage.twin, "fm5-production", CRON)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
