"""One request as the pages list it: its name and state, what was made of its plan, and what the plan leads to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.model.action_request import Act, RequestState
from backout.runbook.serve.action_requests import describe_state
from backout.runbook.serve.overviews import read_kept_status
from backout.web.cards import get_table
from backout.web.sentences import name_request

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from backout.model.action_request import ActionRequest
    from backout.model.plan import Json
    from backout.wiring.serve import Site

_REQUEST_TONES: Final = {
    RequestState.WAITING: "note",
    RequestState.TAKEN: "note",
    RequestState.DONE: "good",
    RequestState.FAILED: "bad",
    RequestState.EXPIRED: "warn",
    RequestState.LOST: "warn",
}


def make_request_row(request: ActionRequest, now: float, known: Sequence[ActionRequest]) -> dict[str, object]:
    """Return one request of a list, how it stands and what was made of it.

    Args:
        known: all requests of the environment.
    """
    state, used = describe_state(request, now), _find_use(known, request)
    is_plan = request.act is Act.PLAN and state is RequestState.DONE  # a plan that is done has done nothing
    word, tone = (str(state), _REQUEST_TONES[state])
    if is_plan:
        word, tone = ("plan ready", "note") if used is None else ("plan used", "dim")
        word, tone = ("nothing to do", "dim") if request.answer.get("already") is True else (word, tone)
    return {"request": request, "name": name_request(request), "state": state, "word": word, "tone": tone, "used": used}


def _find_use(known: Iterable[ActionRequest], plan: ActionRequest) -> ActionRequest | None:
    """Return the rollback that was asked for by the form below a plan, None: nobody has pressed its button."""
    end = f'"{make_use_key(plan.id)}"]'  # the key of a form is kept with whose it is, see `record_request`
    asked = (each for each in known if each.act is Act.ROLLBACK and each.id > plan.id)
    return next((each for each in asked if plan.act is Act.PLAN and each.key.endswith(end)), None)


def make_use_key(plan: int) -> str:
    """Return the key of a rollback that the form below a plan asks for, by the plan's number: once."""
    return f"after-{plan}"


def find_overtaken(site: Site, request: ActionRequest, target: str) -> float | None:
    """Return when it was read that a plan's version is live already, after the plan was made; None: it was not."""
    if request.act is not Act.PLAN or request.ended_at is None or not target:
        return None
    kept = read_kept_status(site.journal, request.environment)
    if kept is None or kept.read_at < request.ended_at or kept.record.get("live_version") != target:
        return None
    return kept.read_at


def find_target(answer: Mapping[str, Json]) -> str:
    """Return the version that a plan of a rollback makes live, "" where it names none."""
    steps = get_table(answer.get("plan")).get("steps")
    for step in reversed(steps if isinstance(steps, list) else []):
        if get_table(step).get("action") == "activate":
            return str(get_table(get_table(step).get("args")).get("version") or "")
    return str(answer.get("target") or "")
