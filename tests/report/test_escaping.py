"""Text from outside on pages: whatever it says, the page is built as it was, and nothing of it comes alive."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import Page, check
from source_trees import nodes_of

from backout.escaping import (
    block,
    cell,
    code,
    escape_html,
    escape_line,
    escape_slack,
    join_parts,
    make_printable,
    md,
    prose,
)
from backout.model.conformance import Difference, Observation
from backout.model.deployment import Deployment, DeploymentId, Share
from backout.model.guard.verdict import (
    Cause,
    CriterionResult,
    CriterionState,
    Decision,
    StreamEvidence,
    Verdict,
    Verification,
)
from backout.model.incident.card import Card, CardLines
from backout.model.incident.diagnosis import Diagnosis, Quote, RollbackAdvice, Scenario
from backout.model.incident.incident import Incident, TimelineEntry
from backout.model.version import VersionId
from backout.report import conformance
from backout.report.guard.summary import Ending, Word, format_markdown
from backout.report.incident.card import format_card
from backout.report.incident.incident import render

SOURCE = Path(__file__).parents[2] / "src" / "backout"
NASTY = (
    "</details>", "<img src=x onerror=alert(1)>", "<!-- x", "-->", "![i](https://e.example/p.png)",
    "[l](http://e.example)", "[l]: http://e.example", "[l]", "<https://e.example>", "https://e.example/x?y=1",
    "www.e.example", "a@e.example", "@everyone", "@org/team", "#123", "o/r#12", "GH-12", "deadbeef" * 5,
    ":tada:", "```", "~~~", "`", "``", "|", "\\", "\\|", "*a*", "_b_", "__c__", "snake_case", "~~d~~", "$x$",
    "&lt;", "&#64;x", "#", "##", "-", "+", "1.", "1)", "=", "===", "---", "***", "> q", ">", "- [ ] t",
    "| a | b |", "|---|", ":-:", "\n", "\n\n", "\n# h", "\r\n", "    code", "\t", "[^1]", "javascript:alert(1)",
    "mailto:a", "\u001b[2J", "\u202e", "\u200b", "\u2028", "!", "![", "](", "<b>", "</p>", "&", "{}",
)  # fmt: skip
PARTS = st.lists(st.sampled_from(NASTY) | st.text(max_size=6), min_size=1, max_size=8)
HOSTILE = (PARTS.map("".join) | PARTS.map(" ".join)).filter(lambda text: prose(text) != "")


@given(HOSTILE)
@settings(max_examples=120)
def test_a_text_stays_one_text_wherever_it_stands(text: str) -> None:
    """In a paragraph, a heading, a list, a quotation, a table, in bold, beside another one; as code and as a block."""
    for template in ("{}", "# {}", "- {}", "- [ ] {}", "> {}", "a {} b {}", "**x** {}"):
        check(md(template, text, text), md(template, "x", "x"))
    table = "| a | b |\n|---|---|\n| {} | {} |\n\nafter"
    check(md(table, cell(text), cell(text)), md(table, "x", "x"))
    check(md("a {} b\n\nc", code(f"x{text}")), "a `x` b\n\nc")
    check(md("{}\n\nafter", block(f"x{text}")), "```\nx\n```\n\nafter")


@given(HOSTILE.filter(lambda text: "`" not in text))
@settings(max_examples=100)
def test_a_text_is_shown_as_it_is(text: str) -> None:
    """Apart from white space, and from what is named because nobody sees it."""
    assert Page(prose(text)).all.split() == make_printable(text).split()


@given(HOSTILE)
@settings(max_examples=25)
def test_no_page_of_ours_is_built_by_what_others_wrote(text: str) -> None:
    """The incident report, the page of a pipeline with the report in it, the card, the page of a first contact."""
    said = f"x {text}"
    for page in (incident_of, summary_of, card_of, conformance_of):
        check(page(said), page("x y"))


def incident_of(text: str) -> str:
    """Return a report that says it in every place."""
    quotes = (Quote(text, 5.0, text, 3), Quote(text, None, text, 1, text))
    evidence = (StreamEvidence(text, 1, 2, 0.1, text, 3.0, text),)
    found = Incident(
        id=text,
        environment=text,
        title=text,
        opened_at=1e9,
        detected_at=1e9 + 1,
        acted_at=1e9 + 2,
        resolved_at=None,
        bad_version=text,
        good_version=text,
        secrets=text,
        timeline=(TimelineEntry(1e9, text),),
        notes=(text, f"not acted on: {text}"),
        decision=Decision(Verdict.REGRESSED, Cause.ERRORS, 1e9, text, text, evidence, 7, 4, 6),
        diagnosis=Diagnosis(
            Scenario.RUNTIME_ERRORS, "unknown", 0.9, text, RollbackAdvice.CODE_OK, text, evidence=quotes, clean=(text,)
        ),
        verification=Verification(True, (CriterionResult(text, CriterionState.PASSED, text, 1e9),), 1.0, 2.0, text),
    )
    return render(found)


def summary_of(text: str) -> str:
    """Return the page of a pipeline."""
    ended = Ending(Word.REFUSED, text, text, 3, text, text, text, (("Rule", text), (text, text)), (text,))
    return format_markdown(ended, incident_of(text))


def card_of(text: str) -> str:
    """Return a card; its commands are ours."""
    live = Deployment(DeploymentId(text), 1e9, (Share(VersionId(text), 100.0),), message=text)
    lines = CardLines(application=text, deploy=("deploy {words}",), places=((text, text),), people=((text, text),))
    return format_card(Card(text, 1e9, live, text, text, text, lines, notes=(text,)))


def conformance_of(text: str) -> str:
    """Return the page of a first contact."""
    seen = Observation(name=text, asks=text, status=200)
    differences = [Difference(text, text, text, text, matters=matters) for matters in (True, False)]
    return conformance.format_page([seen], differences, at=1e9, against=text, proves={text: [text]})


@given(HOSTILE)
def test_other_destinations(text: str) -> None:
    """HTML has no element of it, Slack no mention and no link, a header one line; nobody misses what is not seen."""
    assert not re.search(r"[<>\"']", escape_html(text))
    assert not re.search(r"[<>]", escape_slack(text))
    assert len(escape_line(text).splitlines()) <= 1
    for made in (
        escape_html(text),
        escape_slack(text),
        escape_line(text),
        make_printable(text),
        prose(text),
        code(text),
    ):
        assert not re.search(r"[\u200b-\u200f\u202a-\u202e\u2066-\u2069\u00ad\u061c\U000e0000-\U000e007f]", made)


@pytest.mark.parametrize(
    "character",
    ["\u061c", "\u200b", "\u200f", "\u2060", "\ufeff", "\u00ad", "\U000e0041", "\ufe01", "\u3164", "\u202e"],
)
def test_what_nobody_sees_is_named(character: str) -> None:
    """On a terminal, in a table, on a page."""
    name = f"<U+{ord(character):04X}>"
    assert make_printable(f"a{character}b") == f"a{name}b"
    assert Page(prose(f"a{character}b")).all.strip() == f"a{name}b"


def test_a_selector_of_a_picture_of_ours_is_left() -> None:
    """Behind a sign that has two looks."""
    assert make_printable("↩️ x") == "↩️ x"


def test_a_runner_takes_no_line_for_a_command() -> None:
    """`::error::` and `##[group]` at the beginning of a line."""
    assert make_printable("a\n::error::x\n  ##[group]y\nb::c") == "a\n'::error::x\n  '##[group]y\nb::c"


def test_pages_are_made_of_templates_alone() -> None:
    """`md` takes a template written out, and nobody calls a text Markdown that he put together himself."""
    found = []
    for path in SOURCE.rglob("*.py"):
        if path.name == "escaping.py":
            continue
        for node in nodes_of(path):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("md", "Markdown"):
                template = node.args[0]
                built = [n for n in ast.walk(template) if isinstance(n, ast.JoinedStr | ast.BinOp | ast.Mod)]
                if built or (node.func.id == "md" and not isinstance(template, ast.Constant)):
                    found.append(f"{path.relative_to(SOURCE)}:{node.lineno}")
    assert found == []
    assert isinstance(join_parts([md("a")]), str)
