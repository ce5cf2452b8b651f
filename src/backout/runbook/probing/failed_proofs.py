"""Failed proofs, kept in the journal: a version that did not answer well a minute ago is not tried first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.model.situation import FailedProof

if TYPE_CHECKING:
    from backout.model.plan import Json
    from backout.ports import Journal
    from backout.runbook.toolbox import Toolbox

KIND: Final = "proof.failed"


def record_failure(tools: Toolbox, run: str, version: str, why: str) -> None:
    """Note that a version was asked at 0 % of the traffic and did not answer well; once for each run."""
    data: dict[str, Json] = {"run": run, "version": version, "why": why}
    tools.journal.note(tools.environment, KIND, f"{run}:{version}", data, actor=tools.actor)


def list_failed_proofs(tools: Toolbox) -> dict[str, FailedProof]:
    """Return the newest failed proof of each version."""
    return read_failed_proofs(tools.journal, tools.environment)


def read_failed_proofs(journal: Journal, environment: str) -> dict[str, FailedProof]:
    """Return the newest failed proof of each version, as far as this journal knows. Raises as the journal does."""
    noted = journal.events(environment=environment, kind=KIND)
    return {str(event.data["version"]): FailedProof(event.at, str(event.data["why"])) for event in noted}
