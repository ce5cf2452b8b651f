"""The incident report tells what the journal holds, in the runbook's template, and leaves the human parts open."""

from __future__ import annotations

import msgspec
from pages import check
from values import replace

from backout.model.guard.policy import Mode
from backout.model.guard.verdict import (
    Cause,
    CriterionResult,
    CriterionState,
    Decision,
    StreamEvidence,
    Verdict,
    Verification,
)
from backout.model.incident.diagnosis import Diagnosis, Quote, RollbackAdvice, Scenario
from backout.model.incident.incident import Event, Run, RunState
from backout.model.plan import Equivalents, Json, Plan, PlanKind, Step
from backout.plan.guard import plan_guard
from backout.plan.rollback import Request, plan_rollback
from backout.report.incident.incident import OPEN, make_file_name, render
from backout.report.incident.timeline import tell
from backout.report.plans import format_plan, format_verification

from situations import deployment, situation, stable, version

T = 1_795_600_800.0  # 2026-11-25T10:00:00Z
GOOD, BAD = version("aaaa1111-good", T - 3600), version("bbbb2222-bad", T)
SIGHT = situation(
    (GOOD, BAD),
    (deployment("d1", T - 3600, (GOOD.id, 100)), deployment("d2", T, (BAD.id, 100))),
    marks=(stable(GOOD.id, T - 1800, code=GOOD.code_hash),),
    now=T + 1,
)
EVIDENCE = StreamEvidence(
    "errors", 61, 412, 0.002, "the hour before", 8.6, "61 of 412 requests failed against 0.2 % before"
)
DECISION = Decision(
    Verdict.REGRESSED,
    Cause.ERRORS,
    T + 7,
    BAD.id,
    "61 of 412 requests failed against 0.2 % before",
    (EVIDENCE,),
    7,
    412,
    61,
)
VERIFIED = Verification(
    verified=True,
    criteria=(
        CriterionResult("health check returns 200", CriterionState.PASSED, "3 of 3 probes", T + 11),
        CriterionResult("email operational or degraded", CriterionState.NOT_SET_UP, "no email service is configured"),
    ),
    started_at=T + 9,
    ended_at=T + 20,
    summary="every criterion that could be measured is met",
)


DIAGNOSIS = Diagnosis(
    Scenario.RUNTIME_ERRORS,
    "worker_script_error",
    0.97,
    "worker",
    RollbackAdvice.CODE_OK,
    "The code throws",
    is_new=True,
    novelty="never before",
    evidence=(
        Quote("TypeError: x is undefined", T + 2, BAD.id, 61),
        Quote("email is degraded (may degrade)", None, "", 1, "health"),
    ),
    clean=("migrations: none failed",),
)


def rollback_plan() -> Plan:
    request = Request(message="guard: it fails", cause="guard-1", detected=DECISION.reason, detected_at=T + 7)
    plan = plan_rollback(SIGHT, request, Equivalents("wrangler rollback {version} --message {message}"))
    assert isinstance(plan, Plan)
    return plan


def runs() -> tuple[Run, Run]:
    watch = plan_guard(SIGHT, mode=Mode.ACT, for_s=900)
    return (
        Run("guard-1", "production", watch, RunState.DONE, T + 1, T + 8, 2),
        Run("rollback-1", "production", rollback_plan(), RunState.RUNNING, T + 8, None, 4),
    )


def events() -> list[Event]:
    def event(number: int, at: float, run: str, step: int | None, kind: str, **data: Json) -> Event:
        return Event(number, T + at, "production", run, step, kind, data, "ops@host")

    return [
        event(1, 1, "guard-1", None, "run.submitted"),
        event(2, 1, "guard-1", 0, "step.start", attempt=1),
        event(3, 7, "guard-1", 0, "step.progress", verdict="regressed", reason=DECISION.reason),
        event(
            4, 7, "guard-1", 0, "step.ok", result={"verdict": "regressed", "decision": msgspec.to_builtins(DECISION)}
        ),
        event(5, 7, "guard-1", 1, "step.progress", diagnosis=msgspec.to_builtins(DIAGNOSIS)),
        event(5, 8, "rollback-1", None, "run.submitted"),
        event(6, 8, "rollback-1", 1, "step.start", attempt=2),
        event(7, 8.5, "rollback-1", 1, "step.ok", result={"deployment": "d3", "version": GOOD.id, "at": T + 8.4}),
        event(8, 9, "rollback-1", 2, "step.ok", result={"version": GOOD.id, "deployment": "d3"}),
        event(9, 20, "rollback-1", 4, "step.ok", result=msgspec.to_builtins(VERIFIED)),
    ]


