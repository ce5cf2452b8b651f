"""Action items become issues: each once, linked both ways, and found again where a crash came between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.escaping import Markdown, code, join_parts, md, prose
from backout.model.incident import record
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.model.incident.case import Case
    from backout.model.incident.record import ActionItem
    from backout.model.plan import Json
    from backout.ports import Issues
    from backout.runbook.incident.case import IncidentRecords


class Filed(Value, frozen=True):
    """An action item with the page of its issue; `is_new`: it was created now."""

    number: int
    url: str
    is_new: bool


def file_actions(records: IncidentRecords, case: Case, issues: Issues, report_url: str = "") -> Iterator[Filed]:
    """Make an issue of each action item that has none, and yield each as it is recorded.

    The text of an issue names incident and action. By that it is found again where it was created, and the journal
    could not say so any more.

    Args:
        report_url: the page of the report, "" where it has none.

    Raises:
        AuthError, ProviderRejected, ProviderUnavailable: as the port; what was made so far is recorded.
    """
    for action in case.record.actions:
        if action.url:
            continue
        mark = f"<!-- action {action.number} of incident {case.record.id} {action.nonce} -->"
        url = issues.find(mark, action.at)
        is_new = url is None
        if url is None:
            url = issues.create(records.redact(action.text), records.redact(_make_text(case, action, mark, report_url)))
        data: dict[str, Json] = {"id": case.record.id, "action": action.number, "url": url}
        records.journal.note(
            records.environment, record.FILED, f"{case.record.id}:{action.number}", data, actor=records.actor
        )
        yield Filed(action.number, url, is_new)


def _make_text(case: Case, action: ActionItem, mark: str, report_url: str) -> str:
    found = case.record
    lines = [md("{}", action.text), md("")]
    lines.append(md("- incident {} of {}: {}", code(found.id), found.environment, case.title))
    lines.append(md("- to {}", prose(action.kind)) if action.kind != "process" else md("- about the process"))
    lines += [md("- owner: {}", action.owner)] if action.owner else []
    lines += [md("- due {}", action.due)] if action.due else []
    if report_url:
        lines.append(md("- report: {}", Markdown(report_url)))
    elif case.report:
        lines.append(md("- report: {}", code(case.report.rpartition("/")[2])))
    return f"{join_parts(lines)}\n\n{mark}\n"
