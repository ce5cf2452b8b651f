"""Checks of what must be in place before a bad night or a deployment: their findings, their views, their inputs."""

from __future__ import annotations

from enum import StrEnum

from backout.errors import Unmeasured
from backout.model.hint import NO_HINT, Hint
from backout.model.value import Value


class Level(StrEnum):
    """Whether backout can work without it."""

    MUST = "must"
    SHOULD = "should"


class CheckState(StrEnum):
    """How one check ended."""

    OK = "ok"
    MISSING = "missing"  # it was looked at, and it is not as it has to be
    UNMEASURED = "unmeasured"  # it could not be looked at just now
    NOT_SET_UP = "not_set_up"  # the configuration goes without it
    ALLOWED = "allowed"  # unusual on purpose


class View(StrEnum):
    """A command that shows some of the checks; `analysis.checkup.views` says which."""

    DOCTOR = "doctor"
    PREFLIGHT = "preflight"
    ONLINE = "config check --online"


class Check(Value, frozen=True):
    """One check and its result.

    Args:
        name: one word or several joined by `_`; the same in every version.
        why: one sentence without a final stop.
        next: what closes the gap, as commands where possible; `NO_HINT` where there is nothing to do.
        code: the exit code of a command that needs it, while it is a gap; 0 where such a command goes on.
    """

    name: str
    level: Level
    state: CheckState
    why: str
    next: Hint = NO_HINT
    code: int = 0

    @property
    def is_gap(self) -> bool:
        """Whether something is to be done about it."""
        return self.state not in (CheckState.OK, CheckState.ALLOWED)

    @property
    def is_blocking(self) -> bool:
        """Whether it must be there, and is missing or could not be looked at; what is not set up never blocks."""
        return self.level is Level.MUST and self.state in (CheckState.MISSING, CheckState.UNMEASURED)


class Subject(Value, frozen=True):
    """What a check is about: its name and its level; each method is one way to end it."""

    name: str
    level: Level

    def ok(self, why: str) -> Check:
        """Return that it is as it has to be."""
        return Check(self.name, self.level, CheckState.OK, why)

    def missing(self, why: str, next: Hint, *, code: int = 0) -> Check:
        """Return that it was looked at, and is not as it has to be; `code` as of `Check`."""
        return Check(self.name, self.level, CheckState.MISSING, why, next, code)

    def unmeasured(self, why: str, next: Hint = NO_HINT) -> Check:
        """Return that it could not be looked at just now."""
        return Check(self.name, self.level, CheckState.UNMEASURED, why, next, Unmeasured.exit_code)

    def not_set_up(self, why: str, next: Hint) -> Check:
        """Return that the configuration goes without it."""
        return Check(self.name, self.level, CheckState.NOT_SET_UP, why, next)

    def allowed(self, why: str, next: Hint = NO_HINT) -> Check:
        """Return that it is unusual on purpose."""
        return Check(self.name, self.level, CheckState.ALLOWED, why, next)


def must(name: str, *, when: bool = True) -> Subject:
    """Return something that must be there; `when` not, something that should."""
    return Subject(name, Level.MUST if when else Level.SHOULD)


def should(name: str) -> Subject:
    """Return something that should be there."""
    return Subject(name, Level.SHOULD)


class Checkup(Value, frozen=True):
    """Some or all checks of one environment.

    Args:
        advice: why they only advise, whatever they say; "" where they decide.
    """

    environment: str
    checks: tuple[Check, ...]
    advice: str = ""

    def of(self, level: Level, state: CheckState) -> tuple[Check, ...]:
        """Return the checks of a level that ended so."""
        return tuple(check for check in self.checks if check.level is level and check.state is state)

    @property
    def ready(self) -> bool:
        """Whether everything that must be there, and is set up, was looked at and is there."""
        return not any(check.is_blocking for check in self.checks)

    @property
    def exit_code(self) -> int:
        """0 ready, or only advice; 1 something that must be there is missing; 7 it could not be looked at."""
        if self.ready or self.advice:
            return 0
        return 1 if self.of(Level.MUST, CheckState.MISSING) else 7


class JournalLook(Value, frozen=True):
    """One look at the journal, which changes neither its file nor its tables.

    Args:
        exists: whether anything was ever written to it.
        problem: why it cannot be read, "" when it can; hint: what helps.
        version: of its tables, None when it has none yet; known: the newest that this backout knows.
        events: how many there are.
        emptied: the file exists and is empty.
        refused: why it cannot be written, "" when it can.
        free_bytes: on its disk, None when unknown.
        on_server: whether `path` is a server and a database.
        append_only: whether its role may only append there; None when it was not asked.
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
    on_server: bool = False
    append_only: bool | None = None


class ChannelLook(Value, frozen=True):
    """One channel of notices.

    Args:
        problem: why nothing can be sent, such as a missing secret; "" when it can be tried.
        state: how the newest notice through it ended ("delivered", "waiting", "given_up"), "" when there was none.
        at: when that was, Unix seconds.
        why: why it did not arrive.
        tried: "" when it was not tried now; "sent", or why the test notice did not arrive.
    """

    name: str
    problem: str = ""
    state: str = ""
    at: float = 0.0
    why: str = ""
    tried: str = ""


class GitLook(Value, frozen=True):
    """Which of this machine's records are in git.

    Args:
        repository: whether the records lie in a git repository.
        folder: their folder, relative to the repository's root.
        ignored: whether git ignores the folder, now or once it exists.
        tracked: a file in it that git tracks, "" for none.
    """

    repository: bool
    folder: str = ".backout"
    ignored: bool = True
    tracked: str = ""
