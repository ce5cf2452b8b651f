"""Question a version that was marked stable and does not answer as it did: guard does not return to it by itself.

That is never silent: it is reported, recorded in the journal and at the provider, where every machine reads it, and a
refusal with nothing else left names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.history.remarks import find_told_questioned, is_same_version, list_marks, merge_marks
from backout.analysis.history.stability import find_questioned
from backout.errors import BackoutError
from backout.model.guard.policy import Mode
from backout.model.remark import Code, Remark, RemarkKind
from backout.model.version import Mark, VersionId, VersionMark
from backout.runbook.rollback.remarks import find_written, tell_provider
from backout.runbook.safety.hold import describe_hold, find_active_hold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.deployment import Deployment
    from backout.runbook.toolbox import Toolbox


def mark_questioned(tools: Toolbox, run: str, version: str, why: str, listed: Sequence[Deployment] = ()) -> None:
    """Mark a version questioned in the journal, when it is stable as far as is known; once for each run.

    `tell_questions` then writes it at the provider.

    Args:
        listed: the provider's history: another machine may have marked it.
    """
    marks = merge_marks(tools.marks.marks(tools.environment), list_marks(listed, ()))
    proof = next((m for m in reversed(marks) if m.mark is Mark.STABLE and is_same_version(m.version, version)), None)
    if proof is None or find_questioned(marks, version) is not None:
        return
    tools.say(
        f"version {version[:8]} was marked stable, and that is questioned now: {why}; guard does not return to it by "
        "itself before a healthy watch of it, a person may"
    )
    mark = VersionMark(
        mark=Mark.QUESTIONED,
        version=VersionId(version),
        code_hash=proof.code_hash,
        at=tools.clock.now(),
        run=run,
        why=why,
        git_sha=proof.git_sha,
        by=tools.actor,
    )
    tools.marks.mark(tools.environment, mark, actor=tools.actor)


def tell_questions(tools: Toolbox, run: str, expected: str, *, mode: str = "", text: str = "") -> None:
    """Write at the provider what this run questioned, each once; an obstacle is reported and changes nothing.

    After a crash in between, the same step done again writes it.

    Args:
        expected: the deployment that decides what has traffic.
        mode: what the run was started with: one that only observes writes nothing.
        text: what all readers of the provider's list may read; "" for the reason.
    """
    marks = tools.marks.marks(tools.environment)
    mine = [m for m in marks if m.mark is Mark.QUESTIONED and m.run == run and find_questioned(marks, m.version) == m]
    if not mine or not tools.provider_marks:
        return
    for mark in mine:
        remark = Remark(RemarkKind.QUESTIONED, run, code=Code.of_mark(mark), text=text or mark.why)
        why_not = _explain_unasked(tools, remark, mark.version, mode)
        if why_not is None:
            tell_provider(tools, remark, expected)
        elif why_not:
            tools.say(f"the provider was not told ({remark.kind}), so other machines do not know it: {why_not}")


def _explain_unasked(tools: Toolbox, remark: Remark, version: str, mode: str) -> str | None:
    """Return why a question is not written, "" if it is there already, None if it is to be written."""
    if mode == Mode.OBSERVE:
        return "guard only observes, so nothing is written at the provider (mode = observe)"
    try:
        listed = tools.deployments.history()
    except BackoutError as error:
        return str(error)
    made = find_written(listed, remark)
    if made is not None:
        return None  # checked and read back once more: what slipped in beneath it is put back
    if find_told_questioned(listed, version) is not None:
        return ""
    hold = find_active_hold(tools, listed)
    return None if hold is None else f"a hold is on, so nothing is written at the provider ({describe_hold(hold)})"
