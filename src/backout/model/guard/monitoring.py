"""One reading of what is live, for a person who watches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.guard.monitored import Response
from backout.model.value import Value

if TYPE_CHECKING:
    from backout.model.guard.connections import ConnectionUse
    from backout.model.guard.monitored import ErrorRate
    from backout.model.guard.signals import HealthReport
    from backout.model.guard.verdict import CriterionResult


class RunSight(Value, frozen=True):
    """A run that is not over: how many of its steps are done, and what comes next."""

    id: str
    state: str
    done: int
    steps: int
    step: str


class Reading(Value, frozen=True):
    """What is live, and how it does.

    Args:
        at: Unix seconds.
        elapsed_s: since the watch began; for_s: how long it lasts, None until it is interrupted.
        version, deployment, live_since: what is live, as read back last.
        maintenance: it answers 503 on purpose.
        left: the version that it replaced, None for none.
        live_problem: why what is live could not be read just now, or "".
        run: the newest run in this journal, while it is not over.
        has_health, has_connections: whether these are set up.
        health: the last look; None: none was made yet.
        errors: None: no source of counts is set up.
        counts_problem: why the counts could not be read just now, or "".
        response, usual, usual_from: as in `VersionSeen`; `response` of the same seconds as `errors`.
        connections: the last reading; None: none was made yet.
        connections_problem: why they could not be read just now, or "".
        criteria: the success criteria, each with what it waits for.
    """

    at: float
    elapsed_s: float
    for_s: float | None
    version: str
    deployment: str
    live_since: float
    maintenance: bool = False
    left: str | None = None
    live_problem: str = ""
    run: RunSight | None = None
    has_health: bool = False
    has_connections: bool = False
    health: HealthReport | None = None
    errors: ErrorRate | None = None
    counts_problem: str = ""
    response: Response = Response()
    usual: Response = Response()
    usual_from: str = ""
    connections: ConnectionUse | None = None
    connections_problem: str = ""
    criteria: tuple[CriterionResult, ...] = ()