def test_report_has_the_runbooks_sections_in_order_with_the_facts() -> None:
    """Every section of the template is there, in order, and the times are the journal's."""
    incident = tell(runs(), events())
    assert incident.diagnosis == DIAGNOSIS
    text = render(incident)
    sections = [line for line in text.splitlines() if line.startswith("#")]
    assert [s.strip("# ") for s in sections[1:]] == [
        "Summary", "Timeline", "Root Cause", "Resolution", "Prevention", "Action Items",
        "Post-mortem", "Impact", "Trigger", "Detection", "What went well", "What went wrong", "Where we were lucky",
        "Action items by kind", "People and vendors", "Links",
    ]  # fmt: skip
    assert sections[0].startswith("# Incident Report: 2026-11-25 production")
    for line in (
        f"- 10:00:00 - Deployment initiated: version {BAD.id} went live",
        "- 10:00:07 - Issue detected: 61 of 412 requests failed against 0.2 % before",
        f"- 10:00:08 - Rollback initiated to version {GOOD.id[:8]}",
        "- 10:00:20 - Service restored",
        "- 61 x `TypeError: x is undefined` (first 10:00:02)",
        "- 1 x `email is degraded (may degrade)` (health)",
        "Diagnosis: The code throws (`worker_script_error`, S3, runtime errors; 97 % sure); service: worker; ",
        "compared with the version before: never before.",
        "Checked, no problem found: migrations: none failed.",
        "[x] health check returns 200",
        "[ ] email operational or degraded: not set up",
    ):
        assert line in text, line
    assert "Resumed after an interruption" in text
    assert "It was detected after 7.0 s" in text


def test_the_human_parts_stand_visibly_open() -> None:
    """What only people know is asked for, not invented."""
    text = render(tell(runs(), events()))
    root_cause = text.split("## Root Cause")[1].split("## Resolution")[0]
    prevention = text.split("## Prevention")[1].split("## Action Items")[0]
    assert OPEN in root_cause
    assert OPEN in prevention
    assert text.count("- [ ] ") >= 5


def test_a_held_incident_says_that_nothing_was_changed() -> None:
    """Where the guard was not allowed to act, the report says why and claims no rollback."""
    watch, _ = runs()
    text = render(tell([watch], events()[:4], held="guard only observes"))
    assert "Nothing was changed by backout." in text
    assert "Not acted on: guard only observes." in text
    assert "quarantined" not in text


def test_file_name_is_a_date_and_a_harmless_slug() -> None:
    """No title can leave the folder."""
    incident = tell(runs(), events())
    assert make_file_name(incident) == "2026-11-25-production-errors-after-the-deployment-of-bbbb2222.md"


def test_plan_reads_well_at_80_and_120_columns() -> None:
    """No prose line is wider than asked; commands stay whole, so that they can be copied."""
    for width in (80, 120):
        for line in format_plan(rollback_plan(), width=width).splitlines():
            assert len(line) <= width or line.lstrip().startswith("$"), line
    text = format_plan(rollback_plan(), width=80)
    assert f"target  {GOOD.id}: proven stable" in text.replace("\n", " ")
    assert "$ wrangler rollback aaaa1111-good --message 'guard: it fails'" in text


def test_verification_is_a_checklist_with_words_beside_the_signs() -> None:
    """Each criterion has a sign and its evidence; the conclusion is a word, not a colour."""
    text = format_verification(VERIFIED)
    assert "✓ health check returns 200: 3 of 3 probes" in text
    assert "- email operational or degraded: no email service is configured" in text
    assert text.splitlines()[-1].startswith("Verified:")


def test_what_the_application_said_makes_nothing_of_the_report() -> None:
    """No element, picture, link or mention: it is folded into pages that others read."""
    for said in ("</details> @everyone", "![x](http://e.example/p.png)", "<img src=x>", "# h", "www.e.example #12"):
        quote, decision = replace(DIAGNOSIS.evidence[0], text=said), replace(DECISION, reason=said)
        found = replace(
            tell(runs(), events()), decision=decision, diagnosis=replace(DIAGNOSIS, evidence=(quote,)), notes=(said,)
        )
        plain = replace(found, decision=DECISION, diagnosis=DIAGNOSIS, notes=("x",))
        plain = replace(plain, diagnosis=replace(DIAGNOSIS, evidence=DIAGNOSIS.evidence[:1]))
        check(render(found), render(plain))


def test_what_was_done_to_the_data_is_told() -> None:
    """Nothing is said to be unchanged where rows were brought back; whether they compare is said beside it."""
    steps = (Step("db_rescue", "put the rows back"), Step("db_rescue_check", "compare them with the copy"))
    plan = Plan(PlanKind.RECOVER, "production", "the rows that a migration damaged", steps)
    run = Run("recover-1", "production", plan, RunState.DONE, T, T + 9, 2)
    ended = [
        Event(1, T, "production", run.id, None, "run.submitted"),
        Event(2, T + 5, "production", run.id, 0, "step.ok", {"result": {"rows": 245}}),
        Event(3, T + 9, "production", run.id, 1, "step.ok", {"result": {"failed": []}}),
    ]
    text = render(tell([run], ended))
    assert "Done to the data: put the rows back." in text
    assert "Nothing was changed by backout" not in text
    assert "- 10:00:05 - Done: put the rows back" in text
    assert "- 10:00:09 - Compared: compare them with the copy\n" in text
    differs = replace(ended[2], data={"result": {"failed": ["orders"]}})
    assert "compare them with the copy (NOT as it was meant to be)" in render(tell([run], [*ended[:2], differs]))
