"""What the pages call things: nothing that can be asked for, and nothing that runs, is without a name and a mark."""

from __future__ import annotations

import pytest

from backout.model.action_request import Act, ActionRequest, RequestState
from backout.model.incident.incident import RunState
from backout.model.plan import PlanKind
from backout.web.content import _REQUEST_TONES, _TONES
from backout.web.sentences import _NAMES, name_request


@pytest.mark.parametrize("act", Act)
def test_each_request_has_a_name(act: Act) -> None:
    """A page that lists one without was a mistake in backout itself."""
    assert name_request(ActionRequest(1, "key", "staging", act, "", "", "ada", 0.0)) not in ("", str(act))


def test_each_kind_and_state_has_its_own() -> None:
    """Of runs and of requests; the two kinds of runs that are called by their version stand apart."""
    assert {*_NAMES, PlanKind.GUARD, PlanKind.ROLLBACK} == {*PlanKind}
    assert {*_TONES} == {*RunState}
    assert {*_REQUEST_TONES} == {*RequestState}
