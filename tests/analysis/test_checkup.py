"""The judgements of `backout doctor`: which facts are a gap, at which level, and that each gap says what closes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hint_lab import wrong_with_hint
from values import replace

from backout.analysis.checkup import data, here, platform, service
from backout.model.checkup import (
    ChannelLook,
    Check,
    CheckState,
    Checkup,
    GitLook,
    JournalLook,
    Level,
    must,
    should,
)
from backout.model.database.backups import Protection
from backout.model.database.capability import (
    Granularity,
    Replication,
    ServerFacts,
    Surroundings,
    Tools,
    VendorState,
    VendorWay,
    Window,
)
from backout.model.database.schema import AppliedMigration, SchemaState
from backout.model.deployment import Deployment, OnHost, Share
from backout.model.guard.policy import Policy
from backout.model.guard.signals import HealthReport, Reach, ServiceHealth, ServiceState, SourceTraits
from backout.model.hint import suggest_line
from backout.model.hold import Hold
from backout.model.identity import Identity
from backout.model.plan import PlanRefused
from backout.model.token import Needed, Permission, TokenRole, TokenState
from backout.model.version import VersionId

if TYPE_CHECKING:
    from collections.abc import Iterable

DAY = 86_400.0
NOW = 1_800_000_000.0
ENV = "production"
ID = "7f1c0c9e-0000-4000-8000-000000000001"
OTHER = "7f1c0c9e-0000-4000-8000-000000000002"
OK, MISSING, UNMEASURED = CheckState.OK, CheckState.MISSING, CheckState.UNMEASURED
NOT_SET_UP, ALLOWED = CheckState.NOT_SET_UP, CheckState.ALLOWED


def told(checks: Iterable[Check]) -> list[tuple[str, str, str]]:
    """Return (name, level, state) of each; a gap without a way to close it fails here."""
    found = list(checks)
    for check in found:
        assert check.why
        assert not check.why.endswith(".")
        if check.state in (MISSING, NOT_SET_UP):
            assert check.next, check
        assert wrong_with_hint(check.next, ENV) == ""
    return [(check.name, check.level.value, check.state.value) for check in found]


READ = Permission("Workers Scripts Read", "what is live", also=("Workers Scripts Write",), vital=True, templated=True)
WRITE = Permission("Workers Scripts Write", "rollbacks", role=TokenRole.ROLLBACK, vital=True, templated=True)
LOGS = Permission("Workers Observability Write", "the counts of Workers Logs")
ROUTES = Permission("Workers Routes Read", "routes, in plans", role=TokenRole.ROLLBACK, optional=True)


def check_tokens(*states: TokenState, acts: bool = True, more: tuple[Permission, ...] = ()) -> list[Check]:
    needed, places = Needed((READ, WRITE, *more), "Edit Workers"), {"all": "CLOUDFLARE_API_TOKEN"}
    return list(platform.check_tokens(states, needed, now=NOW, outlives_s=DAY + 900, acts=acts, places=places))


def tokens(*states: TokenState, acts: bool = True) -> list[tuple[str, str, str]]:
    return told(check_tokens(*states, acts=acts))


def test_a_token_has_to_outlive_a_watch_by_a_day() -> None:
    """What `guard` would refuse is missing; what ends within two weeks is worth a word."""
    good = TokenState(valid=True, status="active", scopes=(WRITE.name,))
    assert tokens(good) == [("token", "must", "ok"), ("token_permissions", "must", "ok")]
    assert tokens(replace(good, expires_at=NOW + DAY))[0] == ("token", "must", "missing")
    assert tokens(replace(good, expires_at=NOW + 5 * DAY))[0] == ("token", "should", "missing")
    assert tokens(replace(good, expires_at=NOW + 50 * DAY))[0] == ("token", "must", "ok")
    assert tokens(TokenState(valid=False, status="refused")) == [("token", "must", "missing")]


@pytest.mark.parametrize(
    ("scopes", "acts", "role", "expected"),
    [
        ((READ.name,), True, "all", ("must", "missing")),
        ((READ.name,), False, "all", ("should", "missing")),
        ((READ.name,), True, "read", ("must", "ok")),
        ((WRITE.name,), True, "read", ("must", "ok")),
        ((), True, "read", ("must", "missing")),
        (None, True, "all", ("should", "unmeasured")),
    ],
)
def test_a_token_has_to_be_allowed_what_it_is_for(
    scopes: tuple[str, ...] | None, acts: bool, role: str, expected: tuple[str, str]
) -> None:
    """A guard that acts must be able to switch; one that observes has only to read."""
    other = TokenState(valid=True, status="active", scopes=(WRITE.name,), role="rollback")
    found = tokens(
        TokenState(valid=True, status="active", scopes=scopes, role=role), *([other] * (role == "read")), acts=acts
    )
    assert found[1][1:] == expected


def test_what_a_token_lacks_is_named_with_what_it_is_for() -> None:
    """The counts need a permission of their own, which the dashboard's template lacks; a plan's line stops nothing."""
    state = TokenState(valid=True, status="active", scopes=(WRITE.name,))
    found = check_tokens(state, more=(LOGS, ROUTES))[1]
    assert (found.level, found.state) == (Level.SHOULD, MISSING)
    assert found.why == (
        'it lacks "Workers Observability Write" (the counts of Workers Logs); '
        'the template "Edit Workers" has no Workers Observability Write'
    )
    assert str(found.next) == 'put a token with "Workers Observability Write" into CLOUDFLARE_API_TOKEN'
    found = check_tokens(state, more=(ROUTES,))[1]
    assert found.state is OK
    assert found.why.endswith('"not measured" without it: "Workers Routes Read" (routes, in plans)')
    found = check_tokens(replace(state, scopes=None), more=(LOGS, ROUTES))[1]
    assert found.state is UNMEASURED
    assert '"Workers Observability Write" (the counts of Workers Logs)' in found.why


def test_a_token_is_asked_for_what_it_is_used_for() -> None:
    """The one that only reads need not switch; the one that acts need not read the logs."""
    reads = TokenState(valid=True, status="active", scopes=(READ.name, LOGS.name), role="read")
    acts = TokenState(valid=True, status="active", scopes=(WRITE.name, ROUTES.name), role="rollback")
    found = told(check_tokens(acts, reads, more=(LOGS, ROUTES)))
    assert [state for name, _, state in found if name.endswith("_permissions")] == ["ok", "ok"]
    found = told(check_tokens(acts, replace(reads, scopes=(READ.name,)), more=(LOGS, ROUTES)))
    assert found[3] == ("token_read_permissions", "should", "missing")


def test_another_identity_is_missing_and_a_loose_one_is_not_set_up() -> None:
    """What cannot be read just now (a database) is not another one."""
    pinned = Identity(account_id="a", script_tag="t", database_system_identifier="1/shop")
    assert told([platform.check_identity(pinned, pinned, ENV)]) == [("pin", "must", "ok")]
    other = replace(pinned, script_tag="u")
    assert told([platform.check_identity(pinned, other, ENV)]) == [("pin", "must", "missing")]
    down = replace(pinned, database_system_identifier=None)
    assert told([platform.check_identity(pinned, down, ENV)]) == [("pin", "should", "unmeasured")]
    loose = platform.check_identity(Identity(account_id="a"), pinned, ENV)
    assert told([loose]) == [("pin", "should", "not_set_up")]
    assert str(loose.next) == f"backout init --pin -e {ENV}"


def test_clock_platform_and_marks() -> None:
    """Each way that they can be."""
    assert [platform.check_clock(offset).state for offset in (None, 0.4, 90.0)] == [UNMEASURED, OK, MISSING]
    live = Deployment("d1", NOW, (Share(ID, 100.0),))
    deploy = suggest_line("npx wrangler deploy")
    split = replace(live, hosts=(OnHost("web1", live.id, VersionId(ID)), OnHost("web2", None, is_read=False)))
    checks = [platform.check_platform(each, deploy, ENV) for each in ((live,), (), (split,))]
    assert told(checks) == [("platform", "must", each) for each in ("ok", "missing", "missing")]
    assert checks[2].why == f"the hosts differ: web1 shows {ID}, web2 was not read"
    assert told([platform.check_marks("KEY", 0, signs=True, acts=False)]) == [("marks_key", "must", "missing")]
    assert told([platform.check_marks("KEY", 1, signs=True, acts=False)]) == [("marks_key", "must", "ok")]
    assert told([platform.check_marks("", 0, signs=False, acts=True)]) == [("marks_key", "should", "not_set_up")]


GOOD = HealthReport(NOW, Reach.ANSWERED, 200, ServiceState.OK, version=ID)


@pytest.mark.parametrize(
    ("report", "is_blind", "expected"),
    [
        (GOOD, True, ("must", "ok")),
        (None, False, ("should", "not_set_up")),
        (None, True, ("must", "missing")),
        (replace(GOOD, reach=Reach.TIMED_OUT, status=None), False, ("must", "missing")),
        (replace(GOOD, reach=Reach.UNREADABLE, findings=("It answers 200 with HTML.",)), False, ("must", "missing")),
        (replace(GOOD, status=503), False, ("must", "missing")),
        (
            replace(GOOD, services=(ServiceHealth("database", ServiceState.DOWN),)),
            False,
            ("must", "missing"),
        ),
    ],
)
def test_the_health_endpoint_has_to_answer_well(
    report: HealthReport | None, is_blind: bool, expected: tuple[str, str]
) -> None:
    """A guard that acts needs it where it has no counts."""
    assert told([service.check_health(report, Policy(), ENV, is_blind=is_blind)])[0][1:] == expected


@pytest.mark.parametrize(
    ("version", "live", "expected"),
    [
        (ID, (ID,), OK),
        (ID, None, OK),
        (ID, (OTHER,), MISSING),
        ("1.4.2", (ID,), MISSING),
        ("1.4.2", None, MISSING),
        (None, (ID,), MISSING),
    ],
)
def test_health_has_to_name_the_version_that_answers(
    version: str | None, live: tuple[str, ...] | None, expected: CheckState
) -> None:
    """By its id: a number of the team's own proves nothing, and one that is not live is somebody else's answer."""
    for acts, level in ((True, Level.MUST), (False, Level.SHOULD)):
        check = service.check_health_version(replace(GOOD, version=version), live, acts=acts)
        assert (check.state, check.level) == (expected, level)
    silent = service.check_health_version(replace(GOOD, reach=Reach.TIMED_OUT), live, acts=True)
    assert silent.state is UNMEASURED
    assert service.check_health_version(None, live, acts=True).level is Level.SHOULD


def test_counts_that_no_rollback_may_rest_on_are_allowed_to_watch() -> None:
    """Where guard acts they are a gap."""
    exact = SourceTraits("recorder", 5.0, sampled=False, has_status=True, has_version=True)
    poor = SourceTraits("analytics", 300.0, sampled=True, has_status=False, has_version=True)
    assert told([service.check_traffic(exact, acts=True, environment=ENV)]) == [("traffic", "must", "ok")]
    assert told([service.check_traffic(poor, acts=False, environment=ENV)]) == [("traffic", "should", "allowed")]
    acting = service.check_traffic(poor, acts=True, environment=ENV)
    assert acting.state is MISSING
    assert "it samples, it sees no HTTP statuses, it comes 5 min late" in acting.why
    assert told([service.check_traffic(None, acts=True, environment=ENV)]) == [("traffic", "should", "not_set_up")]
    silent = service.check_traffic(exact, acts=True, environment=ENV, silence=["all: no series"])
    assert (silent.state, silent.why) == (MISSING, "recorder answers, and counted nothing: all: no series")


def test_there_is_something_to_go_back_to() -> None:
    """A stable version that is live is what the next deployment goes back to."""
    refused = PlanRefused("5 target", "no version may be returned to: it is quarantined", ())
    for stable, expected in ((True, OK), (False, MISSING)):
        check = service.check_return(refused, stable=stable, acts=True, environment=ENV)
        assert (check.state, check.level) == (expected, Level.MUST)
    assert service.check_return(refused, stable=False, acts=False, environment=ENV).level is Level.SHOULD
    assert told([service.check_kept_code((ID,), (ID, OTHER), ENV)]) == [("kept_code", "should", "missing")]
    assert told([service.check_kept_code((ID,), (ID,), ENV)]) == [("kept_code", "should", "ok")]
    assert told([service.check_watch(None, 300.0, stable=True, now=NOW, environment=ENV)])[0][2] == "missing"
    assert told([service.check_watch(None, None, stable=False, now=NOW, environment=ENV)])[0][2] == "missing"
    assert told([service.check_watch(None, None, stable=True, now=NOW, environment=ENV)])[0][2] == "ok"


def test_a_hold_is_allowed_and_said() -> None:
    """Somebody wants it so; whoever starts guard has to know."""
    hold = Hold(until=NOW + 60, why="restoring orders", by="ann@desk", at=NOW)
    check = service.check_hold(hold, ENV)
    assert check.state is ALLOWED
    assert "restoring orders (by ann@desk, this host)" in check.why
    assert service.check_hold(None, ENV).state is OK


def test_required_secrets_have_to_be_there() -> None:
    """None named is not set up; what cannot be read is no gap of the application."""
    assert told([service.check_secrets((), None, ENV)]) == [("secrets", "should", "not_set_up")]
    assert told([service.check_secrets(("A", "B"), ("A",), ENV)]) == [("secrets", "must", "missing")]
    assert told([service.check_secrets(("A",), ("A", "C"), ENV)]) == [("secrets", "must", "ok")]
    assert told([service.check_secrets(("A",), None, ENV)]) == [("secrets", "must", "unmeasured")]


FACTS = ServerFacts("app", "shop", 180006, "TLSv1.3", tls_verified=True, replication=Replication(granted=True))
AROUND = Surroundings(ENV, FACTS, "", Tools("18.6"), wal="stream", slot="backout_production")


def test_doctor_says_how_far_back_a_vendor_reaches_and_what_it_does_not_do() -> None:
    """A child branch of the vendor is not put in place: nobody is to learn of it in the night."""
    beside = VendorWay("branch", Granularity.LSN, in_place=False, keeps_old=True, earliest=NOW - 6 * 3600, latest=NOW)
    closed = replace(beside, name="branch put in place", in_place=True, missing="main is a child branch")
    around = replace(AROUND, vendor=VendorState("neon", answers=True, ways=(beside, closed)))
    (check,) = data.check_recovery(around, now=NOW, full_every_s=7 * DAY, receives=False)
    assert check.why.endswith("; it reaches back 6 h; branch put in place: main is a child branch")


def recovery(around: Surroundings, *, receives: bool = True) -> list[tuple[str, str, str]]:
    return told(data.check_recovery(around, now=NOW, full_every_s=7 * DAY, receives=receives))


def test_the_database_its_role_and_what_brings_it_back() -> None:
    """WAL that is set up makes a must of what it needs."""
    down = replace(AROUND, facts=None, problem="it does not answer", problem_code=7)
    assert told([data.check_database(AROUND), data.check_database(down)]) == [
        ("database", "must", "ok"),
        ("database", "must", "unmeasured"),
    ]
    assert data.check_database(replace(down, problem_code=4)).state is MISSING
    powerless = replace(AROUND, facts=replace(FACTS, replication=Replication(granted=False, why="no REPLICATION")))
    assert told([data.check_role(powerless, receives=True)]) == [("database_role", "must", "missing")]
    assert told([data.check_role(powerless, receives=False)]) == [("database_role", "should", "missing")]
    assert told([data.check_role(AROUND, receives=True)]) == [("database_role", "must", "ok")]
    assert recovery(AROUND) == [("recovery", "must", "missing")]
    fresh = replace(AROUND, own=Window(2, NOW - 20 * DAY, NOW - DAY))
    assert recovery(fresh) == [("recovery", "must", "ok"), ("backup_age", "should", "ok")]
    stale = replace(AROUND, own=Window(1, NOW - 20 * DAY, NOW - 12 * DAY))
    assert recovery(stale) == [("recovery", "must", "ok"), ("backup_age", "should", "missing")]
    unproved = replace(fresh, proof_alarm="no backup was restored as a proof in 8 days")
    assert ("backup_proof", "should", "missing") in recovery(unproved)
    assert told([data.check_wal(None, ENV)]) == [("wal", "should", "not_set_up")]
    assert told([data.check_wal(Protection(protected=True, why="from base backup b on"), ENV)]) == [
        ("wal", "must", "ok")
    ]
    gap = data.check_wal(Protection(protected=False, why="nobody receives WAL"), ENV)
    assert told([gap]) == [("wal", "must", "missing")]
    assert gap.next.lines[0].startswith("backout db wal start")


def test_a_migration_that_failed_is_a_gap() -> None:
    """Code alone is not rolled back over it."""
    failed = AppliedMigration("m2", NOW, None, None, "")
    assert data.check_migrations(SchemaState(NOW, (failed,)), ENV).state is MISSING
    assert data.check_migrations(SchemaState(NOW, ()), ENV).state is OK


JOURNAL = JournalLook("j.sqlite", exists=True, version=2, known=2, events=7, free_bytes=100 << 30)
NEW = JournalLook("j.sqlite", exists=False, known=2, free_bytes=100 << 30)


@pytest.mark.parametrize(
    ("look", "gaps"),
    [
        (JOURNAL, []),
        (NEW, []),
        (replace(NEW, emptied=True), [("journal", "should", "missing")]),
        (replace(JOURNAL, version=1), []),
        (replace(JOURNAL, version=3), [("journal_schema", "must", "missing")]),
        (replace(JOURNAL, refused="it is read-only", hint="ls -l"), [("journal_writable", "must", "missing")]),
        (replace(JOURNAL, problem="it is damaged", hint="mv"), [("journal", "must", "missing")]),
        (replace(JOURNAL, free_bytes=1 << 20), [("disk", "must", "missing")]),
        (replace(JOURNAL, free_bytes=500 << 20), [("disk", "should", "missing")]),
        (replace(JOURNAL, free_bytes=None), [("disk", "should", "unmeasured")]),
    ],
)
def test_the_journal_has_to_be_read_written_known_and_to_have_room(
    look: JournalLook, gaps: list[tuple[str, str, str]]
) -> None:
    """One gap for each thing that is wrong, and none for what is only new or old."""
    assert [row for row in told(here.check_journal(look, ENV)) if row[2] != "ok"] == gaps


def test_a_journal_that_lacks_what_the_card_has_was_lost() -> None:
    """Nothing was ever written is no gap; nothing although the card has marks is."""
    for look, carded, state in ((NEW, 0, OK), (NEW, 2, MISSING), (JOURNAL, 2, OK)):
        check = next(iter(here.check_journal(look, ENV, carded=carded)))
        assert check.state is state
    assert "2 marks that it lacks" in next(iter(here.check_journal(NEW, ENV, carded=2))).why


def channels(*looks: ChannelLook, acts: bool = True) -> list[tuple[str, str, str]]:
    return told(here.check_channels(looks, acts=acts, now=NOW, environment=ENV))


def test_somebody_has_to_be_told() -> None:
    """A channel that was never used is not known to work; a test notice tells."""
    assert channels() == [("channels", "must", "missing")]
    assert channels(acts=False) == [("channels", "should", "not_set_up")]
    hook = ChannelLook("webhook")
    assert channels(hook) == [("channel_webhook", "should", "unmeasured")]
    assert channels(replace(hook, problem="a URL is needed")) == [("channel_webhook", "must", "missing")]
    assert channels(replace(hook, state="delivered", at=NOW - 60)) == [("channel_webhook", "must", "ok")]
    assert channels(replace(hook, state="given_up", at=NOW, why="404")) == [("channel_webhook", "must", "missing")]
    assert channels(replace(hook, tried="sent")) == [("channel_webhook", "must", "ok")]
    assert channels(replace(hook, state="delivered", tried="refused")) == [("channel_webhook", "must", "missing")]
    assert [here.check_dead_man(found, acts=True).state for found in (None, "", "no URL")] == [NOT_SET_UP, OK, MISSING]


def test_a_drill_that_passed_counts_for_a_while() -> None:
    """None is worth a word, a stale one too, and neither keeps anybody from working."""
    found = [here.check_last_drill("throws", at, now=NOW, counts_s=100) for at in (None, NOW - 99, NOW - 101)]
    due = here.check_last_drill("throws", NOW - 99, now=NOW, counts_s=100, due=(34, 39))
    assert (due.state, due.why) == ("ok", "throws passed 99 s ago; 34 of 39 drills are due")
    assert [(each.level, each.state) for each in found] == [
        ("should", NOT_SET_UP), ("should", OK), ("should", MISSING),
    ]  # fmt: skip
    assert str(found[0].next).startswith("backout drill run throws")
    assert str(found[2].next) == "backout drill due"


def test_git_and_the_card() -> None:
    """Records in git, and a card that is older than what is live."""
    assert here.check_git(GitLook(repository=False)).state is OK
    assert here.check_git(GitLook(repository=True)).state is OK
    assert here.check_git(GitLook(repository=True, ignored=False)).next.lines == ("echo .backout >> .gitignore",)
    assert here.check_git(GitLook(repository=True, tracked="/x/.backout/journal.sqlite")).state is MISSING
    made = [(None, None), (NOW - 60, NOW - 90), (NOW - 60, NOW - 30), (NOW - 60, None)]
    states = [here.check_card("c", at, live, now=NOW, environment=ENV).state for at, live in made]
    assert states == [MISSING, OK, MISSING, OK]


def test_ready_is_what_must_be_there_and_the_exit_code_says_which_kind_of_not() -> None:
    """Missing counts before not measured; what should be there never decides."""
    fine, loose = must("a").ok("it is"), should("b").missing("it is not", "do it")
    silent, gone = must("c").unmeasured("no answer"), must("d").missing("gone", "bring it")
    assert (Checkup(ENV, (fine, loose)).ready, Checkup(ENV, (fine, loose)).exit_code) == (True, 0)
    assert Checkup(ENV, (fine, silent)).exit_code == 7
    assert Checkup(ENV, (silent, gone)).exit_code == 1
    assert not Checkup(ENV, (silent,)).ready
    assert Checkup(ENV, (must("e").allowed("wanted"),)).ready


def test_a_version_with_a_url_of_its_own_can_be_proved_without_its_name() -> None:
    """Which is said, with what it does not prove; without one, why not."""
    nameless = replace(GOOD, version=None)
    found = service.check_health_version(nameless, (ID,), acts=True, no_url="")
    assert told([found]) == [("health_version", "should", "missing")]
    assert "at its own URL instead, which proves its code" in found.why
    found = service.check_health_version(nameless, (ID,), acts=True, no_url="version URLs are off")
    assert told([found]) == [("health_version", "must", "missing")]
    assert found.why.endswith("(nor has a version a URL of its own: version URLs are off)")
