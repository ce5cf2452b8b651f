"""What happened in an environment: what was read of it, and the entries that are told from that."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backout.model.deployment import Deployment, VersionMark
    from backout.model.hold import Hold
    from backout.model.incident import Event, Run
    from backout.model.notice import Letter


class EntryKind(StrEnum):
    """What an entry is about; the values are part of the JSON."""

    DEPLOYMENT = "deployment"  # other versions, or other shares of them, got the traffic
    WATCH = "watch"  # guard began to watch
    VERDICT = "verdict"  # a watch ended with one
    COMMAND = "command"  # a person typed it
    RUN = "run"  # a run began by itself, stopped, or ended
    MARK = "mark"
    HOLD = "hold"
    NOTICE = "notice"  # somebody was told
    CHANGE = "change"  # what is live began to fail, or is well again, and no deployment explains it
    NOTE = "note"  # what was recorded beside the runs: restore points, migrations, restores


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a timeline.

    Args:
        at: Unix seconds. text: one sentence. run: the run that it belongs to, "" for none. by: who, "" when unknown.
    """

    at: float
    kind: EntryKind
    text: str
    run: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class Records:
    """Everything that a timeline is told from, each part as far as it could be read.

    Args:
        listed: what the provider lists, newest first, remarks among it. runs: of the journal, newest first. events: of
            the journal, in their order. marks: of the journal. holds: of this host. letters: newest first.
        notes: what could not be read, in whole sentences without a final stop.
    """

    environment: str
    now: float
    listed: tuple[Deployment, ...] = ()
    runs: tuple[Run, ...] = ()
    events: tuple[Event, ...] = ()
    marks: tuple[VersionMark, ...] = ()
    holds: tuple[Hold, ...] = ()
    letters: tuple[Letter, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Moment:
    """What was live at a moment, and what was going on.

    Args:
        at: Unix seconds. deployment: what decided about the traffic, None: nothing is known of that time.
        runs: those that were under way. hold: the one that was on.
    """

    at: float
    deployment: Deployment | None
    runs: tuple[Run, ...] = ()
    hold: Hold | None = None


@dataclass(frozen=True, slots=True)
class Timeline:
    """The entries from `since` to `until` (Unix seconds), oldest first.

    Args:
        moment: where a moment was asked for. left_out: how many older entries there are than those that are told.
    """

    environment: str
    since: float
    until: float
    entries: tuple[Entry, ...]
    moment: Moment | None = None
    left_out: int = 0
    notes: tuple[str, ...] = ()
