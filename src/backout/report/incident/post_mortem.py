"""The second part of an incident's report: impact, trigger, detection, actions, people and vendors, links; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.escaping import Markdown, cell, code, join_parts, md, prose
from backout.model.drill import DrillEnd
from backout.model.value import Value
from backout.report.incident.case import list_impact
from backout.report.incident.facts import Block
from backout.report.times import format_clock, format_day, format_duration

if TYPE_CHECKING:
    from backout.model.drill import DrillRecord
    from backout.model.incident.contact import Help
    from backout.model.incident.impact import Impact
    from backout.model.incident.incident import Incident
    from backout.model.incident.record import ActionItem
    from backout.model.incident.vendor import VendorIncident

_KINDS = ("prevent", "detect", "mitigate", "process")


class Around(Value, frozen=True):
    """What a report says beside what the runs tell.

    Args:
        impact: None where it was not measured.
        actions: what people wrote down to be done.
        helps: who helps with which subject.
        vendors: unresolved incidents of vendors at the time of writing, None where no status page was asked.
        runs: ids.
        commit_url: how a commit's page is found, with `{}` for its hash; "" unknown.
        commits: (version, commit).
        drills: the newest ones, from before it, of what it was about.
        picture: file name of the picture beside the report, "" for none; `picture_text` says what it shows.
    """

    impact: Impact | None = None
    actions: tuple[ActionItem, ...] = ()
    helps: tuple[Help, ...] = ()
    vendors: tuple[VendorIncident, ...] | None = None
    runs: tuple[str, ...] = ()
    commit_url: str = ""
    commits: tuple[tuple[str, str], ...] = ()
    drills: tuple[DrillRecord, ...] = ()
    picture: str = ""
    picture_text: str = ""


def list_blocks(incident: Incident, around: Around) -> list[Block]:
    """Return the facts of the post-mortem's sections."""
    return [
        Block("impact", "Impact", _format_impact(around)),
        Block("trigger", "Trigger", _format_trigger(incident, around)),
        Block("detection", "Detection", _format_detection(incident)),
        Block("actions", "Action items", _format_actions(around)),
        Block("people", "People and vendors", _format_people(around)),
        Block("links", "Links", _format_links(incident, around)),
    ]


def _format_impact(around: Around) -> Markdown:
    lines = [md("- {}", line) for line in list_impact(around.impact)] if around.impact is not None else []
    lines = lines or [md("Not measured.")]
    if around.picture:
        lines += [md(""), md("![{}]({})", Markdown(_make_alternative(around.picture_text)), Markdown(around.picture))]
    return join_parts(lines)


def _make_alternative(text: str) -> str:
    """Return a text for the alternative of a picture, in which nothing ends it."""
    return prose(text).replace("]", "").replace("[", "").replace("\\", "")


def _format_trigger(incident: Incident, around: Around) -> Markdown:
    if not incident.bad_version:
        return md("No deployment is known that began it.")
    commit = next((commit for version, commit in around.commits if version == incident.bad_version), "")
    of = md(", commit {}", code(commit[:12])) if commit else md("")
    return md("The deployment of version {}{} at {}.", code(incident.bad_version), of, format_clock(incident.opened_at))


def _format_detection(incident: Incident) -> Markdown:
    decision = incident.decision
    if decision is None and incident.detected_at is None:
        return md("By a person: no watch found it.")
    at = incident.detected_at if incident.detected_at is not None else decision.at if decision is not None else 0.0
    sentences = [md("Guard found it after {}.", format_duration(max(0.0, at - incident.opened_at)))]
    if decision is not None and decision.first_bad_at is not None:
        after = format_duration(max(0.0, at - max(incident.opened_at, decision.first_bad_at)))
        sentences.append(md("That is {} after the first bad request or probe.", after))
    return join_parts(sentences, " ")


def _format_actions(around: Around) -> Markdown:
    if not around.actions:
        return md("None was written down with `backout incident action`.")
    lines = [md("| | what | owner | due | issue |\n|---|---|---|---|---|")]
    for kind in _KINDS:
        for each in (action for action in around.actions if action.kind == kind):
            issue = md("[issue]({})", Markdown(each.url)) if each.url else md("")
            row = [cell(f"{each.kind} {each.number}"), cell(each.text), cell(each.owner), cell(each.due), issue]
            lines.append(md("| {} |", join_parts(row, " | ")))
    return join_parts(lines)


def format_helps(helps: tuple[Help, ...]) -> Markdown:
    """Return who helps with each subject, the vendors with their links."""
    if not helps:
        return md("No contacts are set up (`[contacts]` of backout.toml).")
    rows = [md("| {} | {} | {} |", each.subject, format_vendor(each), cell(name_people(each))) for each in helps]
    return join_parts([md("| for | vendor | contacts |\n|---|---|---|"), *rows])


def format_vendor(each: Help) -> Markdown:
    """Return the vendor of a subject with its links, "" for none."""
    links = [md("[{}]({})", what, Markdown(url)) for what, url in each.links]
    return join_parts([cell(each.vendor), *links], " ") if each.vendor else md("")


def format_help(helps: tuple[Help, ...], subject: str) -> Markdown:
    """Return who helps with a subject, "" where nobody is named."""
    found = next((each for each in helps if each.subject == subject), None)
    if found is None or not (found.vendor or found.contacts):
        return md("")
    people = name_people(found)
    parts = [format_vendor(found), *([md("{}", people)] if people else [])]
    return md("Who helps ({}): {}", subject, join_parts([part for part in parts if part], "; "))


def name_people(each: Help) -> str:
    """Return the contacts for a subject, and how to reach them."""
    people = (f"{person.label}: {person.reach}" if person.reach else person.label for person in each.contacts)
    return "; ".join(people)


def _format_people(around: Around) -> Markdown:
    lines = [format_helps(around.helps)]
    if not around.helps:
        return lines[0]
    if around.vendors is None:
        lines += [md(""), md("No vendor's status page was asked.")]
    elif not around.vendors:
        lines += [md(""), md("No vendor's status page showed an incident when this was written.")]
    for incident in around.vendors or ():
        since = format_clock(incident.started_at)
        lines += [md(""), md("{}: {} ({}), since {}.", incident.vendor, incident.title, incident.impact, since)]
    return join_parts(lines)


def _format_links(incident: Incident, around: Around) -> Markdown:
    lines = [md("- run {}: {}", code(run), code(f"backout runs show {run}")) for run in around.runs]
    for what, version in (("bad", incident.bad_version), ("good", incident.good_version)):
        if version:
            shown = code(f"backout deployments show {version} -e {incident.environment}")
            lines.append(md("- {} version {}: {}", what, code(version), shown))
    for version, commit in around.commits:
        link = (
            md("[{}]({})", code(commit[:12]), Markdown(around.commit_url.format(commit)))
            if around.commit_url
            else code(commit)
        )
        lines.append(md("- commit of version {}: {}", code(version[:8]), link))
    lines += [md("- last practised: {}", _describe_drill(each)) for each in around.drills]
    if not around.drills:
        lines.append(md("- last practised: no drill of it was recorded before (`backout drill list`)"))
    return join_parts(lines)


def _describe_drill(drill: DrillRecord) -> Markdown:
    ended = "passed" if drill.end is DrillEnd.PASSED else "missed what was expected"
    return md("drill {}, {}, {} ({})", code(drill.name), format_day(drill.at), ended, code("backout drill history"))
