"""Bad and odd versions on the twin, as variants.toml lists them: what guard makes of each, and of healthy ones."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from variant_lab import Seen, Variant, prepare, read_variants, try_variant

from drillbook import Drillbook
from extent import EVERY, PROOF, by_extent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Record = Callable[..., None]
    Trying = Callable[[Drillbook, Variant], Seen]

VARIANTS = read_variants()
SOME = {"answers-404", "orders-fail", "new-route"}
"""Of these and the redeploys `make test-all` tries one, once: a trial takes a minute. `make proof` tries all."""
TRIED = [variant for variant in VARIANTS if PROOF or variant.name in SOME]
TIMES = by_extent(1, 1, proof=5)
REDEPLOYS = by_extent(1, 1, proof=40)
ENTRIES = ("good-2", "good") if EVERY else ("good-2",)
LOAD = by_extent(0, 0, proof=8)
"""Busy processes. In the suite the other workers are the load; more would keep all of them waiting."""
WATCH_S = by_extent(45, 45, proof=90)
KEPT = Path(name) if (name := os.environ.get("BACKOUT_VARIANTS")) else None
"""A file that keeps what was seen, one line a trial: a proof that was interrupted goes on behind it."""


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drillbook]:
    """Return a stage of this module's own, whose guard judges latency too and asks some paths itself."""
    book = Drillbook(tmp_path_factory.mktemp("variants"), visitors_per_s=40.0)  # as variants.toml was tried with
    try:
        prepare(book)
        yield book
    finally:
        book.end_started()
        book.dismiss()
        book.stage.tear_down()


def seen(
    book: Drillbook, variant: Variant, times: int, kept: Path | None = KEPT, attempt: Trying = try_variant
) -> list[dict[str, str]]:
    """Return the outcome and the words of so many trials of a variant, those first that an earlier run has kept."""
    known = map(json.loads, kept.read_text(encoding="utf-8").splitlines()) if kept and kept.is_file() else ()
    found = [line for line in known if line["name"] == variant.name][:times]
    while len(found) < times:
        trial = attempt(book, variant)
        found.append({"name": variant.name, "outcome": trial.outcome, "words": trial.words})
        if kept:
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found[-1]) + "\n")
    return found


def test_a_proof_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    """What was seen is not tried again, of each variant by itself."""
    book, kept, tried = Drillbook(tmp_path), tmp_path / "kept.jsonl", list[str]()

    def attempt(_: Drillbook, variant: Variant) -> Seen:
        tried.append(variant.name)
        return Seen("hold", "nobody knows", {})

    first, second = VARIANTS[:2]
    assert len(seen(book, first, 2, kept, attempt)) == 2
    assert [each["outcome"] for each in seen(book, first, 3, kept, attempt)] == ["hold"] * 3
    assert len(seen(book, second, 1, kept, attempt)) == 1
    assert tried == [first.name] * 3 + [second.name]


@pytest.mark.rotating("variants", 5)
@pytest.mark.long
@pytest.mark.proof
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("variant", TRIED, ids=lambda variant: variant.name)
def test_what_guard_makes_of_a_variant(book: Drillbook, variant: Variant, proof: Record) -> None:
    """Deployed over the good version while a guard waits: the outcome is that of the table, each time.

    A healthy one may be held: how quick this machine is beside other programs is a question for a person, too. Nor does
    it count, but in a proof, that answers took longer once the other programs began.
    """
    found = seen(book, variant, TIMES if variant.bad else 1)
    wrong = [each["words"] for each in found if not variant.allows(each["outcome"])]
    proof(
        "A bad version of variants.toml ends as the table says" if variant.bad else "An odd healthy one does",
        trials=len(found),
        failures=len(wrong),
        note="twin, wrangler, workerd; 40 requests a second, 40 s or more",
    )
    rolled_back = [each["words"] for each in found if each["outcome"] == "roll back"]
    rolled_back = [words for words in rolled_back if PROOF or "requests took longer than" not in words]
    assert (wrong if variant.bad else rolled_back) == [], variant.what


@contextlib.contextmanager
def load(processes: int) -> Iterator[None]:
    """Keep so many processes busy until the block ends."""
    context = multiprocessing.get_context("spawn")
    busy = [context.Process(target=_spin, daemon=True) for _ in range(processes)]
    for process in busy:
        process.start()
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.join()


def _spin() -> None:
    while True:
        sum(range(10_000))


@pytest.mark.rotating("variants", 5)
@pytest.mark.long
@pytest.mark.proof
@pytest.mark.timeout(7200)
def test_healthy_versions_beside_a_load(book: Drillbook, proof: Record) -> None:
    """One with other code, and the good version again, beside busy processes: none is rolled back, and few are held.

    A trial takes about a minute.
    """
    found: list[dict[str, str]] = []
    with load(LOAD):
        for entry in ENTRIES:
            name = f"redeploy-{entry}"
            row = Variant(name, bad=False, what="healthy", outcome="healthy", entry=entry, watch_s=WATCH_S, early=True)
            found += seen(book, row, -(-REDEPLOYS // len(ENTRIES)))
    rolled_back = [each["words"] for each in found if each["outcome"] == "roll back"]
    held = [each["words"] for each in found if each["outcome"] == "hold"]
    note = f"beside {LOAD} busy processes on {os.cpu_count()} processors"
    proof("A healthy version is not rolled back beside a load", trials=len(found), failures=len(rolled_back), note=note)
    proof(
        "A healthy version is called so beside a load", trials=len(found), failures=len(held), allowed=0.05, note=note
    )
    assert rolled_back == []
    assert len(held) <= max(1, len(found) / 20), held  # of one trial alone nothing follows about one in twenty
