"""The history of an environment: the data that was read, and the entries made from it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from backout.model.value import Value

if TYPE_CHECKING:
    from backout.model.deployment import Deployment
    from backout.model.hold import Hold
    from backout.model.incident.incident import Event, Run
    from backout.model.incident.notice import QueuedNotice
    from backout.model.version import VersionMark


class EntryKind(StrEnum):
    """The subject of an entry; the values are part of the JSON."""

    DEPLOYMENT = "deployment"  # other versions, or other shares of them, got the traffic
    WATCH = "watch"  # guard began to watch
    VERDICT = "verdict"  # a watch ended with one
    COMMAND = "command"  # a person typed it
    RUN = "run"  # a run began by itself, stopped, or ended
    MARK = "mark"
    HOLD = "hold"
    NOTICE = "notice"  # people were told
    CHANGE = "change"  # what is live began to fail, or is well again, and no deployment explains it
    NOTE = "note"  # what was recorded beside the runs: restore points, migrations, restores


class Entry(Value, frozen=True):
    """One line of a timeline.

    Args:
        at: Unix seconds.
        text: one sentence.
        run: the run that it belongs to, "" for none.
        by: who, "" when unknown.
    """

    at: float
    kind: EntryKind
    text: str
    run: str = ""
    by: str = ""


class Records(Value, frozen=True):
    """The data for a timeline, each part as far as it could be read.

    Args:
        listed: the provider's list, newest first, remarks included.
        runs: of the journal, newest first.
        events: of the journal, in their order.
        marks: of the journal.
        holds: of this host.
        queued: newest first.
        notes: what could not be read, in whole sentences without a final stop.
    """

    environment: str
    now: float
    listed: tuple[Deployment, ...] = ()
    runs: tuple[Run, ...] = ()
    events: tuple[Event, ...] = ()
    marks: tuple[VersionMark, ...] = ()
    holds: tuple[Hold, ...] = ()
    queued: tuple[QueuedNotice, ...] = ()
    notes: tuple[str, ...] = ()


class Moment(Value, frozen=True):
    """What was live and in progress at a moment.

    Args:
        at: Unix seconds.
        deployment: the one that decided the traffic, None: unknown for that time.
        runs: those that were under way.
        hold: the one in force.
    """

    at: float
    deployment: Deployment | None
    runs: tuple[Run, ...] = ()
    hold: Hold | None = None


class Timeline(Value, frozen=True):
    """The entries from `since` to `until` (Unix seconds), oldest first.

    Args:
        moment: where a moment was asked for.
        left_out: the number of older entries that are not included.
    """

    environment: str
    since: float
    until: float
    entries: tuple[Entry, ...]
    moment: Moment | None = None
    left_out: int = 0
    notes: tuple[str, ...] = ()
