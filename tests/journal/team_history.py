"""What a team's machines left behind, and the judgement on it: pure, so that a history can be made up that is bad.

Two records are compared that know nothing of each other: the journal's events, and the platform's own record of every
change that was asked of it, also of those that it refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backout.model.incident.incident import Event

ENDS = {"run.ok", "run.failed", "run.aborted"}
BY_ANYONE = {"run.submitted", "run.asked"}
"""What is written without a lease."""
STEPS = 3


@dataclass(frozen=True)
class Change:
    """One compare-and-swap that the platform was asked for, in the order in which it decided.

    Args:
        register: what was to be changed from `expected` to `wanted`.
        fence: of the lease under which the worker asked.
    """

    environment: str
    register: str
    expected: int
    wanted: int
    run: str
    worker: str
    fence: int
    accepted: bool


@dataclass(frozen=True)
class History:
    """Both records, after every worker has ended by itself.

    Args:
        registers: the platform's final values by environment and register.
        healed: the same when the last fault was over.
        broken_at: the first event that is not a link of the chain, None where all are.
    """

    environments: tuple[str, ...]
    changes: Sequence[Change]
    events: Sequence[Event]
    registers: dict[tuple[str, str], int]
    healed: dict[tuple[str, str], int]
    broken_at: int | None = None


def find_faults(history: History) -> list[str]:
    """Return what is wrong with a history, in sentences; nothing where every promise was kept."""
    chain = [] if history.broken_at is None else [f"the chain is broken at event {history.broken_at}"]
    found = [*chain, *_find_doubled(history), *_find_lost(history), *_find_stale(history)]
    return [*found, *_find_stuck(history)]


def _find_doubled(history: History) -> Iterator[str]:
    """Each value of a register was made once, one after the other, by one run."""
    made: dict[tuple[str, str], int] = {}
    for each in history.changes:
        if not each.accepted:
            continue
        key = (each.environment, each.register)
        if each.wanted != made.get(key, 0) + 1 or each.expected != made.get(key, 0):
            yield f"{each.environment}: {each.register} {each.wanted} was made after {made.get(key, 0)}, by {each.run}"
        made[key] = max(each.wanted, made.get(key, 0))
    for key, value in history.registers.items():
        if value != made.get(key, 0):
            yield f"{key[0]}: {key[1]} is {value}, and {made.get(key, 0)} was made last"


def _find_lost(history: History) -> Iterator[str]:
    """Each run is over; what one changed it has recorded, and what one recorded it has changed."""
    kinds: dict[str, list[str]] = {}
    for event in history.events:
        kinds.setdefault(event.run, []).append(event.kind)
    changed: dict[str, list[str]] = {}
    for each in history.changes:
        if each.accepted:
            changed.setdefault(each.run, []).append(each.register)
    submitted = {run for run, found in kinds.items() if "run.submitted" in found}
    for run in submitted:
        yield from _judge_run(run, kinds[run], sorted(changed.get(run, [])))
    for run in set(changed) - submitted:
        yield f"{run} changed something, and the journal does not know it"


def _judge_run(run: str, kinds: list[str], changed: list[str]) -> Iterator[str]:
    ends = [kind for kind in kinds if kind in ENDS]
    if len(ends) > 1:
        yield f"{run} ended twice"
    if not ends:
        yield f"{run} was lost: it never ended"
    elif ends[0] != "run.ok" and changed:
        yield f"{run} is recorded as {ends[0]}, and changed {changed}"
    elif ends[0] == "run.ok" and changed != ["settled", "version"]:
        yield f"{run} is recorded as done, and changed {changed}"
    if ends == ["run.ok"] and kinds.count("step.ok") != STEPS:
        yield f"{run} is done with {kinds.count('step.ok')} of its {STEPS} steps"


def _find_stale(history: History) -> Iterator[str]:
    """What a lease is needed for was written by whoever had taken the newest one; fences only rise."""
    newest: dict[str, tuple[int, str, str]] = {}
    last = 0
    for event in history.events:
        if event.seq != last + 1:
            yield f"event {event.seq} follows event {last}"
        last = event.seq
        before, run, actor = newest.get(event.environment, (0, "", ""))
        if event.kind == "run.driven":
            fence = int(str(event.data["fence"]))
            if fence <= before:
                yield f"event {event.seq}: fence {fence} was given after {before}"
            newest[event.environment] = (fence, event.run, event.actor)
        elif event.kind not in BY_ANYONE and (event.run, event.actor) != (run, actor):
            yield (
                f"event {event.seq}: {event.kind} of {event.run} was written by {event.actor}, and fence {before} was"
                f" {actor}'s, for {run}"
            )


def _find_stuck(history: History) -> Iterator[str]:
    """Every environment went on after the last fault."""
    for environment in history.environments:
        key = (environment, "settled")
        if history.registers.get(key, 0) <= history.healed.get(key, 0):
            yield f"{environment} is stuck at {history.registers.get(key, 0)}"


def count_late(history: History) -> int:
    """Return how many changes were asked for under a fence that was not the newest that the platform had seen.

    Nobody can keep a process from sending what it was about to send when it was stopped: the platform has to compare.
    """
    newest: dict[str, int] = {}
    late = 0
    for each in history.changes:
        late += each.fence < newest.get(each.environment, 0)
        newest[each.environment] = max(each.fence, newest.get(each.environment, 0))
    return late


def count_takeovers(history: History) -> int:
    """Return how many leases were taken from a holder who had not given them back."""
    return sum(event.kind == "run.driven" and "instead_of" in event.data for event in history.events)
