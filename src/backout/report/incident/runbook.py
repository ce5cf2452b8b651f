"""The runbook of an environment: a block of facts for each section, between what people write; pure."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Final

from backout.escaping import Markdown, block, cell, code, join_parts, md, prose
from backout.report.incident.facts import Block, format_block, merge
from backout.report.incident.incident import OPEN
from backout.report.incident.post_mortem import format_helps
from backout.report.incident.runbook_sections import SECTIONS
from backout.report.times import format_day

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backout.model.incident.runbook import RunbookFacts, RunbookSetup

_HASH: Final = re.compile(r"^(<!-- facts [a-z]+ \d+) [0-9a-f]{16} -->", re.MULTILINE)
_ASKED: Final = {
    "overview": "what the application is for, who decides in the night, and what must never happen.",
    "health": "what else each service needs, and how to see it.",
    "build": "how to build here, and what has failed before.",
    "migrations": "which migrations cannot be taken back, and why.",
    "after": "what was learned.",
}
"""What only people know, by the section that they write it into."""


def list_sections(setup: RunbookSetup, facts: RunbookFacts) -> list[Block]:
    """Return the facts of the runbook's sections, in its order."""
    made = [Block(name, title, make(setup, facts)) for name, title, make in SECTIONS]
    return [
        *made,
        Block("after", "Post-incident procedures", _format_after(setup, facts)),
        Block("contacts", "Emergency contacts", format_helps(setup.helps)),
        Block("resources", "Additional resources", _format_resources(setup)),
    ]


def render_runbook(setup: RunbookSetup, blocks: Sequence[Block]) -> Markdown:
    """Return a new page: the facts between their markers, and what is left to people."""
    parts = [
        md("# Rollback and recovery: {}, {}", setup.application, setup.environment),
        prose(
            "The facts between the markers are backout's: `backout runbook --write` renews them, and leaves everything "
            "else on this page as it is. Write around them."
        ),
    ]
    for each in blocks:
        parts += [md("## {}", each.title), Markdown(format_block(each))]
        parts += [md("{} {}", OPEN, _ASKED[each.name])] if each.name in _ASKED else []
    return md("{}\n", join_parts(parts, "\n\n"))


def list_stale(page: str, blocks: Sequence[Block]) -> list[str]:
    """Return the titles of the sections whose facts are other ones now."""
    return [each.title for each in blocks if merge(page, [each]) != page]


def compare_pages(before: str, after: str, name: str) -> str:
    """Return the paragraphs that change as a unified diff; the hashes of markers, which say nothing, are left out."""
    old, new = (_HASH.sub(r"\1 -->", page).splitlines() for page in (before, after))
    return "\n".join(difflib.unified_diff(old, new, f"{name} (as it is)", f"{name} (as of now)", n=2, lineterm=""))


def _format_after(setup: RunbookSetup, facts: RunbookFacts) -> Markdown:
    environment = setup.environment
    lines = (
        f"backout incident show -e {environment}     # timeline, impact, who was told",
        f"backout incident report -e {environment}   # the report; `--commit` commits it",
        f"backout incident action -m WHAT --kind prevent -e {environment}",
        f"backout runbook --check -e {environment}   # what of this page is no longer so",
    )
    parts = [block("\n".join(lines), "sh"), *_list_newest(setup, facts)]
    if facts.actions:
        parts.append(md("Action items of the newest incidents:"))
        parts.append(join_parts([*_list_actions(facts)]))
    return join_parts(parts, "\n\n")


def _list_newest(setup: RunbookSetup, facts: RunbookFacts) -> Iterator[Markdown]:
    newest = facts.incidents.get("after")
    if newest is None:
        yield md("No incident is known.")
        return
    where = f"{setup.reports}/{newest.report}" if newest.report else ""
    report = md(", [its report]({})", Markdown(where)) if where else md("")
    yield md("The newest incident: {}, {} ({}){}.", code(newest.id), newest.title, f"{format_day(newest.at)}", report)


def _list_actions(facts: RunbookFacts) -> Iterator[Markdown]:
    for each in facts.actions:
        link = md(" [issue]({})", Markdown(each.url)) if each.url else md("")
        more = ", ".join(part for part in (each.kind, each.owner, each.due) if part)
        yield md("- {} ({}){}", each.text, more, link)


def _format_resources(setup: RunbookSetup) -> Markdown:
    links = [md("- [{}]({})", cell(title), Markdown(path)) for title, path in setup.resources]
    return join_parts(links) or md("No file of the project was found.")
