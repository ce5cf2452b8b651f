"""The check of the fence: whether one could be raised around the database, and that none is left standing; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.checkup import should
from backout.model.hint import suggest_command

if TYPE_CHECKING:
    from backout.model.checkup import Check
    from backout.model.database.fence import FenceMark, FenceSurvey


def check_fence(survey: FenceSurvey, standing: FenceMark | None, environment: str) -> Check:
    """Return whether everyone but the administrator could be kept from writing, should all be brought back."""
    subject = should("fence")
    if standing is not None:
        why = f"the database is fenced, by run {standing.run} of {standing.actor}: the application cannot log in"
        return subject.missing(why, suggest_command("unfence --dry-run", environment))
    if survey.refusals:
        more = len(survey.refusals) - 1
        rest = f" (and {more} more)" if more else ""
        why = f"the application could not be kept from writing during a recovery: {survey.refusals[0].reason}{rest}"
        look = suggest_command("unfence --dry-run", environment, "each reason, with the script that takes it away")
        return subject.missing(why, look)
    return subject.ok(f"{', '.join(survey.planned)} can be kept from writing while the database is restored")
