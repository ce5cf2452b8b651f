"""Each kind of request has a page, and a place in the lists, whatever the answer of its command lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from web_lab import STAGING, Permission

from backout.model.action_request import Act, RequestState
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
        made = make_request(lab.journal, STAGING, act, key=key, by="ada", actor="ada (by the lab)", why="", target="")
        assert take_request(lab.journal, made, actor="a worker")
        end_request(lab.journal, made, state, actor="a worker", exit_code=0, answer=ANSWERS[answer])
        shown = lab.ask("GET", f"/env/{STAGING}/requests/{made.id}", token=token)
        assert shown.status == 200, lab.said
        assert "<b>undefined" not in shown.text
        assert "<i>stable" not in shown.text
        assert ("stable" in shown.text) is (answer == "error" and state is RequestState.FAILED)
    assert lab.ask("GET", f"/env/{STAGING}", token=token).status == 200, lab.said
