"""The incident report in the runbook's template: facts filled in, the parts for people visibly left open; pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from backout.escaping import Markdown, code, join_parts, md, prose
from backout.model.guard.verdict import CriterionState
from backout.report.guard.acceptances import format_entry, make_accepted_lines
from backout.report.guard.monitoring import list_seen
from backout.report.incident.diagnosis import list_sentences
from backout.report.incident.facts import Block, format_block
from backout.report.incident.post_mortem import Around, format_help, list_blocks
from backout.report.times import format_clock, format_day, format_duration, format_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.guard.verdict import CriterionResult, StreamEvidence
    from backout.model.incident.diagnosis import Quote
    from backout.model.incident.incident import Incident

_NOTHING = Around()
OPEN = md("> **To be filled in by a person:**")
_BOX = {
    CriterionState.PASSED: "[x]",
    CriterionState.FAILED: "[ ]",
    CriterionState.WAITING: "[ ]",
    CriterionState.UNMEASURED: "[ ]",
    CriterionState.NOT_SET_UP: "[ ]",
}


def make_file_name(incident: Incident) -> str:
    """Return `YYYY-MM-DD-slug.md`.

    Only letters, digits and hyphens are in the slug, so that no title can leave the folder.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", f"{incident.environment} {incident.title}".lower()).strip("-")[:60].strip("-")
    return f"{format_day(incident.opened_at)}-{slug}.md"


def list_facts(incident: Incident, around: Around = _NOTHING) -> list[Block]:
    """Return the facts of a report, a block for each section that has some."""
    timeline = [format_entry(entry) for entry in incident.timeline]
    return [
        Block("summary", "Summary", _format_summary(incident)),
        Block("timeline", "Timeline", join_parts([md("Times are UTC."), md(""), *timeline])),
        Block("cause", "Root Cause", _add_help(_format_root_cause(incident), incident, around)),
        Block("resolution", "Resolution", _format_resolution(incident)),
        *list_blocks(incident, around),
    ]


def render(incident: Incident, facts: Sequence[Block] = ()) -> Markdown:
    """Return a new report as Markdown: the runbook's template, then the post-mortem; the parts for people are open.

    Args:
        facts: as of `list_facts`, where something was masked in them.
    """
    blocks = {block.name: Markdown(format_block(block)) for block in facts or list_facts(incident)}
    parts = [
        md("# Incident Report: {} {}: {}", format_day(incident.opened_at), incident.environment, incident.title),
        *(md("## Summary"), blocks["summary"]),
        *(md("## Timeline"), blocks["timeline"]),
        *(md("## Root Cause"), blocks["cause"]),
        md("{} what was wrong in the code or its surroundings, and why it passed review and tests.", OPEN),
        *(md("## Resolution"), blocks["resolution"]),
        md("## Prevention\n\n{} what would have kept this from production, or made it shorter.", OPEN),
        md("## Action Items\n\n{}", _format_action_items(incident)),
        *(md("## Post-mortem"), md("### Impact"), blocks["impact"]),
        *(md("### Trigger"), blocks["trigger"], md("{} what else had to be so.", OPEN)),
        *(md("### Detection"), blocks["detection"], md("{} what would have shown it sooner.", OPEN)),
        md("### What went well\n\n{} what helped.", OPEN),
        md("### What went wrong\n\n{} what cost time, or made it worse.", OPEN),
        md("### Where we were lucky\n\n{} what kept it from being worse.", OPEN),
        *(md("### Action items by kind"), blocks["actions"]),
        *(md("## People and vendors"), blocks["people"]),
        *(md("## Links"), blocks["links"]),
        md("<!-- opened {} -->", Markdown(format_time(incident.opened_at))),
    ]
    return join_parts(parts, "\n\n")


_OPENED = re.compile(r"^<!-- opened (\S+) -->$", re.MULTILINE)
_DAY = re.compile(r"^# Incident Report: (\d{4}-\d{2}-\d{2})\b")
_FIRST = re.compile(r"^- (\d{2}:\d{2}:\d{2}) - ", re.MULTILINE)


def find_opening_time(page: str) -> float | None:
    r"""Return when the incident of a report began (Unix seconds), None when its page does not say.

    In one from an earlier version it is the day in its title with the first time in its timeline.

    >>> find_opening_time("# Incident Report: 2026-11-25 production: errors\n\n- 01:27:06 - x\n- 01:28:00 - y")
    1795570026.0
    >>> find_opening_time("# Something else")
    """
    marked = _OPENED.search(page)
    day_of, first = _DAY.match(page), _FIRST.search(page)
    text = marked[1] if marked else f"{day_of[1]}T{first[1] if first else '00:00:00'}Z" if day_of else ""
    from backout.decoding import Undecodable, parse_moment

    try:
        return parse_moment(text) if text.endswith("Z") else None
    except Undecodable:
        return None


