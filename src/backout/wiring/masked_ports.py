"""Masking of all text that goes out or comes in: one wrapper for each port that handles text.

The journal, reports, cards and notices mask what they are given themselves; health answers and error texts are
masked where they are read, before anything is cut out of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.model.deployment import Cohort, Deployment, Share
    from backout.model.guard.pipeline import PipelineState
    from backout.model.hold import Hold
    from backout.model.incident.builds import BuildRun
    from backout.ports import Builds, Deployments, Holds, Maintenance, Pipeline


class MaskedDeployments:
    """Port Deployments: messages stored at the provider contain no secrets."""

    def __init__(self, inner: Deployments, masked: Callable[[str], str]) -> None:
        self.inner = inner
        self.masked = masked

    def history(self) -> tuple[Deployment, ...]:
        """Return the deployments as they are."""
        return self.inner.history()

    def activate(self, version: str, *, message: str, force: bool = False, immediate: bool = False) -> Deployment:
        """Make a version live."""
        return self.inner.activate(version, message=self.masked(message), force=force, immediate=immediate)

    def deploy(
        self, shares: Sequence[Share], *, message: str, force: bool = False, cohorts: Sequence[Cohort] = ()
    ) -> Deployment:
        """Make versions live."""
        return self.inner.deploy(shares, message=self.masked(message), force=force, cohorts=cohorts)


class MaskedMaintenance:
    """Port Maintenance: messages stored at the provider contain no secrets."""

    def __init__(self, inner: Maintenance, masked: Callable[[str], str]) -> None:
        self.inner = inner
        self.masked = masked

    def find_obstacle(self) -> str:
        """Return why there can be none, or ""."""
        return self.inner.find_obstacle()

    def show(self, message: str) -> Deployment:
        """Make one live."""
        return self.inner.show(self.masked(message))


class MaskedHolds:
    """Port Holds: the stored reason contains no secrets."""

    def __init__(self, inner: Holds, masked: Callable[[str], str]) -> None:
        self.inner = inner
        self.masked = masked

    def read(self, environment: str) -> Hold | None:
        """Return the hold as it is."""
        return self.inner.read(environment)

    def write(self, environment: str, hold: Hold) -> None:
        """Set it."""
        self.inner.write(environment, replace(hold, why=self.masked(hold.why), by=self.masked(hold.by)))


class MaskedPipeline:
    """Port Pipeline: the line shown contains no secrets, however it is cut afterwards."""

    def __init__(self, inner: Pipeline, masked: Callable[[str], str]) -> None:
        self.inner = inner
        self.masked = masked

    def show(self, state: PipelineState, text: str) -> None:
        """Show it."""
        self.inner.show(state, self.masked(text))


class MaskedBuilds:
    """Port Builds: a job's log is masked as a whole, before lines are taken out of it."""

    def __init__(self, inner: Builds, masked: Callable[[str], str]) -> None:
        self.inner = inner
        self.masked = masked

    def latest(self, commit: str = "") -> BuildRun | None:
        """Return the newest run as it is."""
        return self.inner.latest(commit)

    def log(self, job: str) -> str:
        """Return the log."""
        return self.masked(self.inner.log(job))
