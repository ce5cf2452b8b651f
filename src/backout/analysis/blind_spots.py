"""What a watch cannot see: of its source of counts, and of what answers contain, which no source shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.analysis.coverage import OBJECTS_S
from backout.analysis.detector.unseen import Sight, list_unseen

if TYPE_CHECKING:
    from backout.model.guard.policy import GuardPolicy, SyntheticCheck
    from backout.model.guard.signals import SourceTraits
    from backout.model.steps.guard import WatchStep

CONTENTS: Final = Sight("contents", "what answers contain", lambda _traits: False)
"""A page of errors with status 200 is seen by a request of guard's own alone, that says what the answer must have."""
NEVER: Final = "No source sees what happens in a browser, data that is written wrong, or what begins after the watch."


def list_blind_spots(traits: SourceTraits, guard: GuardPolicy) -> tuple[Sight, ...]:
    """Return what neither a source of counts nor guard's own requests see.

    Args:
        guard: the policy, with its synthetic checks.
    """
    seen = any(_reads_answer(check) for check in guard.checks)
    return list_unseen(traits) if seen else (*list_unseen(traits), CONTENTS)


def describe_blind_spots(traits: SourceTraits, guard: GuardPolicy) -> str:
    """Return the same as an end of a sentence, "" where there is none: "not seen by tail: ..."."""
    found = ", ".join(sight.words for sight in list_blind_spots(traits, guard))
    return f"not seen by {traits.name}: {found}" if found else ""


def describe_unseen(traits: SourceTraits | None, guard: GuardPolicy, watch: WatchStep) -> str:
    """Return the same of one watch, which may also end before the version's Durable Objects run its code."""
    found = [] if traits is None else [describe_blind_spots(traits, guard)]
    if watch.objects and watch.for_s <= OBJECTS_S:
        found.append(f"not seen in so short a watch: Durable Objects, which may run older code for {OBJECTS_S:.0f} s")
    return "; ".join(filter(None, found))


def _reads_answer(check: SyntheticCheck) -> bool:
    """Whether a check compares more than the status."""
    return bool(check.word or check.headers or check.json or check.redirect or check.origin)
