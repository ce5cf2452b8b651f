"""A preflight on a terminal and on a page: the answer first, then what blocks, and nothing from outside is live."""

from __future__ import annotations

import pytest

from backout.model.checkup import Check, Checkup, must, should
from backout.model.hint import suggest_command, suggest_words
from backout.report.preflight import format_preflight, format_preflight_markdown, name_result

SIGNS = {"good": "+", "bad": "x", "warn": "!", "note": "*", "dim": "-"}
CHECKS = (
    must("token").ok("active; it does not expire"),
    should("card").missing("the card was never written", suggest_command("card --write", "production")),
    must("pin").unmeasured("not asked: there is no token", suggest_command("config check --online", "production")),
    should("contacts").not_set_up("no one is named", suggest_words("name someone")),
    must("stable_version").missing("<img src=x> | @ops", suggest_command("guard", "production", "a watch")),
    should("hold").allowed("ops: later (allowed by ops@host: a test)"),
)


def lines(*checks: Check, advice: str = "", width: int = 80) -> list[str]:
    text = format_preflight(
        Checkup("production", checks, advice), width, badge=lambda role, word: f"{SIGNS[role]} {word}".strip()
    )
    return text.splitlines()


def test_what_blocks_comes_first_and_the_rest_is_short() -> None:
    """The answer in the first line; what is not set up, and what is ok, in a line each."""
    said = lines(*CHECKS)
    assert said[0].startswith("production  x not ready: this deployment could not be taken back; missing:")
    order = [
        next(n for n, line in enumerate(said) if word in line and n > 1) for word in ("<img", "pin", "hold", "card")
    ]
    assert order == sorted(order)
    assert "→ backout guard -e production  # a watch" in "\n".join(said)
    assert "config check --online" not in "\n".join(said)  # the check that failed before it says what to do
    assert said[-3:] == [
        "  - not set up: contacts", "    → backout doctor -e production", "  + 1 ok: token",
    ]  # fmt: skip
    assert all(len(line) <= 60 for line in lines(*CHECKS, width=60))


@pytest.mark.parametrize(
    ("checks", "advice", "result", "says"),
    [
        (CHECKS[:1], "", "ready", "ready: this deployment can be taken back"),
        (CHECKS, "", "not_ready", "not ready: this deployment could not be taken back"),
        (CHECKS[:3], "", "unmeasured", "not known whether this deployment could be taken back; not measured: pin"),
        (CHECKS, "the incident rollback-1 is open", "advised", "advice only, since the incident rollback-1"),
        (CHECKS[:1], "this deployment fixes x", "ready", "ready: this deployment can be taken back"),
        ((must("objects").allowed("x"),), "", "ready", "; allowed: objects"),
    ],
)
def test_each_result_has_its_word_and_its_sentence(
    checks: tuple[Check, ...], advice: str, result: str, says: str
) -> None:
    """On the terminal and on the page."""
    found = Checkup("production", checks, advice)
    assert name_result(found) == result
    assert says in " ".join(" ".join(lines(*checks, advice=advice, width=120)).split())
    assert says.partition(";")[0] in format_preflight_markdown(found)


def test_the_page_names_the_command_and_escapes_what_comes_from_outside() -> None:
    """A table, what to type next, and the rest folded."""
    page = format_preflight_markdown(Checkup("production", CHECKS), typed=lambda line: f"{line} --config x")
    assert page.startswith("### backout preflight, production: ❌ not ready: this deployment could not be taken back\n")
    assert "| ❌ | stable version | \\<img src=x> \\| `@ops` |" in page
    assert "- stable version: `backout guard -e production --config x` (a watch)" in page
    assert "config check --online" not in page
    assert "Not set up: contacts." in page
    assert "<details><summary>1 checks are ok</summary>" in page
