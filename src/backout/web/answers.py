"""What a worker's command answered to a request, as the pages show it: whatever is missing there is empty here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.decoding import Undecodable, decode_values
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.plan import Json


class Quoted(Value, frozen=True):
    """A line that a diagnosis quotes, and how often there was one like it."""

    text: str = ""
    count: int | None = None


class Advice(Value, frozen=True):
    """Whether guard may act alone, why, and how that is set up."""

    verdict: str = ""
    why: tuple[str, ...] = ()
    how: tuple[str, ...] = ()


class Fate(Value, frozen=True):
    """What becomes of a part of the system."""

    what: str = ""
    fate: str = ""
    why: str = ""


class Doing(Value, frozen=True):
    """A step of a plan."""

    title: str = ""


class Planned(Value, frozen=True):
    """A plan."""

    why: str = ""
    steps: tuple[Doing, ...] = ()
    notes: tuple[str, ...] = ()
    coverage: tuple[Fate, ...] = ()
    not_covered: tuple[str, ...] = ()


class Answer(Value, frozen=True):
    """The envelope of a plan, a diagnosis, a hold, a record of guard's, or an error, as docs/json.md describes them."""

    what: str | None = None
    message: str | None = None
    where: str | None = None
    hint: str | None = None
    options: tuple[str, ...] = ()
    plan: Planned | None = None
    already: bool = False
    live_version: str | None = None
    held: bool | None = None
    until: str | None = None
    everywhere: bool = False
    cause: str | None = None
    title: str | None = None
    scenario: str | None = None
    service: str | None = None
    rollback: str | None = None
    confidence: float = 0.0
    evidence: tuple[Quoted, ...] = ()
    next: tuple[str, ...] = ()
    advice: Advice | None = None
    mode: str = ""
    watches: int = 0
    needed: int = 0
    would_have_rolled_back: int = 0
    rolled_back: int = 0
    rolled_back_by_hand: int = 0
    false_alarms: int = 0
    missed: tuple[object, ...] = ()


def read_answer(found: Mapping[str, Json]) -> Answer:
    """Return an answer; one that is none of these, of another version of backout, shows nothing."""
    try:
        return decode_values(found, Answer)
    except Undecodable:
        return Answer()
