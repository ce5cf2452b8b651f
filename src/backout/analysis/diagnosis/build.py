"""Diagnosis of a failed build: nothing reached production; the failed step and its cause; pure (Scenario 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.analysis.diagnosis.build_log import find_failed_step
from backout.model.incident.diagnosis import (
    UNKNOWN,
    Alternative,
    Diagnosis,
    LogKind,
    Quote,
    RollbackAdvice,
    Scenario,
)

if TYPE_CHECKING:
    from backout.analysis.diagnosis.build_log import FailedStep
    from backout.analysis.diagnosis.signatures import Classifier
    from backout.model.incident.diagnosis import Catalogue

_AROUND: Final = 12_000
"""Characters of the log before the failure that are read for its cause."""


def diagnose_build(
    log: str, catalogue: Catalogue, classifier: Classifier, *, step: str = "", environment: str = "ENV"
) -> Diagnosis | None:
    """Return why a build failed, or None when neither the log nor `step` shows a failure.

    Args:
        step: the step that the pipeline itself calls failed, "" when it does not say.
    """
    failed = find_failed_step(log)
    if failed is None and not step:
        return None
    lines = () if failed is None else failed.lines
    quoted = "\n".join(line.text for line in lines)
    found = classifier.classify(_cut_near(log, failed), LogKind.BUILD)
    near = classifier.classify(quoted, LogKind.BUILD) if quoted else found
    best = near if near.is_known and near.confidence >= found.confidence else found
    cause = catalogue.causes.get(best.label)
    name = _describe_step(failed, step)
    what = cause.title if cause is not None else "the step failed, and no signature knows why"
    return Diagnosis(
        scenario=best.scenario or Scenario.BUILD_FAILURE,
        cause=best.label,
        confidence=best.confidence,
        service=best.service or "build",
        rollback=RollbackAdvice.NOT_NEEDED,
        title=f"{what} (step: {name})" if name else what,
        evidence=tuple(Quote(line.text.strip(), None, "", 1, f"line {line.number}") for line in lines),
        alternatives=tuple(
            Alternative(label, probability) for label, probability in best.others[:4] if label != UNKNOWN
        ),
        next=() if cause is None else tuple(each.replace("{environment}", environment) for each in cause.steps),
        confirm="" if cause is None else cause.confirm.replace("{environment}", environment),
        names=tuple(best.captures[key] for key in ("variable", "binding") if key in best.captures),
        notes=("nothing of this build reached production; nothing is rolled back",),
    )


def _cut_near(log: str, failed: FailedStep | None) -> str:
    """Return the part of the log with the cause: everything before the last line that mentions it."""
    if failed is None or not failed.lines:
        return log[-_AROUND:]
    lines = log.splitlines()
    upto = "\n".join(lines[: failed.lines[-1].number + 5])
    return upto[-_AROUND:]


def _describe_step(failed: FailedStep | None, step: str) -> str:
    name = step or (failed.step if failed is not None else "")
    if failed is None:
        return name
    command = f"`{failed.command}`" if failed.command and failed.command not in name else ""
    code = f"exit code {failed.exit_code}" if failed.exit_code is not None else ""
    return ", ".join(part for part in (name, command, code) if part)
