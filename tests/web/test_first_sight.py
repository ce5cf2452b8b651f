"""What somebody who saw the pages for the first time read wrongly: each says what is so."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace
from web_lab import PRODUCTION, STAGING, Permission, make_plan, open_lab

from backout.config.overlay import REQUESTER_ENV
from backout.journal.lease import Holder
from backout.journal.worker_leases import WorkerLeases
from backout.model.action_request import Act, Requester, RequestState
from backout.model.database.rescue import RescueReport, TableRescue
from backout.model.database.rescue_preview import PreviewState, RescuePreview
from backout.model.incident import record
from backout.model.incident.incident import Run, RunState
from backout.model.plan import Plan, PlanKind, Step
from backout.model.steps.rescue import DamageRecord, RescueStep
from backout.model.steps.rollback import ActivateStep, ReadBackStep
from backout.plan.rescue_notes import list_row_notes
from backout.runbook.incident.case import add_remark, open_incident
from backout.runbook.recovery.previews import record_preview
from backout.runbook.serve.action_requests import end_request, list_requests, make_request, take_request
from backout.runbook.serve.overviews import read_viewed, save_status
from backout.web.sentences import name_run, tell_switched
from backout.wiring.records import find_actor

if TYPE_CHECKING:
    from pathlib import Path

    from web_lab import Lab

    from backout.model.plan import Json

PLAN: dict[str, Json] = {"plan": {"why": "it fails", "steps": [{"title": "go back"}]}}


def answer_plan(lab: Lab, key: str, answer: dict[str, Json]) -> int:
    """Return the number of a plan that was asked for, and answered so."""
    made = make_request(lab.journal, STAGING, Act.PLAN, key=key, by=Requester("ada"), actor="ada", why="", target="")
    assert take_request(lab.journal, made, actor="a worker")
    end_request(lab.journal, made, RequestState.DONE, actor="a worker", exit_code=0, answer=answer)
    return made.id


def look(lab: Lab, path: str) -> str:
    return lab.ask("GET", path, token=lab.issue(Permission.APPROVER)).text


def test_what_is_approved_and_was_not_begun_was_not_interrupted(lab: Lab) -> None:
    run = lab.start_run(PRODUCTION)
    try:
        found = lab.journal.find(run)
        assert found is not None
        path = f"/env/{PRODUCTION}/run/{run}"
        token = lab.issue(Permission.APPROVER)
        form = {"what": "approve", "plan_hash": found.plan.hash, "why": "y"}
        sent = lab.ask("POST", f"{path}/ask", token=token, form=form, headers={"Sec-Fetch-Site": "same-origin"})
        assert sent.status == 303
        for shown in (look(lab, path), look(lab, f"/env/{PRODUCTION}")):
            assert "approved, not begun" in shown
            assert "interrupted" not in shown
    finally:
        lab.end_run(run)


def test_a_plan_is_ready_and_changes_nothing(lab: Lab) -> None:
    """It says so, above its button; once that was pressed it leads to what was asked for, and has none."""
    number = answer_plan(lab, "ready", PLAN)
    path = f"/env/{STAGING}/requests/{number}"
    shown = look(lab, path)
    assert "nothing is changed yet" in shown
    assert shown.index("nothing is changed yet") < shown.index('id="go"')
    token = lab.issue(Permission.OPERATOR)
    form = {"act": "rollback", "why": "it fails", "key": f"after-{number}"}
    headers = {"Sec-Fetch-Site": "same-origin"}
    sent = lab.ask("POST", f"/env/{STAGING}/requests", token=token, form=form, headers=headers)
    assert sent.status == 303
    shown = look(lab, path)
    assert "This plan was used" in shown
    assert sent.headers["location"] in shown
    assert 'id="go"' not in shown


def test_a_plan_of_nothing_says_so_and_shows_no_other_run(lab: Lab) -> None:
    run = lab.night.runs[STAGING]
    shown = look(
        lab,
        f"/env/{STAGING}/requests/{answer_plan(lab, 'none', {'already': True, 'live_version': 'v-7', 'run_id': run})}",
    )
    assert "There is nothing to do" in shown
    assert "v-7" in shown
    assert run not in shown


def test_a_first_glance_says_that_it_is_being_read(tmp_path: Path) -> None:
    """Where a worker guards the environment; where none does, nobody reads it."""
    old = time.time() - 3600
    with open_lab(tmp_path) as lab:
        for each in (STAGING, PRODUCTION):
            save_status(lab.journal, each, {"live_version": "v-0"}, old)
        me = Holder("here#1/one", 1, "1", "backout worker")
        leases = WorkerLeases(lab.journal._store, me, (STAGING,), group="all", actor="a worker", ttl_s=600.0)
        leases.renew()
        assert leases.take((STAGING,)) == (STAGING,)
        guarded, alone = (look(lab, f"/env/{each}") for each in (STAGING, PRODUCTION))
        assert "what is shown is old, and is being read anew" in guarded
        assert "</span> being read<" in guarded
        assert 'class="stale"' not in guarded
        assert "no worker has read it since" in alone
        assert 'class="stale"' in alone


@pytest.mark.parametrize("kind", ["incident", "run", "requests"])
def test_whoever_reads_of_an_incident_has_its_environment_read(tmp_path: Path, kind: str) -> None:
    """From there one goes on to the environment: what a worker had read before a rollback said that it is bad."""
    with open_lab(tmp_path) as lab:
        known = {"incident": lab.night.incidents, "run": lab.night.runs, "requests": lab.night.requests}[kind]
        before = read_viewed(lab.journal).get(STAGING, 0.0)
        look(lab, f"/env/{STAGING}/{kind}/{known[STAGING]}")
        assert read_viewed(lab.journal)[STAGING] > before


def test_a_title_begins_with_a_capital_letter(lab: Lab) -> None:
    """Wherever a page shows it as one; what was typed stays as it was in the journal, and for programs."""
    incident = f"/env/{STAGING}/incident/{lab.night.incidents[STAGING]}"
    for path in (incident, f"/env/{STAGING}", f"/env/{STAGING}/requests/{lab.night.requests[STAGING]}", "/"):
        shown = look(lab, path)
        assert "Checkout fails<" in shown, path
        assert ">checkout fails<" not in shown, path
    assert "<title>Checkout fails ·" in look(lab, incident)
    path = f"/api/v1/environments/{STAGING}/incidents/{lab.night.incidents[STAGING]}"
    assert lab.ask("GET", path, token=lab.issue(Permission.VIEWER)).json["title"] == "checkout fails"


def test_a_hold_is_seen_where_the_notice_leads(lab: Lab) -> None:
    status = {"live_version": "v-0", "hold": {"why": "we repair"}}
    save_status(lab.journal, STAGING, status, time.time())
    shown = look(lab, f"/env/{STAGING}/incident/{lab.night.incidents[STAGING]}")
    assert "we repair" in shown
    assert "Lift the hold…" in shown
    assert "Stop the robot" not in shown
    for path in ("/", f"/env/{STAGING}"):
        listed = look(lab, path)
        assert "Held: we repair" in listed
        assert "</span> held" in listed
    save_status(lab.journal, STAGING, {"live_version": "v-0", "troubles": ["checkout fails"]}, time.time())


def test_a_request_leads_back_to_the_incident_it_was_asked_for_in(lab: Lab) -> None:
    """The one of its run, and without a run the one that was open then; none where there was none."""
    night = lab.night
    link = f'href="/env/{STAGING}/incident/{{}}"'
    shown = look(lab, f"/env/{STAGING}/requests/{night.requests[STAGING]}")
    assert link.format(night.incidents[STAGING]) in shown
    records = lab.site.open_records(STAGING, "bob@host")
    newer = open_incident(records, "the queue stands still", None)
    (incident,) = (each for each in records.list_records() if each.id == newer)
    number = answer_plan(lab, "within", PLAN)
    assert link.format(newer) in look(lab, f"/env/{STAGING}/requests/{number}")
    hold = make_request(lab.journal, STAGING, Act.HOLD, key="h", by=Requester("ada"), actor="ada", why="x", target="")
    assert link.format(newer) not in look(lab, f"/env/{STAGING}/requests/{hold.id}"), "a hold is about no incident"
    add_remark(records, incident, record.RESOLVED, "")
    number = answer_plan(lab, "after", PLAN)
    after = look(lab, f"/env/{STAGING}/requests/{number}")
    assert link.format(newer) not in after
    assert link.format(night.incidents[STAGING]) in after


def test_who_asked_on_a_page_is_named_and_not_the_worker(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    me = find_actor()
    monkeypatch.setenv(REQUESTER_ENV, "grace\x1b[31m")  # as a worker's command has it
    assert find_actor() == f"grace?[31m (by {me})"
    monkeypatch.setenv(REQUESTER_ENV, "grace")
    run = lab.journal.submit(make_plan(STAGING, why="grace's"), actor=find_actor(), reason="so")
    try:
        assert "Asked for by grace." in look(lab, f"/env/{STAGING}/run/{run}")
    finally:
        lab.end_run(run)


def test_a_rollback_is_asked_for_by_one_button_which_shows_its_plan_first(lab: Lab) -> None:
    """The plan has the form of the rollback, and one for another version."""
    for path in (f"/env/{STAGING}", f"/env/{STAGING}/incident/{lab.night.incidents[STAGING]}"):
        assert 'name="act" value="plan">Roll back…</button>' in look(lab, path)
    number = answer_plan(lab, "direct", PLAN)
    shown = look(lab, f"/env/{STAGING}/requests/{number}")
    places = [shown.index(each) for each in (f"<h2>Roll back {STAGING}", "Its steps", "Go back to another version")]
    assert places == sorted(places)


def test_a_rollback_under_way_says_as_soon_as_its_version_is_live() -> None:
    steps = (
        ActivateStep(version="11883fa6-1", leaving="b", expected="d", message=""),
        ReadBackStep(version="11883fa6-1"),
    )
    plan = Plan(PlanKind.ROLLBACK, STAGING, "", tuple(Step.of(each.action, each) for each in steps))
    run = Run("rollback-1", STAGING, plan, RunState.RUNNING, 0.0, None, steps_done=1)
    assert tell_switched(run) == ""
    assert tell_switched(replace(run, steps_done=2)).startswith("Version 11883fa6 is live, as read back.")


def test_a_plan_whose_version_is_live_by_now_has_no_button(lab: Lab) -> None:
    answer: dict[str, Json] = {"plan": {"why": "it fails", "steps": [{"title": "go back"}]}, "target": "v-9"}
    number = answer_plan(lab, "overtaken", answer)
    path = f"/env/{STAGING}/requests/{number}"
    for live, has_button in (("v-8", True), ("v-9", False)):
        save_status(lab.journal, STAGING, {"live_version": live}, time.time())
        shown = look(lab, path)
        assert ('id="go"' in shown, "nothing to do any more" in shown) == (has_button, not has_button)


def test_a_run_that_was_given_up_says_by_whom_why_and_that_it_changed_nothing(lab: Lab) -> None:
    run = lab.start_run(PRODUCTION)
    lab.journal.ask(run, "abort", actor="eve (by backout serve, root@vm)", reason="writes <0> rows")
    said = "Given up by eve: none of its steps had begun, so it changed nothing. Why: writes &lt;0&gt; rows."
    assert said in look(lab, f"/env/{PRODUCTION}/run/{run}")


@pytest.mark.parametrize("conflicts", ["live", "side", "new-keys"])
def test_whoever_approves_a_rescue_reads_what_becomes_of_newer_rows(lab: Lab, conflicts: str) -> None:
    """Counted or not: that they are overwritten is what decides."""
    damage = DamageRecord(xids=(7,), written=(), conflicts=conflicts)
    step = RescueStep(before="b", after="a", database="shop", damage=damage, mark=conflicts)
    steps = (Step.of("copy rows", step), *make_plan(PRODUCTION).steps)
    newer, found_later = list_row_notes(conflicts)
    plan = Plan(PlanKind.ROLLBACK, PRODUCTION, f"the rows, {conflicts}", steps, (newer, found_later))
    run = lab.start_run(PRODUCTION, plan)
    try:
        record_preview(
            lab.journal, PRODUCTION,
            RescuePreview(run, PreviewState.COUNTED, time.time(), RescueReport((), ())), actor="ada",
        )  # fmt: skip
        panel = look(lab, f"/env/{PRODUCTION}/run/{run}").partition('id="asks"')[2].partition("</form>")[0]
        assert (newer[1:] in panel, found_later[1:] in panel) == (True, False)
    finally:
        lab.end_run(run)


def test_whoever_approves_a_rescue_sees_the_rows_that_it_would_write(lab: Lab) -> None:
    damage = DamageRecord(xids=(7,), written=())
    step = RescueStep(before="b", after="a", database="shop", damage=damage, mark="m")
    steps = (Step.of("copy rows", step), *make_plan(PRODUCTION).steps)
    plan = Plan(PlanKind.ROLLBACK, PRODUCTION, "the rows that transaction 7 damaged", steps)
    run = lab.start_run(PRODUCTION, plan)
    path, actor = f"/env/{PRODUCTION}/run/{run}", "ada"
    table = TableRescue("public.orders", ("email",), updated=1200, conflicts=2, examples=("7", "9"))
    try:
        assert "it would set" not in look(lab, path)
        for state, report, why, words in (
            (PreviewState.BEGAN, None, "", "The counting of the rows that it would write began"),
            (PreviewState.FAILED, None, "<the disk> is full", "is not known beforehand: &lt;the disk&gt; is full."),
            (PreviewState.COUNTED, RescueReport((), (table,)), "", "<code>public.orders</code></td><td>1,200</td>"),
        ):
            preview = RescuePreview(run, state, time.time(), report, why)
            record_preview(lab.journal, PRODUCTION, preview, actor=actor)
            assert words in look(lab, path)
        assert "In public.orders (email) it would set 1,200 rows back as before the damage" in look(lab, path)
        assert "public.orders: 2 rows stay, as others have changed them since: key 7, 9" in look(lab, path)
    finally:
        lab.end_run(run)


def test_an_address_that_is_too_old_offers_no_button(lab: Lab) -> None:
    shown = lab.ask("GET", "/login?offer=bko_of_yesterday").text
    assert "too old" in shown
    assert "Log in here" not in shown
    assert f"backout serve login --role approver --name YOU --url http://127.0.0.1:{lab.port}" in shown


def test_an_error_leads_back_and_keeps_the_login(lab: Lab) -> None:
    """And who is not logged in any more is told how what was typed is not lost."""
    path = f"/env/{STAGING}/incident/{lab.night.incidents[STAGING]}/remarks"
    headers = {"Sec-Fetch-Site": "same-origin"}
    token = lab.issue(Permission.OPERATOR, name="lin")
    shown = lab.ask("POST", path, token=token, form={"kind": "note", "text": ""}, headers=headers)
    assert shown.status == 404
    assert f'href="/env/{STAGING}"' in shown.text
    assert "lin, operator" in shown.text
    lost = lab.ask("POST", path, form={"kind": "note", "text": "long"}, headers=headers)
    assert lost.status == 401
    assert "Nothing was sent" in lost.text
    assert "Log in" in lost.text


def test_the_charts_know_which_version_the_run_is_about(lab: Lab) -> None:
    """By it one is red, and no other ever is."""
    path = f"/api/v1/environments/{STAGING}/runs/{lab.night.runs[STAGING]}/series"
    assert lab.ask("GET", path, token=lab.issue(Permission.VIEWER)).json["blamed"] == "v-1"


def test_a_rollback_that_a_person_asked_for_has_its_charts(lab: Lab) -> None:
    """With what was done as a mark."""
    run = lab.night.runs[STAGING]
    assert f"/runs/{run}/series" in look(lab, f"/env/{STAGING}/run/{run}")
    path = f"/api/v1/environments/{STAGING}/runs/{run}/series"
    found = lab.ask("GET", path, token=lab.issue(Permission.VIEWER)).json
    assert "rolled back" in [each["text"] for each in found["marks"]]


def test_approving_and_going_on_is_one_form(lab: Lab) -> None:
    """The name is asked for before anything is approved; then one request to go on, however often it is sent."""
    run = lab.start_run(PRODUCTION)
    try:
        found = lab.journal.find(run)
        assert found is not None
        path, token = f"/env/{PRODUCTION}/run/{run}/ask", lab.issue(Permission.APPROVER)
        form = {"what": "approve", "plan_hash": found.plan.hash, "why": "y", "go_on": "yes", "key": "both"}
        headers = {"Sec-Fetch-Site": "same-origin"}
        refused = lab.ask("POST", path, token=token, form=form, headers=headers)
        assert refused.status == 409
        assert "type production to confirm" in refused.text
        still = lab.journal.find(run)
        assert still is not None
        assert still.approval is None
        sent = [
            lab.ask("POST", path, token=token, form={**form, "confirm": PRODUCTION}, headers=headers) for _ in range(2)
        ]
        assert [each.status for each in sent] == [303, 303]
        assert len({each.headers["location"] for each in sent}) == 1
        approved = lab.journal.find(run)
        assert approved is not None
        assert approved.approval is not None
        (asked,) = [each for each in list_requests(lab.journal, PRODUCTION) if each.target == run]
        assert (asked.act, sent[0].headers["location"]) == (Act.RESUME, f"/env/{PRODUCTION}/requests/{asked.id}")
    finally:
        lab.end_run(run)


def test_a_plan_that_is_ready_is_not_called_done(lab: Lab) -> None:
    """Who reads `done` above a plan takes the rollback for made; a plan that was used says nothing of the future."""
    number = answer_plan(lab, "not done", PLAN)
    path = f"/env/{STAGING}/requests/{number}"
    assert "plan ready" in look(lab, path)
    assert "</span> done<" not in look(lab, path)
    form = {"act": "rollback", "why": "it fails", "key": f"after-{number}"}
    token, headers = lab.issue(Permission.OPERATOR), {"Sec-Fetch-Site": "same-origin"}
    assert lab.ask("POST", f"/env/{STAGING}/requests", token=token, form=form, headers=headers).status == 303
    shown = look(lab, path)
    assert "plan used" in shown
    assert "nothing is changed yet" not in shown
    assert "is done" not in shown  # it was asked for, and may have failed


HELD: dict[str, Any] = {"held": True, "until": "2026-11-25T12:00:00Z", "everywhere": True}


@pytest.mark.parametrize(
    ("act", "answer", "words"),
    [
        (Act.HOLD, HELD, "Held on every machine until 2026-11-25 12:00 UTC"),
        (Act.HOLD, {**HELD, "everywhere": False}, "Held on the worker&#39;s machine only until"),
        (Act.UNHOLD, {"held": False, "until": None, "everywhere": True}, "The hold is lifted on every machine"),
    ],
)
def test_what_was_done_is_said_and_not_only_that(lab: Lab, act: Act, answer: dict[str, Any], words: str) -> None:
    made = make_request(lab.journal, STAGING, act, key=words, by=Requester("ada"), actor="ada", why="I look", target="")
    assert take_request(lab.journal, made, actor="a worker")
    end_request(lab.journal, made, RequestState.DONE, actor="a worker", exit_code=0, answer=answer)
    shown = look(lab, f"/env/{STAGING}/requests/{made.id}")
    assert words in shown
    assert f'href="/env/{STAGING}">How {STAGING} is now' in shown


def test_a_rollback_says_how_it_ended(lab: Lab) -> None:
    """The version, and whether it was verified: the state of the request is `done` in both cases."""
    made = make_request(
        lab.journal, STAGING, Act.ROLLBACK, key="how", by=Requester("ada"), actor="ada", why="it fails", target=""
    )
    assert take_request(lab.journal, made, actor="a worker")
    plan = replace(make_plan(STAGING), why=f"it fails (asked for by ada, request {made.id})")
    run = lab.journal.submit(plan, actor="a worker", reason="it fails")
    lab.end_run(run)
    end_request(lab.journal, made, RequestState.DONE, actor="a worker", exit_code=0, answer={})
    found = lab.journal.find(run)
    assert found is not None
    assert f"<strong>{name_run(found)}: aborted." in look(lab, f"/env/{STAGING}/requests/{made.id}")
