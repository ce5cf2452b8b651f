"""What `backout doctor` finds: each thing that has to be there before a bad night, and what was read to judge it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from backout.model.hint import NO_HINT, Hint


class Level(StrEnum):
    """Whether backout can do its work without it."""

    MUST = "must"
    SHOULD = "should"


class CheckState(StrEnum):
    """How one check ended."""

    OK = "ok"
    MISSING = "missing"  # it was looked at, and it is not as it has to be
    UNMEASURED = "unmeasured"  # it could not be looked at just now
    NOT_SET_UP = "not_set_up"  # the configuration goes without it
    ALLOWED = "allowed"  # it is not as usual, because somebody wants it so


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Args:
        name: one word or several joined by `_`; the same in every version. why: one sentence without a final stop.
        next: what closes the gap, lines to type wherever there are some; `NO_HINT` where nothing is to be done.
    """

    name: str
    level: Level
    state: CheckState
    why: str
    next: Hint = NO_HINT

    @property
    def is_gap(self) -> bool:
        """Whether something is to be done about it."""
        return self.state not in (CheckState.OK, CheckState.ALLOWED)


@dataclass(frozen=True, slots=True)
class Subject:
    """What a check is about: its name and its level; each method is one way to end it."""

    name: str
    level: Level

    def ok(self, why: str) -> Check:
        """Return that it is as it has to be."""
        return Check(self.name, self.level, CheckState.OK, why)

    def missing(self, why: str, next: Hint) -> Check:  # noqa: A002 - the word of the contract
        """Return that it was looked at, and is not as it has to be."""
        return Check(self.name, self.level, CheckState.MISSING, why, next)

    def unmeasured(self, why: str, next: Hint = NO_HINT) -> Check:  # noqa: A002 - same
        """Return that it could not be looked at just now."""
        return Check(self.name, self.level, CheckState.UNMEASURED, why, next)

    def not_set_up(self, why: str, next: Hint) -> Check:  # noqa: A002 - same
        """Return that the configuration goes without it."""
        return Check(self.name, self.level, CheckState.NOT_SET_UP, why, next)

    def allowed(self, why: str, next: Hint = NO_HINT) -> Check:  # noqa: A002 - same
        """Return that it is not as usual because somebody wants it so."""
        return Check(self.name, self.level, CheckState.ALLOWED, why, next)


def must(name: str, *, when: bool = True) -> Subject:
    """Return something that must be there; `when` not, something that should."""
    return Subject(name, Level.MUST if when else Level.SHOULD)


def should(name: str) -> Subject:
    """Return something that should be there."""
    return Subject(name, Level.SHOULD)


@dataclass(frozen=True, slots=True)
class Checkup:
    """All checks of one environment."""

    environment: str
    checks: tuple[Check, ...]

    def of(self, level: Level, state: CheckState) -> tuple[Check, ...]:
        """Return the checks of a level that ended so."""
        return tuple(check for check in self.checks if check.level is level and check.state is state)

    @property
    def ready(self) -> bool:
        """Whether everything that must be there was looked at, and is there."""
        return not any(check.is_gap for check in self.checks if check.level is Level.MUST)

    @property
    def exit_code(self) -> int:
        """0 ready; 1 something that must be there is missing; 7 something that must be there could not be looked at."""
        if self.ready:
            return 0
        gaps = [check for check in self.checks if check.level is Level.MUST and check.is_gap]
        return 7 if all(check.state is CheckState.UNMEASURED for check in gaps) else 1


@dataclass(frozen=True, slots=True)
class JournalLook:
    """One look at the journal's file; nothing of it is changed, its tables neither.

    Args:
        exists: whether anything was ever written. problem: why it cannot be read, "" when it can; hint: what helps.
        version: of its tables, None when it has none yet; known: the newest that this backout knows.
        events: how many there are. emptied: the file is there, and nothing is in it. refused: why it cannot be written,
            "" when it can.
        free_bytes: on the disk that it lies on, None when that cannot be told.
    """

    path: str
    exists: bool
    problem: str = ""
    hint: str = ""
    version: int | None = None
    known: int = 0
    events: int = 0
    emptied: bool = False
    refused: str = ""
    free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ChannelLook:
    """One way to tell somebody.

    Args:
        problem: why nothing can be sent ("" when it can be tried), its secret is not there for instance.
        state: how the newest notice through it ended ("delivered", "waiting", "given_up"), "" when there was none.
        at: when that was, Unix seconds. why: why it did not arrive.
        tried: "" when nobody tried it now; "sent", or why the test notice did not arrive.
    """

    name: str
    problem: str = ""
    state: str = ""
    at: float = 0.0
    why: str = ""
    tried: str = ""


@dataclass(frozen=True, slots=True)
class GitLook:
    """What git keeps of the records of this machine.

    Args:
        repository: whether the records lie in one. folder: theirs, from the repository's top. ignored: whether it is
            kept out of it, now or as soon as it is made. tracked: a file of it that git keeps, "" for none.
    """

    repository: bool
    folder: str = ".backout"
    ignored: bool = True
    tracked: str = ""
