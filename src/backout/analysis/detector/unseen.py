"""What a source of counts cannot see: stated wherever a version is called healthy, and before a watch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.model.guard.answers import EVERY_CLASS
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.guard.signals import SourceTraits


class Sight(Value, frozen=True):
    """One thing that a source may be able to see.

    Args:
        name: in JSON.
        words: what would go unseen, as the end of "TAIL does not see ...".
    """

    name: str
    words: str
    is_seen: Callable[[SourceTraits], bool]


SIGHTS: Final = (
    Sight("statuses", "HTTP statuses", lambda traits: traits.has_status),
    Sight("classes", "answers' classes (redirects, 401, 404)", lambda traits: bool(traits.classes)),
    Sight("kinds", "which 4xx an answer is", lambda traits: traits.classes == EVERY_CLASS),
    Sight("methods", "methods", lambda traits: traits.has_method),
    Sight("started", "requests that never end", lambda traits: traits.has_started),
    Sight("sizes", "lengths of answers", lambda traits: traits.has_sizes),
    Sight("types", "which content type an answer is", lambda traits: traits.has_types),
    Sight("triggers", "schedules and queues that fail", lambda traits: traits.has_triggers),
    Sight("choice", "which requests chose their version", lambda traits: traits.has_choice),
)


def list_unseen(traits: SourceTraits) -> tuple[Sight, ...]:
    """Return what a source does not see; of what it does not see at all, no part is named besides."""
    found = (sight for sight in SIGHTS if not sight.is_seen(traits))
    return tuple(sight for sight in found if sight.name != "types" or traits.has_sizes)


def describe_unseen(traits: SourceTraits) -> str:
    """Return what a source does not see as an end of a sentence, "" where it sees all: "not seen by tail: ..."."""
    found = ", ".join(sight.words for sight in list_unseen(traits))
    return f"not seen by {traits.name}: {found}" if found else ""
