"""Each kind of request has a page, and a place in the lists, whatever the answer of its command lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace
from web_lab import STAGING, Permission, make_plan

from backout.model.action_request import Act, Requester, RequestState
from backout.runbook.serve.action_requests import end_request, make_request, take_request

if TYPE_CHECKING:
    from web_lab import Lab

ANSWERS: dict[str, dict[str, Any]] = {
    "none": {},
    "diagnosis": {"cause": "code.exception", "title": "it throws", "evidence": [{"text": "x is <b>undefined</b>"}]},
    "another version's": {"cause": {"label": "code"}, "plan": "none", "advice": 7, "options": {"a": 1}},
    "error": {"error": "Refused", "what": "no <i>stable</i> version", "options": ["roll forward"]},
    "plan": {"plan": {"why": "it fails", "steps": [{"title": "go back"}], "coverage": [{"what": "code"}]}},
}


@pytest.mark.parametrize("answer", list(ANSWERS))
@pytest.mark.parametrize("act", list(Act))
def test_every_request_is_shown_whatever_was_answered(lab: Lab, act: Act, answer: str) -> None:
    """Done and failed: text is shown as text, and what is not known is left out."""
    token = lab.issue(Permission.VIEWER)
    for state in (RequestState.DONE, RequestState.FAILED):
        key = f"{act} {answer} {state}"
        made = make_request(
            lab.journal, STAGING, act, key=key, by=Requester("ada"), actor="ada (by the lab)", why="", target=""
        )
        assert take_request(lab.journal, made, actor="a worker")
        end_request(lab.journal, made, state, actor="a worker", exit_code=0, answer=ANSWERS[answer])
        shown = lab.ask("GET", f"/env/{STAGING}/requests/{made.id}", token=token)
        assert shown.status == 200, lab.said
        assert "<b>undefined" not in shown.text
        assert "<i>stable" not in shown.text
        assert " 0 % sure" not in shown.text
        assert ("stable" in shown.text) is (answer == "error" and state is RequestState.FAILED)
    assert lab.ask("GET", f"/env/{STAGING}", token=token).status == 200, lab.said


@pytest.mark.parametrize("is_its_own", [True, False])
def test_a_run_that_somebody_else_began_is_not_taken_for_the_requests(lab: Lab, *, is_its_own: bool) -> None:
    """While a worker is at it, and after: the run says in its reason by which request it was asked for."""
    key = f"a rollback {is_its_own}"
    made = make_request(
        lab.journal, STAGING, Act.ROLLBACK, key=key, by=Requester("ada"), actor="ada", why="it fails", target=""
    )
    assert take_request(lab.journal, made, actor="a worker")
    words = f"(asked for by ada, request {made.id})"
    plan = make_plan(STAGING, why=f"it fails {words if is_its_own else '(typed by bob)'}")
    plan = replace(plan, why=plan.why.partition(": ")[2])
    run = lab.journal.submit(plan, actor="a worker", reason="it fails")
    try:
        shown = lab.ask("GET", f"/env/{STAGING}/requests/{made.id}", token=lab.issue(Permission.VIEWER))
        assert (run in shown.text) is is_its_own, shown.text
    finally:
        lab.end_run(run)
