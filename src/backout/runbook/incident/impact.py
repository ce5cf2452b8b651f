"""The impact of an incident: the counts of its time are kept beside the journal when its report is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.analysis.history.impact import Counted, measure_impact
from backout.errors import BackoutError
from backout.model.incident.impact import Exactness

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.guard.signals import Counts
    from backout.model.incident.impact import Impact
    from backout.model.incident.incident import Incident
    from backout.model.incident.record import IncidentRecord
    from backout.model.plan import Json
    from backout.ports import Checkpoints, CountsStore, Journal, Runs
    from backout.runbook.toolbox import Toolbox

BEFORE_S: Final = 300.0
"""How much of the time before an incident is kept, to compare with."""
_SOURCE: Final = "incident counts"
_RESTORES: Final = ("db_rescue", "db_branch_rescue", "restore_objects")


def keep_counts(tools: Toolbox, run: str, since: float) -> Sequence[Counts] | None:
    """Read the counts from `since` until now, keep them for the incident of `run`, and return them; None: none read."""
    if tools.traffic is None:
        return None
    try:
        page = tools.traffic.read(int(since - BEFORE_S), int(tools.clock.now()) + 1)
    except BackoutError:
        return None
    traits = tools.traffic.traits
    how = Exactness.SAMPLED if page.sampled or traits.sampled else Exactness.EXACT
    if traits.estimated and how is Exactness.SAMPLED:
        how = Exactness.ESTIMATED
    tools.counts.keep(tools.environment, page.counts)
    about: dict[str, Json] = {"exactness": str(how), "until": float(page.complete_until)}
    tools.checkpoints.save_checkpoint(run, _SOURCE, about)
    return page.counts


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
    began_at = incident.opened_at if incident is not None else found.opened_at
    ended_at = found.resolved_at if found.resolved_at is not None else now
    rows = counts.load_counts(found.environment, int(began_at), int(ended_at) + 1)
    restored = [
        result for run in found.runs for step in _RESTORES if isinstance(result := runs.result(run, step), dict)
    ]
    counted = _read_source(journal, checkpoints, found, rows)
    return measure_impact(incident, counted, began_at=began_at, ended_at=ended_at, restored=restored)


def _read_source(journal: Journal, checkpoints: Checkpoints, found: IncidentRecord, rows: Sequence[Counts]) -> Counted:
    """Return the counts with how they are known: as noted at the report, else as the watch said."""
    for run in reversed(found.runs):
        about = checkpoints.load_checkpoint(run, _SOURCE)
        if isinstance(about, dict) and about.get("exactness") in list(Exactness):
            until = about.get("until")
            how = Exactness(str(about["exactness"]))
            return Counted(rows, how, float(until) if isinstance(until, int | float) else None)
    progress = (event.data for run in found.runs for event in journal.events(run=run, kind="step.progress"))
    is_sampled = any(data.get("sampled") for data in progress)
    return Counted(rows, Exactness.SAMPLED if is_sampled else Exactness.EXACT)