def _format_summary(incident: Incident) -> Markdown:
    sentences: list[Markdown] = []
    if incident.bad_version:
        bad, when = code(incident.bad_version), format_time(incident.opened_at)
        sentences.append(md("Version {} went live in {} at {}.", bad, incident.environment, when))
    if incident.decision is not None:
        sentences.append(prose(_make_sentence(incident.decision.reason)))
    if incident.detected_at is not None:
        sentences.append(md("It was detected after {}.", format_duration(incident.detected_at - incident.opened_at)))
    if incident.good_version:
        how = "was deployed in its place" if incident.forward else "was made live again"
        sentences.append(md("Version {} {}{}.", code(incident.good_version), Markdown(how), _describe_after(incident)))
    if incident.secrets:
        sentences.append(md("Secrets were set without a rollback: {}.", incident.secrets))
    if incident.bad_requests is not None:
        sentences.append(md("The bad version answered {} requests with an error.", f"{incident.bad_requests:,}"))
    if incident.verification is not None:
        sentences.append(prose(_make_sentence(incident.verification.summary)))
    held = [note for note in incident.notes if note.startswith("not acted on")]
    sentences += [prose(_make_sentence(note)) for note in held]
    return join_parts(sentences, " ") or prose(_make_sentence(incident.title))


def _describe_after(incident: Incident) -> Markdown:
    if incident.acted_at is None:
        return md("")
    return md(", {} after the deployment", format_duration(incident.acted_at - incident.opened_at))


def _make_sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _format_root_cause(incident: Incident) -> Markdown:
    diagnosis = incident.diagnosis
    lines = [prose(sentence) for sentence in list_sentences(diagnosis)] if diagnosis is not None else []
    if diagnosis is not None and diagnosis.evidence:
        lines.append(md("\nWhat the logs and the other sources say:\n"))
        lines += [
            md("- {} x {}{}", f"{each.count:,}", code(each.text), _describe_where(each)) for each in diagnosis.evidence
        ]
    if diagnosis is not None and diagnosis.clean:
        lines.append(md("\nChecked, no problem found: {}.", "; ".join(diagnosis.clean)))
    if lines:
        lines.append(md(""))
    if incident.decision is not None and incident.decision.shifts:
        lines.append(md("What is answered otherwise than before:\n"))
        lines += [md("- {} ({})", shift.sentence, str(shift.outcome)) for shift in incident.decision.shifts]
        lines.append(md(""))
    if incident.decision is not None and incident.decision.evidence:
        lines.append(md("What was measured:\n"))
        lines += [md("- {}", text) for text in _list_measured(incident.decision.evidence)]
    return Markdown(join_parts(lines).strip()) or md("Nothing is known of the cause.")


_SUBJECTS = {
    "database": "database",
    "storage": "objects",
    "config": "secrets",
    "build": "pipeline",
    "deploy": "pipeline",
}
"""Who helps with a service of the diagnosis; with the others, and without one, who helps with the code."""


def _add_help(cause: Markdown, incident: Incident, around: Around) -> Markdown:
    """Return the cause with who helps with it: people, and the vendor with its status page."""
    service = incident.diagnosis.service if incident.diagnosis is not None else None
    helps = format_help(around.helps, _SUBJECTS.get(service or "", "code"))
    return md("{}\n\n{}", cause, helps) if helps and (service or incident.bad_version) else cause


def _describe_where(quote: Quote) -> Markdown:
    """Return when a quote was first seen, and its source if that is not the log."""
    parts = [f"first {format_clock(quote.at)}"] if quote.at is not None else []
    parts += [quote.source] if quote.source != "events" else []
    return md(" ({})", ", ".join(parts)) if parts else md("")


def _list_measured(evidence: tuple[StreamEvidence, ...]) -> list[str]:
    """Return the observations; streams without one are left out, and probes that were all well share one line."""
    seen = [item for item in evidence if item.total]
    well = [item.stream for item in seen if item.stream.startswith("health") and not item.bad]
    told = [item.sentence for item in seen if item.stream not in well]
    return [*told, f"up in all probes: {', '.join(name.removeprefix('health: ') for name in well)}"] if well else told


def _format_resolution(incident: Incident) -> Markdown:
    bad, good = code(incident.bad_version), code(incident.good_version)
    lines: list[Markdown] = []
    if incident.good_version and incident.forward:
        lines.append(md("Rolled forward from version {} to version {}.", bad, good))
    elif incident.good_version:
        lines.append(md("Rolled back to version {}; version {} is quarantined.", good, bad))
    elif incident.secrets:
        lines.append(md("Secrets set: {}. The code stayed as it was.", incident.secrets))
    elif not incident.repairs:
        lines.append(md("Nothing was changed by backout."))
    lines += [md("Done to the data: {}.", "; ".join(incident.repairs))] if incident.repairs else []
    notes = [note for note in incident.notes if not note.startswith("not acted on")]
    lines += [md(""), *(md("- {}", note) for note in notes)] if notes else []
    if incident.verification is not None:
        lines += [md("\nSuccess criteria:\n"), *(_format_criterion(each) for each in incident.verification.criteria)]
        if incident.verification.seen is not None:
            sentences = list_seen(incident.verification.seen)
            lines += [md("\nWhat was seen afterwards:\n"), *(md("- {}", each) for each in sentences)]
    return join_parts([*lines, *make_accepted_lines(incident.accepted)])


def _format_criterion(result: CriterionResult) -> Markdown:
    box = Markdown(_BOX[result.state])
    return md("- {} {}: {} ({})", box, result.name, result.state, result.evidence)


def _format_action_items(incident: Incident) -> Markdown:
    items = ["Fix root cause", "Add monitoring/alerts", "Update documentation", "Add tests"]
    if incident.good_version and not incident.forward:
        release = f"backout deployments release {incident.bad_version} -e {incident.environment}"
        items.append(f"Deploy the fixed version (the quarantine of the bad one ends with `{release}`)")
    return join_parts([md("- [ ] {}", item) for item in items])
