"""How a watch ended, for a pipeline: the word, the outputs, the page and the status, from every kind of last line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages import check

from backout.model.guard.pipeline import PipelineState
from backout.report.guard.summary import (
    Word,
    describe_ending,
    format_markdown,
    format_output,
    format_outputs,
    make_ending,
)

from workflow_runner import read_outputs

if TYPE_CHECKING:
    from backout.report.guard.summary import Ending

GOOD, BAD = "4301c1f1-a93e-46dc-a4b6-d5531f424925", "a0ec7f31-48d1-4ca3-9154-5fceec4cd883"


def told(**more: object) -> dict[str, object]:
    """Return a result line of guard."""
    decision = {"version": BAD, "requests": 1204, "errors": 22, "watched_s": 61.4}
    return {
        "type": "result", "environment": "production", "run_id": "guard-1", "verdict": "regressed",
        "reason": "22 of 1,204 requests failed", "decision": decision, "action": "hold", "why": "a hold is on",
        "mode": "act", "rule": "10 hold", "live_version": BAD, "report_path": None, "verified": None, **more,
    }  # fmt: skip


def failed(error: str, code: int, **more: object) -> dict[str, object]:
    """Return the payload of an error."""
    return {"error": error, "what": "it went wrong", "where": "production", "hint": None, "exit_code": code, **more}


def end(answer: dict[str, Any] | None, error: dict[str, Any] | None = None, code: int = 1) -> Ending:
    return make_ending(answer, error, environment="production", exit_code=code)


SWITCHED = {"action": "rollback", "state": "done", "from_version": BAD, "to_version": GOOD, "live_version": GOOD}
ENDINGS = {
    "healthy": (told(verdict="healthy", action="stable"), None, 0, Word.HEALTHY, PipelineState.SUCCESS),
    "rolled back": (told(**SWITCHED), None, 1, Word.ROLLED_BACK, PipelineState.FAILURE),
    "rolled back, not verified": (told(**SWITCHED, verified=False), None, 1, Word.ROLLED_BACK, PipelineState.FAILURE),
    "not switched": (told(**{**SWITCHED, "live_version": BAD}), None, 5, Word.ERROR, PipelineState.ERROR),
    "blocked": (told(**{**SWITCHED, "state": "blocked"}), None, 5, Word.ERROR, PipelineState.ERROR),
    "observed": (told(mode="observe", rule="9 once"), None, 1, Word.REGRESSED, PipelineState.FAILURE),
    "held": (told(), None, 1, Word.HELD, PipelineState.FAILURE),
    "healthy, not marked": (told(verdict="healthy"), None, 7, Word.HELD, PipelineState.FAILURE),
    "refused": (told(action="refused"), failed("Refused", 3), 3, Word.REFUSED, PipelineState.FAILURE),
    "void": (told(action="void"), None, 6, Word.VOID, PipelineState.INACTIVE),
    "inconclusive": (told(verdict="inconclusive"), None, 7, Word.INCONCLUSIVE, PipelineState.ERROR),
    "held for a shift": (
        told(verdict="inconclusive", rule="shift in answers", options=["intended: ..."]),
        failed("Refused", 3),
        3,
        Word.HELD,
        PipelineState.FAILURE,
    ),
    "accepted": (told(verdict="unmeasured", action="accept"), None, 0, Word.INCONCLUSIVE, PipelineState.SUCCESS),
    "nobody to ask": (None, failed("DecisionNeeded", 3), 3, Word.REFUSED, PipelineState.FAILURE),
    "nothing measured": (None, failed("ProviderUnavailable", 7), 7, Word.INCONCLUSIVE, PipelineState.ERROR),
    "moved": (None, failed("WorldMoved", 6), 6, Word.VOID, PipelineState.INACTIVE),
    "busy": (None, failed("Busy", 6), 6, Word.ERROR, PipelineState.ERROR),
    "token": (None, failed("AuthError", 4), 4, Word.ERROR, PipelineState.ERROR),
    "interrupted": (None, failed("Interrupted", 130), 130, Word.ERROR, PipelineState.ERROR),
}


OUTPUTS = {"result", "live-version", "report-path", "run-id", "guarded", "requires-counts"}


@pytest.mark.parametrize("required", [False, True])
def test_a_watch_without_counts_is_no_failure_of_the_deployment(*, required: bool) -> None:
    """Unless that is asked for; what was found, or could not be found, with a source of counts is as before."""
    answer = told(verdict="inconclusive")
    ended = make_ending(answer, None, environment="e", exit_code=7, counts=False, requires_counts=required)
    assert ended.state is (PipelineState.ERROR if required else PipelineState.SUCCESS)
    outputs = read_outputs(format_outputs(ended))
    assert (outputs["guarded"], outputs["requires-counts"]) == ("false", str(required).lower())
    assert "not guarded: there are no counts" in format_markdown(ended)
    assert "traffic.provider" in format_markdown(ended)
    assert describe_ending(ended).startswith("not guarded: ")
    for code, told_, error in (
        (7, answer, None),
        (1, told(verdict="regressed"), None),
        (4, None, failed("AuthError", 4)),
    ):
        other = make_ending(told_, error, environment="e", exit_code=code, counts=code != 7 or told_ is answer)
        assert other.guarded


@pytest.mark.parametrize(("answer", "error", "code", "word", "state"), ENDINGS.values(), ids=ENDINGS)
def test_every_end_has_its_word_and_its_state(
    answer: dict[str, Any] | None, error: dict[str, Any] | None, code: int, word: Word, state: PipelineState
) -> None:
    """And all of them have outputs, a page with the exit code, and one line."""
    ended = end(answer, error, code)
    assert (ended.word, ended.state) == (word, state)
    assert read_outputs(format_outputs(ended))["result"] == str(word)
    assert set(read_outputs(format_outputs(ended))) == OUTPUTS
    assert f"| Exit code | {code} |" in format_markdown(ended)
    assert "\n" not in describe_ending(ended)
    assert "None" not in format_markdown(ended) + format_outputs(ended) + describe_ending(ended)


def test_a_rollback_says_what_is_live_and_why() -> None:
    """Only what was read back."""
    ended = end(told(**SWITCHED, verified=True))
    assert describe_ending(ended) == "rolled back: version 4301c1f1 is live again: 22 of 1,204 requests failed"
    page = format_markdown(ended, "# Incident\n\nIt failed.\n")
    assert "| Requests | 1,204, 22 failed |" in page
    assert "| Verified after the rollback | yes |" in page
    assert "<details><summary>The incident report</summary>\n\n# Incident\n\nIt failed.\n\n</details>" in page


def test_a_refusal_says_the_rule_and_the_ways_on() -> None:
    """The options are sentences with commands; those stay readable as code."""
    options = ["roll forward: `backout guard -e production`", "an odd ` mark"]
    ended = end(told(action="refused"), failed("Refused", 3, rule="4 schema", options=options), 3)
    page = format_markdown(ended)
    assert "| Safety rule | 4 schema |" in page
    assert "- roll forward: `backout guard -e production`\n- an odd \\` mark\n" in page


def test_mistakes_of_a_configuration_are_listed() -> None:
    """All of them, as they are on the terminal."""
    page = format_markdown(
        end(None, failed("ConfigError", 78, mistakes=["backout.toml:3: a: no"], hint="correct it"), 78)
    )
    assert "- backout.toml:3: a: no\n- correct it\n" in page


def test_an_applications_words_stay_words() -> None:
    """Neither a table, a heading nor HTML is made of what a request's error said."""
    ended = end(told(reason="x | y\n# z <img src=a> `c` [l](http://x)"))
    page = format_markdown(ended)
    assert "\n# z" not in page
    assert "<img" not in page.replace("\\<img", "")
    assert "x \\| y \\# z \\<img src=a> `c` `[l](http://x):`" in page


