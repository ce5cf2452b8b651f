"""An incident as the journal has it: the runs that belong to it, and what people wrote, decided and did."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from backout.model.value import Value

OPENED: Final = "incident.opened"
NOTED: Final = "incident.noted"
UPDATED: Final = "incident.updated"
ACKNOWLEDGED: Final = "incident.acknowledged"
RESOLVED: Final = "incident.resolved"
ACTION: Final = "incident.action"
FILED: Final = "incident.filed"
KINDS: Final = (OPENED, NOTED, UPDATED, ACKNOWLEDGED, RESOLVED, ACTION, FILED)
"""The kinds of events with which people take part; each has `id`, the incident's."""


class Severity(StrEnum):
    """How bad it is; the values are part of the JSON."""

    CRITICAL = "critical"
    MAJOR = "major"
    MINOR = "minor"


class IncidentState(StrEnum):
    """Where it stands; the values are part of the JSON."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class Origin(StrEnum):
    """Who says a line of the timeline; the values are part of the JSON."""

    JOURNAL = "journal"
    PERSON = "person"


class RunFacts(Value, frozen=True):
    """What one run means for incidents.

    Args:
        run: its id.
        chain: ids of the runs that led to it, the first cause in front, itself included.
        began_at: when it became trouble or began to mend some (Unix seconds), None when it does neither.
        opens: whether it is reason enough for an incident, or only joins one that is open.
        well_at: when it was shown that all is well again, None when it was not.
        ends_all: it is a watch that ended healthy, so that every incident of runs which was open when it began is over,
            but for those of data: it saw answers, and no rows.
        started_at: when it began, Unix seconds.
        is_of_data: it restores data.
        by: who acted, "guard" for a robot.
        is_grave: a critical service was down, or the database had no connections left.
        share: of the requests that failed, None when not known.
    """

    run: str
    chain: tuple[str, ...]
    began_at: float | None
    opens: bool
    well_at: float | None
    by: str
    ends_all: bool = False
    is_grave: bool = False
    share: float | None = None
    started_at: float = 0.0
    is_of_data: bool = False


class Remark(Value, frozen=True):
    """What a person wrote: `kind` is one of `KINDS`, `at` Unix seconds."""

    at: float
    kind: str
    text: str
    by: str


class ActionItem(Value, frozen=True):
    """Something to be done because of it.

    Args:
        number: counted from 1 within the incident.
        kind: prevent, detect, mitigate or process.
        due: YYYY-MM-DD, "" for none.
        url: of the issue that was made of it, "" for none.
        by: who wrote it down.
        nonce: drawn at random, so that nobody else can write what its issue is recognised by.
    """

    number: int
    at: float
    text: str
    kind: str
    owner: str = ""
    due: str = ""
    url: str = ""
    by: str = ""
    nonce: str = ""


class Told(Value, frozen=True):
    """One notice that arrived in one channel; `acknowledged_at`: when a person first acknowledged after it."""

    at: float
    channel: str
    what: str
    acknowledged_at: float | None = None


class IncidentRecord(Value, frozen=True):
    """An incident; times are Unix seconds.

    Args:
        id: of the first run, or of its own where a person opened it.
        title: as a person gave it, "" where runs are its reason.
        severity: as a person gave it, None: by policy.
        opened_at: when guard found it, a repair began, or a person opened it.
        runs: ids, in the order in which they belong to it.
        by_person: a person opened it, so that a person resolves it.
        blamed: the version that a person says caused it, "" for none.
    """

    id: str
    environment: str
    opened_at: float
    opened_by: str
    title: str = ""
    severity: Severity | None = None
    acknowledged_at: float | None = None
    acknowledged_by: str = ""
    resolved_at: float | None = None
    resolved_by: str = ""
    runs: tuple[str, ...] = ()
    remarks: tuple[Remark, ...] = ()
    actions: tuple[ActionItem, ...] = ()
    by_person: bool = False
    blamed: str = ""
    is_grave: bool = False
    is_of_data: bool = False
    share: float | None = None

    @property
    def state(self) -> IncidentState:
        """Where it stands."""
        if self.resolved_at is not None:
            return IncidentState.RESOLVED
        return IncidentState.OPEN if self.acknowledged_at is None else IncidentState.ACKNOWLEDGED
