"""The incident report in the runbook's template: facts filled in, the human parts visibly open; pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from backout.escaping import printable
from backout.model.verdict import CriterionState
from backout.report.diagnosis import sentences
from backout.report.times import clock, day, duration, rfc3339

if TYPE_CHECKING:
    from backout.model.diagnosis import Quote
    from backout.model.incident import Incident
    from backout.model.verdict import CriterionResult, StreamEvidence

OPEN = "> **To be filled in by a person:**"
_BOX = {
    CriterionState.PASSED: "[x]",
    CriterionState.FAILED: "[ ]",
    CriterionState.WAITING: "[ ]",
    CriterionState.UNMEASURED: "[ ]",
    CriterionState.NOT_SET_UP: "[ ]",
}


def file_name(incident: Incident) -> str:
    """Return `YYYY-MM-DD-slug.md`.

    Only letters, digits and hyphens are in the slug, so that no title can leave the folder.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", f"{incident.environment} {incident.title}".lower()).strip("-")[:60].strip("-")
    return f"{day(incident.opened_at)}-{slug}.md"


def render(incident: Incident) -> str:
    """Return the report as Markdown; the root cause starts from the diagnosis, where there is one."""
    parts = [
        f"# Incident Report: {day(incident.opened_at)} {incident.environment}: {incident.title}",
        "## Summary\n\n" + _summary(incident),
        "## Timeline\n\nTimes are UTC.\n\n" + "\n".join(f"- {clock(e.at)} - {e.text}" for e in incident.timeline),
        "## Root Cause\n\n" + _root_cause(incident),
        "## Resolution\n\n" + _resolution(incident),
        f"## Prevention\n\n{OPEN} what would have kept this from production, or made it shorter.",
        "## Action Items\n\n" + _action_items(incident),
    ]
    return printable("\n\n".join(parts)) + "\n"


def _summary(incident: Incident) -> str:
    sentences = []
    if incident.bad_version:
        sentences.append(
            f"Version `{incident.bad_version}` went live in {incident.environment} at {rfc3339(incident.opened_at)}."
        )
    if incident.decision is not None:
        sentences.append(f"{_sentence(incident.decision.reason)}")
    if incident.detected_at is not None:
        sentences.append(f"It was detected after {duration(incident.detected_at - incident.opened_at)}.")
    if incident.good_version:
        how = "was deployed in its place" if incident.forward else "was made live again"
        sentences.append(f"Version `{incident.good_version}` {how}{_after(incident)}.")
    if incident.secrets:
        sentences.append(f"Secrets were set without a rollback: {incident.secrets}.")
    if incident.bad_requests is not None:
        sentences.append(f"The bad version answered {incident.bad_requests:,} requests with an error.")
    if incident.verification is not None:
        sentences.append(_sentence(incident.verification.summary))
    held = [note for note in incident.notes if note.startswith("not acted on")]
    sentences += [_sentence(note) for note in held]
    return " ".join(sentences) or f"{OPEN} one paragraph."


def _after(incident: Incident) -> str:
    return (
        ""
        if incident.acted_at is None
        else f", {duration(incident.acted_at - incident.opened_at)} after the deployment"
    )


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _root_cause(incident: Incident) -> str:
    diagnosis = incident.diagnosis
    lines = list(sentences(diagnosis)) if diagnosis is not None else []
    if diagnosis is not None and diagnosis.evidence:
        lines.append("\nWhat the logs and the other sources say:\n")
        lines += [f"- {quote.count:,} x `{_quoted(quote.text)}`{_where(quote)}" for quote in diagnosis.evidence]
    if diagnosis is not None and diagnosis.clean:
        lines.append(f"\nLooked at and well: {'; '.join(diagnosis.clean)}.")
    if lines:
        lines.append("")
    if incident.decision is not None and incident.decision.evidence:
        lines.append("What was measured:\n")
        lines += [f"- {text}" for text in _measured(incident.decision.evidence)]
    lines.append(f"\n{OPEN} what was wrong in the code or its surroundings, and why it passed review and tests.")
    return "\n".join(lines).strip()


def _where(quote: Quote) -> str:
    """Return when a quote was seen first, and where it is from when that is not the log."""
    parts = [f"first {clock(quote.at)}"] if quote.at is not None else []
    parts += [quote.source] if quote.source != "events" else []
    return f" ({', '.join(parts)})" if parts else ""


def _quoted(text: str) -> str:
    """Return what an application wrote so that it stays one line between two backticks."""
    return " ".join(text.split()).replace("`", "'")


def _measured(evidence: tuple[StreamEvidence, ...]) -> list[str]:
    """Return what was seen; streams without an observation are left out, probes that were all well share one line."""
    seen = [item for item in evidence if item.total]
    well = [item.stream for item in seen if item.stream.startswith("health") and not item.bad]
    told = [item.sentence for item in seen if item.stream not in well]
    return [*told, f"up in all probes: {', '.join(name.removeprefix('health: ') for name in well)}"] if well else told


def _resolution(incident: Incident) -> str:
    lines = []
    if incident.good_version and incident.forward:
        lines.append(f"Rolled forward from version `{incident.bad_version}` to version `{incident.good_version}`.")
    elif incident.good_version:
        lines.append(
            f"Rolled back to version `{incident.good_version}`; version `{incident.bad_version}` is quarantined."
        )
    elif incident.secrets:
        lines.append(f"Secrets set: {incident.secrets}. The code stayed as it was.")
    else:
        lines.append("Nothing was changed by backout.")
    notes = [note for note in incident.notes if not note.startswith("not acted on")]
    lines += [""] + [f"- {note}" for note in notes] if notes else []
    if incident.verification is not None:
        lines += ["", "Success criteria:", ""] + [_criterion(c) for c in incident.verification.criteria]
    return "\n".join(lines)


def _criterion(result: CriterionResult) -> str:
    return f"- {_BOX[result.state]} {result.name}: {result.state} ({result.evidence})"


def _action_items(incident: Incident) -> str:
    items = ["Fix root cause", "Add monitoring/alerts", "Update documentation", "Add tests"]
    if incident.good_version and not incident.forward:
        release = f"backout deployments release {incident.bad_version} -e {incident.environment}"
        items.append(f"Deploy the mended version (the quarantine of the bad one ends with `{release}`)")
    return "\n".join(f"- [ ] {item}" for item in items)