def test_a_reason_makes_no_mention_no_picture_and_no_element() -> None:
    """Nor does it close what the page folds in, or begin a heading on a line of its own."""
    said = "</details> by @everyone, see https://e.example ![x](http://e.example/p.png) #12 www.e.example"
    for field in ("reason", "why", "rule", "run_id"):
        check(format_markdown(end(told(**{field: said}))), format_markdown(end(told(**{field: "x y"}))))


def test_a_long_report_is_cut() -> None:
    """A page may have 1 MiB."""
    assert len(format_markdown(end(told()), "x" * 2_000_000).encode()) < 1_000_000


@given(st.dictionaries(st.from_regex(r"[a-z][a-z-]{0,8}", fullmatch=True), st.text(st.characters(codec="utf-8"))))
def test_no_value_passes_for_another_name(values: dict[str, str]) -> None:
    """Whatever stands in the values, a runner reads back the same names and, blanks aside, the same values."""
    read = read_outputs("".join(format_output(name, value) for name, value in values.items()))
    assert {name: value.split() for name, value in read.items()} == {n: v.split() for n, v in values.items()}


def test_a_value_that_knows_the_mark() -> None:
    """It cannot end itself early and go on with a name of its own."""
    value = "x\nEND_0\nresult=healthy\nEND_1"
    assert read_outputs(format_output("report-path", value)) == {"report-path": value}
