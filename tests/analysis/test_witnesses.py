"""Comparing a journal with the heads that deployments' messages name."""

from __future__ import annotations

from backout.analysis.history.witnesses import compare_witnesses
from backout.model.incident.incident import Event
from backout.model.witness import Told, Witness


def hashed(number: int) -> str:
    return f"{number:02d}" * 32


def make_events() -> list[Event]:
    """Return five events: two of a run, and what was merged from a file in which it was event 1."""
    submitted = Event(2, 0.0, "production", "rollback-1", None, "run.submitted", hash=hashed(2))
    step = Event(3, 0.0, "production", "rollback-1", 0, "step.start", hash=hashed(3))
    spooled = {"spooled": {"seq": 1, "hash": hashed(71)}}
    merged = Event(4, 0.0, "production", "rollback-2", None, "run.submitted", spooled, hash=hashed(4))
    return [Event(1, 0.0, "production", "", None, "x", hash=hashed(1)), submitted, step, merged]


def tell(head: str, run: str = "rollback-1", journal: str = hashed(1)) -> Told:
    return Told("production", "d1", 0.0, run, Witness.of(journal, head))


def test_a_head_that_is_an_event_of_the_run_s_time_is_confirmed() -> None:
    """Of a run, of what no run made, and of a file that was merged, by the hash that the event had there."""
    told = [tell(hashed(2)), tell(hashed(3)), tell(hashed(1), run=""), tell(hashed(71), "rollback-2", hashed(71))]
    found = compare_witnesses(told, make_events())
    assert (found.confirmed, found.differing, found.other) == (4, (), 0)


def test_a_head_that_is_none_or_elsewhere_differs() -> None:
    """By the journal that it names, or by the run that it is of; one from before the run is none of its time."""
    strange = tell(hashed(9), run="rollback-9")
    known_run = tell(hashed(9), journal=hashed(88))
    too_early = tell(hashed(1))
    found = compare_witnesses([strange, known_run, too_early], make_events())
    assert [each.told for each in found.differing] == [strange, known_run, too_early]
    assert "begins only with event 2" in found.differing[2].why


def test_what_another_journal_says_is_no_contradiction() -> None:
    """Neither its journal nor its run is known here; an empty journal contradicts nobody."""
    other = tell(hashed(9), run="rollback-9", journal=hashed(88))
    assert compare_witnesses([other], make_events()).other == 1
    assert compare_witnesses([tell(hashed(2))], []).other == 1
