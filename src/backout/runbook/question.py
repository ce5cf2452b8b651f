"""A version that was marked stable and does not answer as it did: that is questioned, and no robot returns to it.

Nothing is struck off silently: it is said, it stands in the journal, and a refusal with nothing else left names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.remarks import same_version
from backout.analysis.stability import questioned
from backout.model.deployment import Mark, VersionId, VersionMark

if TYPE_CHECKING:
    from backout.runbook.toolbox import Toolbox


def question(tools: Toolbox, run: str, version: str, why: str) -> None:
    """Mark a version questioned, when it is stable as far as this journal knows; once for each run."""
    marks = tools.marks.marks(tools.environment)
    proof = next((m for m in reversed(marks) if m.mark is Mark.STABLE and same_version(m.version, version)), None)
    if proof is None or questioned(marks, version) is not None:
        return
    tools.say(
        f"version {version[:8]} was marked stable, and that is questioned now: {why}; guard does not return to it by "
        "itself, a person may"
    )
    mark = VersionMark(
        mark=Mark.QUESTIONED,
        version=VersionId(proof.version),
        code_hash=proof.code_hash,
        at=tools.clock.now(),
        run=run,
        why=why,
        git_sha=proof.git_sha,
        by=tools.actor,
    )
    tools.marks.mark(tools.environment, mark, actor=tools.actor)
