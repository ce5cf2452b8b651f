"""What the pages show of each environment: its status as a worker read it last, and what the journal knows itself."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from backout.errors import UsageError
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from backout.model.incident.incident import Run
    from backout.model.incident.record import IncidentRecord
    from backout.model.plan import Json
    from backout.ports import Checkpoints, Runs
    from backout.runbook.incident.incident_cache import IncidentCache

_RUN: Final = "status"
_VIEWED: Final = "viewed"
VIEWED_S: Final = 60.0
"""So long after somebody looked at an environment its status is kept fresh."""
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
STALE_S: Final = 30.0
"""A status that is older is shown as stale: the worker reads one every ten seconds (with many environments, later)."""


class KeptStatus(Value, frozen=True):
    """The status of an environment, as `backout status --json` has it; `read_at`: Unix seconds."""

    record: Mapping[str, Json]
    read_at: float


class EnvironmentView(Value, frozen=True):
    """What a page shows of one environment.

    Args:
        status: None: no worker has ever read it.
        worker: that guards it, "" for none.
        run: the newest one, None: there was none yet.
        incident: the newest one that is open.
        looked_since: since when somebody looks, so that a worker is to keep the status fresh; Unix seconds.
    """

    name: str
    protected: bool
    status: KeptStatus | None
    worker: str
    run: Run | None
    incident: IncidentRecord | None
    looked_since: float | None = None

    def is_stale(self, now: float) -> bool:
        """Whether what the status says is too old to be believed."""
        return self.status is None or now - self.status.read_at > STALE_S

    def is_being_read(self, now: float) -> bool:
        """Whether a worker has only just been told that somebody looks: what is stale is about to be fresh."""
        since = self.looked_since
        return bool(self.worker) and since is not None and now - since <= STALE_S and self.is_stale(now)


def find_run(runs: Runs, environment: str, run: str) -> Run | None:
    """Return the run of an environment with exactly this id, None: there is none. Raises JournalUnavailable.

    The beginning of an id is none: what it fits may be runs of environments that whoever asks does not see. Runs on
    objects are in a lane of their own in it.
    """
    if not _ID.fullmatch(run):
        return None
    with suppress(UsageError):  # it is the beginning of several
        found = runs.find(run)
        if found is not None and found.id == run and found.environment.partition("/")[0] == environment:
            return found
    return None


def save_status(checkpoints: Checkpoints, environment: str, record: Mapping[str, object], read_at: float) -> None:
    """Keep the newest status of an environment; what is kept is no history."""
    data: dict[str, Any] = {"read_at": read_at, "record": dict(record)}
    checkpoints.save_checkpoint(_RUN, environment, data)


def read_kept_status(checkpoints: Checkpoints, environment: str) -> KeptStatus | None:
    """Return the newest status that a worker kept, None: there is none, or it is not readable."""
    found = checkpoints.load_checkpoint(_RUN, environment)
    if not isinstance(found, dict):
        return None
    record, read_at = found.get("record"), found.get("read_at")
    if not isinstance(record, dict) or not isinstance(read_at, int | float):
        return None
    return KeptStatus(record, float(read_at))


def note_viewed(checkpoints: Checkpoints, environments: Iterable[str], now: float) -> None:
    """Note that somebody looks at these environments; of two that note it at once, one may be forgotten for a while."""
    known = {name: at for name, at in read_viewed(checkpoints).items() if now - at < VIEWED_S}
    data: dict[str, Json] = {**known, **dict.fromkeys(environments, now)}
    checkpoints.save_checkpoint(_VIEWED, "all", data)


def read_viewed(checkpoints: Checkpoints) -> dict[str, float]:
    """Return when somebody last looked at each environment, Unix seconds."""
    found = checkpoints.load_checkpoint(_VIEWED, "all")
    known = found if isinstance(found, dict) else {}
    return {name: float(at) for name, at in known.items() if isinstance(at, int | float)}


def read_view(
    cache: IncidentCache,
    runs: Runs,
    checkpoints: Checkpoints,
    environment: str,
    *,
    worker: str,
    protected: bool,
    looked_since: float | None = None,
) -> EnvironmentView:
    """Return what a page shows of an environment. Raises BackoutError: the journal cannot be read."""
    return EnvironmentView(
        environment,
        protected,
        read_kept_status(checkpoints, environment),
        worker,
        next(runs.walk_runs(environment), None),
        next((each for each in cache.list_incidents(environment) if each.resolved_at is None), None),
        looked_since,
    )
