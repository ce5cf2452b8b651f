"""Which run belongs to which incident, and where each stands: by what happened, in whatever order it is read."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from values import replace

from backout.analysis.history.incidents import choose_severity, trace_incidents
from backout.model.incident import record
from backout.model.incident.incident import Event
from backout.model.incident.record import IncidentState, RunFacts, Severity

if TYPE_CHECKING:
    from backout.model.plan import Json

T = 1_795_600_800.0


def watch(run: str, at: float, *, well: float | None = None, share: float = 0.1) -> RunFacts:
    """Return a watch that found its version bad at a time, or that ended healthy."""
    began = None if well is not None else T + at
    ended = None if well is None else T + well
    ends_all = well is not None
    facts = RunFacts(run, (run,), began, opens=True, well_at=ended, by="guard", ends_all=ends_all, share=share)
    return replace(facts, started_at=T + (at if well is None else well - 1))


def repair(run: str, at: float, well: float | None, *led: str, opens: bool = True) -> RunFacts:
    """Return a repair; `led`: the runs that led to it."""
    ended = None if well is None else T + well
    return RunFacts(run, (*led, run), T + at, opens=opens, well_at=ended, by="ops@host")


def said(number: int, at: float, name: str, **data: Json) -> Event:
    return Event(number, T + at, "production", "", None, name, data, "ada@host")


def test_a_watch_and_what_followed_from_it_are_one_incident() -> None:
    """Also a second hop, and a person's own rollback while it is open; the verified one ends it."""
    facts = [
        watch("g1", 5),
        repair("r1", 6, None, "g1"),
        repair("r2", 60, None, "g1", "r1"),
        repair("by-hand", 90, 120),
        watch("g2", 500),
    ]
    first, second = trace_incidents("production", facts, ())
    assert (first.id, first.runs, first.opened_at) == ("g1", ("g1", "r1", "r2", "by-hand"), T + 5)
    assert (first.state, first.resolved_at, first.resolved_by) == (IncidentState.RESOLVED, T + 120, "ops@host")
    assert (second.id, second.state) == ("g2", IncidentState.OPEN)


def test_what_mends_nothing_opens_nothing() -> None:
    """A push of secrets in peace time; while an incident is open, it belongs to that one."""
    assert trace_incidents("production", [repair("s1", 5, 6, opens=False)], ()) == ()
    (found,) = trace_incidents("production", [watch("g1", 1), repair("s1", 5, 6, opens=False)], ())
    assert (found.runs, found.resolved_at) == (("g1", "s1"), T + 6)


def test_a_later_healthy_watch_ends_what_guard_only_observed() -> None:
    """Nobody went back: the next version is well."""
    (found,) = trace_incidents("production", [watch("g1", 1), watch("g2", 0, well=400)], ())
    assert (found.state, found.resolved_at) == (IncidentState.RESOLVED, T + 400)


def test_a_healthy_watch_ends_nothing_that_it_did_not_see() -> None:
    """Neither what began after it did, nor a restore of data: it looked at answers, not at rows."""
    earlier = replace(watch("g2", 0, well=400), started_at=T)
    (found,) = trace_incidents("production", [watch("g1", 1), earlier], ())
    assert found.state is IncidentState.OPEN
    restore = replace(repair("r1", 1, None), is_of_data=True)
    (found,) = trace_incidents("production", [restore, watch("g2", 0, well=400)], ())
    assert found.state is IncidentState.OPEN


def test_what_a_person_opened_a_person_resolves() -> None:
    """Repairs belong to it, and do not end it; who acknowledged first, and who resolved first, is kept."""
    events = [
        said(1, 0, record.OPENED, id="i1", title="slow", severity="minor"),
        said(2, 3, record.ACKNOWLEDGED, id="i1", text=""),
        said(3, 5, record.NOTED, id="i1", text="the vendor says so"),
        said(4, 30, record.RESOLVED, id="i1", text="well again"),
        said(5, 31, record.RESOLVED, id="i1", text="again"),
        said(6, 32, record.NOTED, id="unknown", text="x"),
    ]
    (before,) = trace_incidents("production", [repair("r1", 10, 20)], events[:3])
    assert (before.state, before.runs) == (IncidentState.ACKNOWLEDGED, ("r1",))
    (after,) = trace_incidents("production", [repair("r1", 10, 20)], events)
    assert (after.state, after.resolved_at, after.acknowledged_at) == (IncidentState.RESOLVED, T + 30, T + 3)
    assert [each.text for each in after.remarks] == ["", "the vendor says so", "well again", "again"]


def test_actions_are_numbered_and_find_their_issue() -> None:
    """An issue belongs to the action with its number."""
    events = [
        said(1, 0, record.OPENED, id="i1", title="slow", severity=""),
        said(2, 1, record.ACTION, id="i1", action=1, text="alert", kind="detect", owner="ada", due="2026-12-24"),
        said(3, 2, record.ACTION, id="i1", action=2, text="test", kind="prevent"),
        said(4, 3, record.FILED, id="i1", action=2, url="https://github.example/i/7"),
    ]
    (found,) = trace_incidents("production", (), events)
    assert [(each.text, each.owner, each.url) for each in found.actions] == [
        ("alert", "ada", ""),
        ("test", "", "https://github.example/i/7"),
    ]


def test_the_order_of_reading_changes_nothing() -> None:
    """1,000 seeded nights, each read in an order of its own."""
    for seed in range(1_000):
        dice = random.Random(seed)  # noqa: S311 a seed
        facts, events = [], []
        for number in range(dice.randrange(1, 7)):
            at = dice.randrange(1_000)
            if dice.random() < 0.5:
                facts.append(watch(f"g{number}", at, well=dice.choice([None, at + 50])))
            else:
                led = [facts[-1].run] if facts and dice.random() < 0.5 else []
                facts.append(repair(f"r{number}", at, dice.choice([None, at + 20]), *led))
            if dice.random() < 0.5:
                events.append(said(number + 1, at, dice.choice(record.KINDS[1:4]), id=dice.choice(facts).chain[0]))
        expected = trace_incidents("production", facts, events)
        dice.shuffle(facts)
        dice.shuffle(events)
        assert trace_incidents("production", facts, events) == expected, seed


def test_severity_is_by_policy_unless_a_person_says_it() -> None:
    """In production a quarter of failed requests, or a critical service, is critical; elsewhere all is minor."""
    (mild,), (bad,) = (trace_incidents("p", [watch("g1", 1, share=share)], ()) for share in (0.1, 0.25))
    assert choose_severity(mild, protected=True) is Severity.MAJOR
    assert choose_severity(bad, protected=True) is Severity.CRITICAL
    assert choose_severity(mild, protected=True, critical_from=0.05) is Severity.CRITICAL
    assert choose_severity(bad, protected=False) is Severity.MINOR
    (opened,) = trace_incidents("p", (), [said(1, 0, record.OPENED, id="i1", title="x", severity="minor")])
    assert choose_severity(opened, protected=True) is Severity.MINOR
