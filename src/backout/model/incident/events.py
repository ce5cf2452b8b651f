"""The content of an application's events and logs: invocations, errors, and templates of their texts.

One *invocation* is one event of a Worker, or, where a log knows no invocations, one entry of the log. It is an *error*
when it threw, when its outcome is neither ok nor that of a client who left, or when it answered 500 or above; an entry
of a log without a status is one when its level says so. What an ok invocation logs at the level of errors is evidence,
and no error.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import field

from backout.model.outcomes import GONE, OK
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_VERSION: Final = ""
"""The version of an event that tells none."""
OTHER_VERSION: Final = "other"
"""The version of everything beyond the maximum number of versions."""
_SERVER_ERROR: Final = 500


class Origin(StrEnum):
    """The origin of a text, strongest first."""

    EXCEPTION = "exception"
    """Thrown out of the handler, or a traceback in a log."""
    ERROR = "error"
    """Logged at the level of errors or above."""
    OUTCOME = "outcome"
    """Nothing was said: only the outcome or the status of the answer speaks."""
    WARNING = "warning"
    """Logged as a warning."""


class Said(NamedTuple):
    """One text of an invocation: of an exception with its class before and its stack behind the message.

    A tuple, as an invocation is: one is made for every event that is not an ordinary one.
    """

    origin: Origin
    text: str


class Invocation(NamedTuple):
    """One event, decoded.

    Args:
        version: id of the version that ran, "" when the source does not tell.
        at: Unix seconds, None when unknown.
        outcome: the script's ("ok", "canceled", "exception", "exceededCpu", ...).
        status: of the answer, if any.
        said: exceptions, errors and warnings in order.
        truncated: the source left out part of this event.
        source: the event's name for its script, service or logger.
        failed: the log's own statement, where neither outcome nor status decides.
    """

    version: str = NO_VERSION
    at: float | None = None
    outcome: str = OK
    status: int | None = None
    said: tuple[Said, ...] = ()
    truncated: bool = False
    source: str = ""
    failed: bool = False

    @property
    def is_error(self) -> bool:
        """Whether it counts as an error.

        >>> Invocation(outcome="canceled").is_error, Invocation(status=503).is_error
        (False, True)
        """
        if self.outcome != OK:
            return self.outcome not in GONE
        if self.failed or (self.status is not None and self.status >= _SERVER_ERROR):
            return True
        return any(one.origin is Origin.EXCEPTION for one in self.said)


class TemplateKey(NamedTuple):
    """The part that all texts of one error share, whatever the request, the build and the version.

    A tuple, because every error that is counted is looked up by it.

    Args:
        name: class of the exception (the innermost cause's), "" without one.
        message: first line, masked.
        function: name of the application's topmost function in the stack, "" when the stack tells none.
        procedure: of a remote procedure call that failed, "" otherwise.
    """

    name: str
    message: str
    function: str = ""
    procedure: str = ""

    def __str__(self) -> str:
        """Render it in one line.

        >>> str(TemplateKey("TypeError", "x is not a function", "save", "orders.create"))
        'orders.create: TypeError: x is not a function (in save)'
        """
        parts = ": ".join(part for part in (self.procedure, self.name, self.message) if part)
        return f"{parts} (in {self.function})" if self.function else parts


class InvocationCounts(Value, frozen=True):
    """The number of invocations, of errors among them, and of those that the client canceled."""

    invocations: int = 0
    errors: int = 0
    canceled: int = 0


class Seen(Value, frozen=True):
    """The number of invocations of one version with a template (once each), and of errors among them."""

    invocations: int = 0
    errors: int = 0


class Template(Value, frozen=True):
    """One template and where it was seen.

    Args:
        origin: the strongest of its texts.
        sample: the first raw text, at most 4,000 characters (both ends).
        by_version: {version: how often}.
        by_minute: {(version, Unix minute): invocations}, where times are known.
        first_seen, last_seen: Unix seconds, None without times.
        outcome, status, source: of the first invocation.
    """

    key: TemplateKey
    origin: Origin
    sample: str
    by_version: Mapping[str, Seen]
    by_minute: Mapping[tuple[str, int], int] = field(default_factory=dict)
    first_seen: float | None = None
    last_seen: float | None = None
    outcome: str = OK
    status: int | None = None
    source: str = ""

    @property
    def invocations(self) -> int:
        """In how many invocations it was seen, over all versions."""
        return sum(seen.invocations for seen in self.by_version.values())

    @property
    def errors(self) -> int:
        """How many of them were errors."""
        return sum(seen.errors for seen in self.by_version.values())


class Noted(Value, frozen=True):
    """An oddity: its count, and its first place ("events.json, line 12")."""

    count: int
    first: str


class EventCounts(Value, frozen=True):
    """The counts of everything that was read.

    Args:
        by_version: {version: counts}.
        by_minute: {Unix minute: counts} of the events with a time but no version.
        templates: most often seen first.
        shapes: {kind of source: events}, such as "tail" or "plain".
        sampled: the source left out events: counts are of a sample.
        truncated: events of which a part was left out.
        unreadable: {why it could not be counted: how often}.
        oddities: {oddity: how often} of what was counted nevertheless, such as a clock that went back.
        untracked: texts that are in no template because there were too many.
        first_at, last_at: the earliest and latest of the first event, the last, and those that said something, in Unix
            seconds; None when nothing tells a time.
    """

    by_version: Mapping[str, InvocationCounts] = field(default_factory=dict)
    by_minute: Mapping[int, InvocationCounts] = field(default_factory=dict)
    templates: tuple[Template, ...] = ()
    shapes: Mapping[str, int] = field(default_factory=dict)
    sampled: bool = False
    truncated: int = 0
    unreadable: Mapping[str, Noted] = field(default_factory=dict)
    oddities: Mapping[str, Noted] = field(default_factory=dict)
    untracked: int = 0
    first_at: float | None = None
    last_at: float | None = None

    @property
    def invocations(self) -> int:
        """Invocations of all versions."""
        return sum(counts.invocations for counts in self.by_version.values())

    @property
    def errors(self) -> int:
        """Errors of all versions."""
        return sum(counts.errors for counts in self.by_version.values())


class LogPage(Value, frozen=True):
    """The counts from a source of logs.

    Args:
        complete: every invocation is there, the silent ones too; else only those that said something or failed, and how
            many there were in all has to be counted elsewhere.
        since: Unix seconds from when on all that it should hold is there, None: from the beginning.
    """

    counts: EventCounts
    complete: bool = False
    since: float | None = None
