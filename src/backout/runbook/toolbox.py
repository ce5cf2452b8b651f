"""Everything a procedure may use: the ports of one environment, its policy, and who acts. Wiring fills it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backout.model.plan import Equivalents

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.plan import Plan
    from backout.model.policy import Policy
    from backout.ports import (
        Checkpoints,
        Clock,
        CountsStore,
        Deployments,
        HealthCheck,
        Journal,
        Logs,
        Marks,
        Reports,
        Runs,
        Schema,
        Secrets,
        Traffic,
        Versions,
    )


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The ports of one environment; a part that is None is "not set up", never an error.

    Args:
        actor: who acts, "user@host" or "guard". in_background: whether health is asked in a thread of its own, so that
            a hanging endpoint never delays the other evidence (False in tests with a fake clock).
        confirm: asks a person whether a plan may run; None without a terminal.
        watching: told about each tick of a watch, for the live line; it decides nothing.
    """

    environment: str
    policy: Policy
    actor: str
    clock: Clock
    deployments: Deployments
    versions: Versions
    journal: Journal
    runs: Runs
    marks: Marks
    counts: CountsStore
    checkpoints: Checkpoints
    reports: Reports
    traffic: Traffic | None = None
    health: HealthCheck | None = None
    schema: Schema | None = None
    secrets: Secrets | None = None
    logs: Logs | None = None
    equivalents: Equivalents = field(default_factory=Equivalents)
    in_background: bool = True
    watching: Callable[[object], None] | None = None
    confirm: Callable[[Plan], bool] | None = None
