"""The judgement on a team's history can fail: each promise is broken once in a history that keeps all the others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from journal.team_history import Change, History, count_late, count_takeovers, find_faults

from backout.model.incident.incident import Event

KEPT = ("run.driven", "step.start", "step.ok", "step.start", "step.ok", "step.start", "step.ok", "run.ok")


def event(seq: int, run: str, kind: str, actor: str, **data: Any) -> Event:
    return Event(seq, float(seq), "alpha", run, None, kind, data, actor, f"hash {seq}")


def make_events() -> list[Event]:
    """Return the events of two runs, of which the second was taken over in its second step."""
    found = [event(1, "r1", "run.submitted", "north.1")]
    for kind in KEPT:
        data = {"fence": 1} if kind == "run.driven" else {}
        found.append(event(len(found) + 1, "r1", kind, "north.1.1", **data))
    found.append(event(len(found) + 1, "r2", "run.submitted", "south.1"))
    for kind in KEPT[:4]:
        data = {"fence": 2} if kind == "run.driven" else {}
        found.append(event(len(found) + 1, "r2", kind, "south.1.1", **data))
    found.append(event(len(found) + 1, "r2", "run.asked", "somebody", what="resume"))
    data = {"fence": 3, "instead_of": "pid 1 on south"}
    found.append(event(len(found) + 1, "r2", "run.driven", "north.1.2", **data))
    for kind in KEPT[4:]:
        found.append(event(len(found) + 1, "r2", kind, "north.1.2"))
    return found


def swap(register: str, wanted: int, run: str, fence: int, *, accepted: bool = True) -> Change:
    return Change("alpha", register, wanted - 1, wanted, run, "north.1", fence, accepted)


GOOD = History(
    ("alpha",),
    (
        swap("version", 1, "r1", 1),
        swap("settled", 1, "r1", 1),
        swap("version", 2, "r2", 3),
        swap("version", 2, "r2", 2, accepted=False),
        swap("settled", 2, "r2", 3),
    ),
    make_events(),
    {("alpha", "version"): 2, ("alpha", "settled"): 2},
    {("alpha", "version"): 1, ("alpha", "settled"): 1},
)


def renumbered(events: list[Event]) -> list[Event]:
    return [replace_event(each, seq=place) for place, each in enumerate(events, 1)]


def replace_event(found: Event, **changed: Any) -> Event:
    fields = ("seq", "at", "environment", "run", "step", "kind", "data", "actor", "hash")
    return Event(**{**{name: getattr(found, name) for name in fields}, **changed})


def without(kind: str, run: str) -> list[Event]:
    """Return the events without the last one of a kind."""
    events = make_events()
    gone = [each for each in events if (each.kind, each.run) == (kind, run)][-1]
    return renumbered([each for each in events if each is not gone])


def with_late(kind: str) -> list[Event]:
    """Return the events, and one more that whoever was taken over has written after that."""
    events = make_events()
    taken = next(place for place, each in enumerate(events) if each.data.get("fence") == 3)
    return renumbered([*events[: taken + 1], event(0, "r2", kind, "south.1.1"), *events[taken + 1 :]])


def test_a_good_history_has_no_fault() -> None:
    """With a takeover, and a change under an old fence that the platform refused."""
    assert find_faults(GOOD) == []
    assert (count_takeovers(GOOD), count_late(GOOD)) == (1, 1)


def test_an_environment_without_a_run_is_no_fault_of_the_others() -> None:
    """It is stuck, and nothing else."""
    assert find_faults(replace(GOOD, environments=("alpha", "beta"))) == ["beta is stuck at 0"]


BAD = {
    "activated twice by the same run": (
        {"changes": (*GOOD.changes[:3], swap("version", 2, "r2", 2), GOOD.changes[4])},
        "version 2 was made after 2, by r2",
    ),
    "activated by two runs": (
        {"changes": (*GOOD.changes[:3], swap("version", 2, "r1", 2), GOOD.changes[4])},
        "version 2 was made after 2, by r1",
    ),
    "a version left out": (
        {"changes": (*GOOD.changes[:2], swap("version", 3, "r2", 3), GOOD.changes[4])},
        "version 3 was made after 1",
    ),
    "a value that nobody made": ({"registers": {**GOOD.registers, ("alpha", "version"): 3}}, "version is 3"),
    "a run that never ended": ({"events": without("run.ok", "r2")}, "r2 was lost"),
    "a run that the journal forgot": (
        {"events": renumbered([each for each in make_events() if each.run != "r1"])},
        "r1 changed something, and the journal does not know it",
    ),
    "a run that ended twice": (
        {"events": [*make_events(), event(21, "r2", "run.ok", "north.1.2")]},
        "r2 ended twice",
    ),
    "a step recorded twice": (
        {
            "events": [
                *make_events()[:-1],
                *(event(seq, "r2", "step.ok", "north.1.2") for seq in (20,)),
                event(21, "r2", "run.ok", "north.1.2"),
            ]
        },
        "r2 is done with 4 of its 3 steps",
    ),
    "done without an effect": ({"changes": GOOD.changes[:4]}, "r2 is recorded as done, and changed ['version']"),
    "an effect of a run that failed": (
        {"events": [*make_events()[:-1], event(20, "r2", "run.failed", "north.1.2")]},
        "r2 is recorded as run.failed, and changed ['settled', 'version']",
    ),
    "a step of a process that was taken over": ({"events": with_late("step.ok")}, "step.ok of r2 was written by south"),
    "progress of a process that was taken over": (
        {"events": with_late("step.progress")},
        "step.progress of r2 was written by south",
    ),
    "a failure told by a process that was taken over": (
        {"events": with_late("step.failed")},
        "step.failed of r2 was written by south",
    ),
    "a fence given twice": (
        {"events": [replace_event(e, data={"fence": 2}) if e.data.get("fence") == 3 else e for e in make_events()]},
        "fence 2 was given after 2",
    ),
    "a step without any lease": (
        {"events": renumbered([e for e in make_events() if e.data.get("fence") != 1])},
        "written by north.1.1, and fence 0 was 's",
    ),
    "an event that is missing": (
        {"events": [each for each in make_events() if each.seq != 12]},
        "event 13 follows event 11",
    ),
    "a chain that is broken": ({"broken_at": 4}, "the chain is broken at event 4"),
    "no progress after the faults": ({"healed": GOOD.registers}, "alpha is stuck at 2"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_history_is_found(case: str) -> None:
    """And what is found says what was broken."""
    changed, said = BAD[case]
    found = find_faults(replace(GOOD, **changed))
    assert any(said in each for each in found), found
