"""The checks before a deployment: which facts block it, which only warn, and what doctor makes of the same ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hint_lab import wrong_with_hint
from values import replace

from backout.analysis.checkup import data, deployment, here, service
from backout.analysis.checkup.views import list_findings, set_level, shows
from backout.analysis.history.stability import Candidate
from backout.model.checkup import Check, CheckState, Checkup, Level, View, must, should
from backout.model.database.backups import Protection
from backout.model.database.capability import ServerFacts, Surroundings, Tools, Window
from backout.model.database.certificate import LASTS_S, Certificate, Coverage, Phase, Step
from backout.model.database.compatibility import Compatibility
from backout.model.database.migrations import MigrationReport, MigrationState, MigrationStatus
from backout.model.hint import suggest_words
from backout.model.hold import Hold
from backout.model.incident.incident import Run, RunState
from backout.model.plan import Plan, PlanKind
from backout.model.version import VersionId

from situations import judged

if TYPE_CHECKING:
    from collections.abc import Iterable

ENV, NOW, DAY = "production", 1_800_000_000.0, 86_400.0
LIVE, OLD = "7f1c0c9e-live", "7f1c0c9e-old"
LOOK = suggest_words("look")


def told(*checks: Check) -> tuple[str, str]:
    """Return level and state of the one check; a gap without a way to close it fails here."""
    (check,) = checks
    assert check.why
    assert not check.why.endswith(".")
    if check.state in (CheckState.MISSING, CheckState.NOT_SET_UP):
        assert check.next, check
    assert wrong_with_hint(check.next, ENV) == ""
    return check.level.value, check.state.value


def candidate(version: str, *, rule: str = "", reason: str = "proven stable", failed: str = "") -> Candidate:
    return Candidate(VersionId(version), not rule, rule, reason, proven=not rule, last_live_at=NOW, failed=failed)


@pytest.mark.parametrize(
    ("ranked", "state", "says", "next"),
    [
        ([candidate(LIVE)], "ok", "which is live now", ""),
        ([candidate(LIVE, rule="5 unproven"), candidate(OLD)], "ok", "older than what is live", ""),
        ([candidate(LIVE, rule="5 unproven", reason="no watch")], "missing", "no watch", "backout guard -e"),
        ([candidate(LIVE, rule="5 quarantined")], "missing", LIVE, "backout rollback --dry-run"),
        ([candidate(LIVE, rule="4 schema")], "missing", LIVE, "backout db migrations status"),
        ([candidate(LIVE, rule="7 secrets")], "missing", LIVE, "backout secrets check"),
        ([candidate(LIVE, rule="5 minimum")], "missing", LIVE, "backout deployments list"),
        ([candidate(LIVE, failed="its last proof failed")], "missing", "its last proof failed", "deployments list"),
        ([], "missing", "can no longer be deployed", "deployments list"),
    ],
)
def test_the_next_version_needs_one_to_go_back_to(ranked: list[Candidate], state: str, says: str, next: str) -> None:  # noqa: A002
    """What is live, or an older one; and the rule that is in the way says what helps."""
    found = deployment.check_way_back(ranked, LIVE, ENV)
    assert told(found) == ("must", state)
    assert says in found.why
    assert next in str(found.next)


def pending(*names: str, state: MigrationState = MigrationState.PENDING) -> MigrationReport:
    done = MigrationStatus("0_init", MigrationState.APPLIED)
    return MigrationReport((done, *(MigrationStatus(name, state) for name in names)))


@pytest.mark.parametrize(
    ("report", "verdict", "state", "says"),
    [
        (pending(), None, "ok", "no migration is pending"),
        (pending("1_add"), Compatibility.SAFE, "ok", "1 migration is pending, each safe for the code that is live"),
        (pending("1_drop"), Compatibility.BREAKING, "missing", "1_drop breaks the old code"),
        (pending("1_null"), Compatibility.SAFE_IF, "missing", "1_null may break the old code"),
        (pending("1_drop", state=MigrationState.ROLLED_BACK), Compatibility.BREAKING, "missing", "1_drop breaks"),
        (pending("0001_py"), None, "unmeasured", "no verdict says that the old code fits (they are Python)"),
    ],
)
def test_what_is_pending_must_leave_the_live_code_a_way_back(
    report: MigrationReport, verdict: Compatibility | None, state: str, says: str
) -> None:
    """The same verdicts as a rollback over them would meet (safety rule 4)."""
    verdicts = {each.name: judged(each.name, verdict) for each in report.migrations if verdict}
    found = deployment.check_pending_migrations(
        report, verdicts, unjudged="they are Python", folder="prisma/migrations", environment=ENV
    )
    assert told(found) == ("must", state)
    assert says in found.why
    if state == "missing":
        assert str(found.next).startswith("backout db migrations check prisma/migrations")


def test_the_worst_of_several_migrations_counts() -> None:
    """A safe one beside it changes nothing."""
    report = pending("1_add", "2_drop")
    verdicts = {"1_add": judged("1_add", Compatibility.SAFE), "2_drop": judged("2_drop", Compatibility.BREAKING)}
    found = deployment.check_pending_migrations(report, verdicts, unjudged="", folder="m", environment=ENV)
    assert "2 migrations are pending" in found.why
    assert "2_drop breaks" in found.why


@pytest.mark.parametrize(
    ("verdict", "reversible", "state", "says"),
    [
        (
            Compatibility.SAFE,
            True,
            "ok",
            "1_note; a trial at 2027-01-15 08:00Z, which counts until 2027-01-16 08:00Z: No fai",
        ),
        (
            Compatibility.SAFE,
            False,
            "missing",
            "is pending, and a trial at 2027-01-15 08:00Z found no way back: `SELECT",
        ),
        (Compatibility.SAFE, None, "ok", "a trial at 2027-01-15 08:00Z saw too little to say: no row was read again"),
        (Compatibility.SAFE_IF, True, "missing", "1_note may break the old code"),
        (Compatibility.BREAKING, False, "missing", "found no way back"),
    ],
)
def test_what_a_trial_saw_is_said_and_its_no_blocks(
    verdict: Compatibility, reversible: bool | None, state: str, says: str
) -> None:
    """A yes lifts nothing: a rollback over the migration would be refused by its text all the same."""
    at = 1_800_000_000.0
    blocker = "`SELECT note FROM orders` fails" if reversible is False else None
    reasons = ("no row was read again",) if reversible is None else ()
    trial = Certificate(
        old="v1", new="code:b", old_code="code:a", new_code="code:b", head="", migrations=(("1_note", "sum"),),
        steps=(Step(Phase.OLD, 2, 0),), coverage=Coverage(1, 1, 2, 2, 3), not_exercised=(), reversible=reversible,
        blocker=blocker, reasons=reasons, shapes=(), at=at, expires_at=at + LASTS_S,
    )  # fmt: skip
    verdicts = {"1_note": judged("1_note", verdict)}
    found = deployment.check_pending_migrations(
        pending("1_note"), verdicts, unjudged="", folder="m", environment=ENV, trials=[trial]
    )
    assert told(found) == ("must", state)
    assert says in found.why
    assert "(new code code:b)" in found.why
    other = replace(trial, new="code:c", reversible=True, blocker=None)
    after = deployment.check_pending_migrations(
        pending("1_note"), verdicts, unjudged="", folder="m", environment=ENV, trials=[trial, other]
    )
    assert ("(new code code:b)" in after.why) is (reversible is False)  # an earlier no is still told
    assert after.state.value == ("ok" if verdict is Compatibility.SAFE else "missing")


def run(kind: PlanKind, state: RunState) -> Run:
    return Run(f"{kind}-1", ENV, Plan(kind, ENV, "a test", ()), state, NOW, None, 0)


@pytest.mark.parametrize(
    ("runs", "before", "doctor"),
    [
        ((), ("must", "ok"), ("should", "ok")),
        ((run(PlanKind.ROLLBACK, RunState.DONE),), ("must", "ok"), ("should", "ok")),
        ((run(PlanKind.ROLLBACK, RunState.INTERRUPTED),), ("must", "missing"), ("should", "missing")),
        ((run(PlanKind.RECOVER, RunState.BLOCKED),), ("must", "missing"), ("should", "missing")),
        ((run(PlanKind.FORWARD, RunState.RUNNING),), ("must", "missing"), ("should", "missing")),
        ((run(PlanKind.GUARD, RunState.RUNNING),), ("should", "missing"), ("should", "ok")),
        ((run(PlanKind.GUARD, RunState.INTERRUPTED),), ("should", "missing"), ("should", "missing")),
    ],
)
def test_a_run_that_is_half_done_blocks_and_a_watch_only_warns(
    runs: tuple[Run, ...], before: tuple[str, str], doctor: tuple[str, str]
) -> None:
    """A deployment over a watch ends it without a verdict; over a recovery it may undo what that restores."""
    assert told(deployment.check_unfinished_runs(runs, ENV, blocks=True)) == before
    assert told(deployment.check_unfinished_runs(runs, ENV, blocks=False)) == doctor


def test_a_run_that_acts_is_named_before_a_watch() -> None:
    """Whichever is the newer one."""
    runs = (run(PlanKind.GUARD, RunState.RUNNING), run(PlanKind.RECOVER, RunState.INTERRUPTED))
    assert "recover-1" in deployment.check_unfinished_runs(runs, ENV, blocks=True).why


@pytest.mark.parametrize(("passed_at", "state"), [(None, "not_set_up"), (NOW - DAY, "ok"), (NOW - 31 * DAY, "missing")])
def test_a_stale_drill_and_a_missing_contact_never_block(passed_at: float | None, state: str) -> None:
    """They are told, and no more."""
    drill = here.check_last_drill("staging", passed_at, now=NOW, counts_s=30 * DAY)
    checks = (drill, deployment.check_contacts(()))
    assert (drill.level.value, drill.state.value) == ("should", state)  # its commands are about the twin
    assert told(checks[1]) == ("should", "not_set_up")
    assert told(deployment.check_contacts(("on_call",))) == ("should", "ok")
    assert Checkup(ENV, checks).exit_code == 0


def around(**more: object) -> Surroundings:
    facts = ServerFacts("app", "app", 180006, "TLSv1.3", tls_verified=True)
    return Surroundings(**({"environment": ENV, "facts": facts, "problem": "", "tools": Tools("18.6", True)} | more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (around(), []),  # there is no way at all: `recovery` says so
        (around(dumps=Window(copies=1, earliest=NOW - DAY, latest=NOW - DAY)), [("must", "ok")]),
        (around(dumps=Window(copies=1, earliest=NOW - 9 * DAY, latest=NOW - 9 * DAY)), [("must", "missing")]),
        (
            around(
                own=Window(copies=1, earliest=NOW - DAY, latest=NOW - DAY),
                protection=Protection(protected=True, why="from base backup b on"),
            ),
            [("must", "ok")],
        ),
    ],
)
def test_the_newest_moment_to_return_to_must_be_young(found: Surroundings, expected: list[tuple[str, str]]) -> None:
    """Every moment where WAL is received; else as old as a copy may be."""
    checks = data.check_restore_point(found, now=NOW, full_every_s=DAY)
    assert [told(check) for check in checks] == expected


def test_a_hold_blocks_a_deployment_and_nothing_else() -> None:
    """Guard could not take the deployment back."""
    held = Hold(NOW + DAY, "restoring orders", "ops@host", NOW, "this host")
    assert told(service.check_hold(held, ENV)) == ("should", "allowed")
    assert told(service.check_hold(held, ENV, blocks=True)) == ("must", "missing")


def test_a_trial_that_runs_or_was_left_blocks_a_deployment_there() -> None:
    """It would be made over an empty database; of one that was left the command that puts everything back is named."""
    running, left, none, unread = (
        deployment.check_trial(ENV, runs=runs, is_left=is_left, unread=unread)
        for runs, is_left, unread in ((True, True, ""), (False, True, "no"), (False, False, ""), (False, False, "no"))
    )
    assert told(deployment.check_drill_left(ENV, "staging-rollback-test", "v1")) == ("should", "missing")
    assert [told(each) for each in (running, left, none, unread)] == [
        ("should", "missing"),
        ("should", "missing"),
        ("should", "ok"),
        ("should", "unmeasured"),
    ]
    assert levels((left, unread), View.PREFLIGHT) == ["must", "should"]
    assert "a trial runs there" in running.why
    assert left.next.lines == (f"backout certify --restore --on {ENV} -e {ENV}",)


def levels(checks: Iterable[Check], view: View) -> list[str]:
    return [set_level(check, view).level.value for check in checks]


def test_each_view_shows_some_checks_of_one_list() -> None:
    """What a view raises is not raised where it is not set up: that never blocks."""
    assert not shows(View.DOCTOR, "pending_migrations")
    assert shows(View.PREFLIGHT, "pending_migrations")
    assert shows(View.DOCTOR, "git_ignore")
    assert not shows(View.PREFLIGHT, "git_ignore")
    checks = (
        should("secrets").missing("x", LOOK),
        should("secrets").not_set_up("x", LOOK),
        should("card").missing("x", LOOK),
    )
    assert levels(checks, View.PREFLIGHT) == ["must", "should", "should"]
    assert levels(checks, View.DOCTOR) == ["should", "should", "should"]


@pytest.mark.parametrize(
    ("check", "code"),
    [
        (must("token").missing("it is not valid", LOOK, code=4), 4),
        (must("pin").missing("another one", LOOK, code=3), 3),
        (must("platform").unmeasured("it answered 503"), 7),
        (Check("migrations", Level.MUST, CheckState.MISSING, "no DATABASE_URL", LOOK, 4), 7),
        (must("health").missing("database is down", LOOK), 0),
        (must("traffic").missing("it counted nothing", LOOK, code=7), 7),
        (should("clock").unmeasured("not read"), 0),
        (should("token_permissions").unmeasured("it may not read them"), 0),
        (should("pin").not_set_up("not pinned", LOOK), 0),
        (should("pin").unmeasured("the database could not be compared"), 7),
        (must("token").ok("active"), 0),
    ],
    ids=lambda value: value.name if isinstance(value, Check) else str(value),
)
def test_online_a_gap_has_the_exit_code_of_a_command_that_acts(check: Check, code: int) -> None:
    """A token that is refused 4, another identity 3, no answer 7; what an application answers decides nothing."""
    assert [each for each, _ in list_findings((check,))] == ([code] if code else [])
    assert not shows(View.ONLINE, "backup_age")
    assert shows(View.ONLINE, "pin")


@pytest.mark.parametrize(
    ("checks", "advice", "code"),
    [
        ((must("a").ok("x"),), "", 0),
        ((must("a").missing("x", LOOK), must("b").unmeasured("x")), "", 1),
        ((must("b").unmeasured("x"),), "", 7),
        ((must("a").missing("x", LOOK),), "the incident of rollback-1 is open", 0),
        ((must("a").not_set_up("x", LOOK), must("b").allowed("x")), "", 0),
        ((should("a").missing("x", LOOK), should("b").unmeasured("x")), "", 0),
    ],
)
def test_what_decides_the_exit_code(checks: tuple[Check, ...], advice: str, code: int) -> None:
    """A must that is missing or not measured; never what is not set up, and nothing where it is only advice."""
    found = Checkup(ENV, checks, advice)
    assert found.exit_code == code
    assert found.ready is not any(
        check.level is Level.MUST and check.state in (CheckState.MISSING, CheckState.UNMEASURED) for check in checks
    )
