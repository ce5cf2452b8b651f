"""The impact of an incident: the counts of its time are kept beside the journal when its report is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from msgspec.structs import replace

from backout.analysis.history.impact import Counted, count_requests, measure_impact
from backout.decoding import Undecodable, decode_values
from backout.errors import BackoutError
from backout.model.incident.impact import Exactness

if TYPE_CHECKING:
    from backout.model.incident.impact import Impact
    from backout.model.incident.incident import Incident
    from backout.model.incident.record import IncidentRecord
    from backout.model.plan import Json
    from backout.ports import Checkpoints, Clock, CountsStore, Journal, Runs, Traffic

KEPT_S: Final = 7_200.0
"""How much of the newest time is kept second by second, for the picture; sums are kept of all of it."""
BEFORE_S: Final = 60.0
"""How much of the time before the bad deployment is kept, to compare with."""
_LATE_S: Final = 5.0
_SUMS: Final = "incident counts"
_RESTORES: Final = ("db_rescue", "db_branch_rescue", "restore_objects")


class Stores(Protocol):
    """What counts are kept in."""

    @property
    def environment(self) -> str:
        """Its name."""
        ...

    @property
    def clock(self) -> Clock:
        """The time."""
        ...

    @property
    def counts(self) -> CountsStore:
        """Second by second."""
        ...

    @property
    def checkpoints(self) -> Checkpoints:
        """Sums."""
        ...


def is_counted(checkpoints: Checkpoints, found: IncidentRecord) -> bool:
    """Whether the counts of an incident are kept already, or it has no run to keep them for."""
    return not found.runs or any(checkpoints.load_checkpoint(run, _SUMS) is not None for run in found.runs)


def keep_counts(
    stores: Stores, traffic: Traffic | None, run: str, bad: str, since: float, ended_at: float | None
) -> None:
    """Read the counts from `since` until now, and keep them for the incident of `run`; nothing where none can be read.

    Args:
        traffic: where they are read, None for nowhere.
        bad: the version that failed, "" for none.
        since: Unix seconds; `ended_at`: when all was shown to be well, None: not yet.
    """
    if traffic is None:
        return
    now = stores.clock.now()
    try:
        page = traffic.read(int(since - BEFORE_S), int(now) + 1)
    except BackoutError:
        return
    traits = traffic.traits
    how = Exactness.SAMPLED if page.sampled or traits.sampled else Exactness.EXACT
    how = Exactness.ESTIMATED if traits.estimated and how is Exactness.SAMPLED else how
    stores.counts.keep(stores.environment, [row for row in page.counts if row.second >= now - KEPT_S])
    sums = count_requests(page.counts, bad, since, now if ended_at is None else ended_at, how)
    data: dict[str, Json] = {
        "requests": sums.requests,
        "failed": sums.failed,
        "first_failed_at": sums.first_failed_at,
        "exactness": str(how),
        "until": float(page.complete_until),
    }
    stores.checkpoints.save_checkpoint(run, _SUMS, data)


def read_impact(
    journal: Journal,
    runs: Runs,
    counts: CountsStore,
    checkpoints: Checkpoints,
    found: IncidentRecord,
    incident: Incident | None,
    now: float,
) -> Impact:
    """Return the impact as far as the journal and the counts beside it tell it.

    Args:
        incident: what the journal tells of its runs, None without one.
        now: Unix seconds.
    """
    began_at, bad, decision = found.opened_at, "", None
    ended_at = found.resolved_at
    if incident is not None:
        began_at, bad, decision = incident.opened_at, incident.bad_version, incident.decision
        ended_at = incident.resolved_at if incident.resolved_at is not None else ended_at
    ended_at = now if ended_at is None else ended_at
    counted = _read_sums(checkpoints, found, ended_at)
    if counted is None:
        progress = (event.data for run in found.runs for event in journal.events(run=run, kind="step.progress"))
        how = Exactness.SAMPLED if any(data.get("sampled") for data in progress) else Exactness.ESTIMATED
        rows = counts.load_counts(found.environment, int(began_at), int(ended_at) + 1)
        counted = count_requests(rows, bad, began_at, ended_at, how)
    restored = [
        result for run in found.runs for step in _RESTORES if isinstance(result := runs.result(run, step), dict)
    ]
    return measure_impact(counted, decision, began_at, ended_at, restored)


def _read_sums(checkpoints: Checkpoints, found: IncidentRecord, ended_at: float) -> Counted | None:
    """Return the sums that were kept with the report, estimates where the incident went on after it."""
    for run in reversed(found.runs):
        kept = checkpoints.load_checkpoint(run, _SUMS)
        if isinstance(kept, dict):
            try:
                sums = decode_values(kept, Counted)
            except Undecodable:  # another version of backout wrote it
                continue
            until = kept.get("until")
            is_whole = isinstance(until, int | float) and until >= ended_at - _LATE_S
            return sums if is_whole else replace(sums, exactness=Exactness.ESTIMATED)
    return None
