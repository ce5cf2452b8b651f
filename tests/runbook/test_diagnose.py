"""The diagnosis in the line, on the World: what guard attaches, what it mends without a rollback, what it reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from canaries import CANARIES
from values import replace

from backout.errors import AuthError, BackoutError, ProviderRejected, ProviderUnavailable
from backout.model.database.schema import AppliedMigration
from backout.model.guard.policy import Mode
from backout.model.guard.signals import ServiceState
from backout.model.incident.diagnosis import RollbackAdvice, Scenario
from backout.model.incident.incident import RunState
from backout.model.plan import PlanKind
from backout.model.secrets import ExpectedSecrets
from backout.providers.memory.rules import make_answering, make_health
from backout.report.redact import Redactor
from backout.runbook.incident.diagnose import diagnose_now, diagnose_once
from backout.runbook.observe import observe
from backout.wiring.diagnosis import load_catalogue

from line import POLICY, Story, by_version, equip, push_tools, thrown, watch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from backout.model.guard.signals import Counts
    from backout.model.incident.diagnosis import Catalogue
    from backout.model.incident.events import Invocation
    from backout.model.incident.incident import Run
    from backout.model.plan import Json
    from backout.runbook.toolbox import Toolbox

MISSING = "Error: Environment variable not found: JWT_SECRET"


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path / "journal.sqlite")


def tools(story: Story, mode: Mode = Mode.ACT) -> Toolbox:
    policy = replace(POLICY, guard=replace(POLICY.guard, mode=mode))
    return equip(story.tools(), catalogue=load_catalogue, policy=policy)


def says(story: Story, text: str, *, version: str = "", times: int = 40) -> None:
    """Let the bad version (or another one) throw this."""
    story.world.log_rule = lambda _since, until: (thrown(version or story.bad.id, until, text),) * times


def last(story: Story) -> Run:
    return story.tools().runs.runs("production")[0]


def result(story: Story, run: str, step: str) -> dict[str, Any]:
    found = story.tools().runs.result(run, step)
    assert isinstance(found, dict)
    return found


def never_well(story: Story) -> None:
    """Let the database be down in the bad code, whatever its secrets."""
    bad_code = story.world.builds[story.bad.id].version.code_hash
    well = story.world.health_rule

    def ill(at: float, version: str) -> Any:
        is_bad = story.world.builds[version].version.code_hash == bad_code
        story.world.services["database"] = ServiceState.DOWN if is_bad else ServiceState.OK
        return well(at, version)

    story.world.health_rule = ill


def test_the_cause_is_named_with_its_line_and_what_is_well(story: Story) -> None:
    """Scenario 3: the code throws; the version before did not; migrations and secrets were looked at."""
    story.world.log_rule = lambda _since, until: (thrown(story.bad.id, until),) * 30
    story.world.clock.sleep(20)
    found = diagnose_now(tools(story))
    assert (found.scenario, found.cause) == (Scenario.RUNTIME_ERRORS, "worker_script_error")
    assert found.is_new
    assert found.rollback is RollbackAdvice.CODE_OK
    assert found.evidence[0].text == "TypeError: x is undefined"
    assert found.evidence[0].version == story.bad.id
    assert set(found.counts) == {story.good.id, story.bad.id}
    assert any("services ok" in line for line in found.clean)
    assert found.next[0].startswith("backout rollback -e production")


@pytest.mark.parametrize(
    ("required", "there", "line", "note"),
    [
        ((), (), "", ""),
        ((), ("A", "B", "C"), "secrets: all 3 there", ""),
        (("A", "B"), ("A", "B", "C"), "secrets: all 2 there", ""),
        (("A", "B"), (), "", "required secrets are not set: A, B"),
        (("A", "B"), ("B",), "", "required secrets are not set: A"),
    ],
    ids=["nothing is known", "names alone", "all that are required", "none of them", "one of two"],
)
def test_what_is_said_of_secrets_is_what_was_counted(
    story: Story, required: tuple[str, ...], there: tuple[str, ...], line: str, note: str
) -> None:
    """Without names there is nothing to say; what is required counts, and is told when it is not there."""
    story.world.log_rule = lambda _since, _until: ()
    pushing = replace(push_tools(story.world), expected=lambda: ExpectedSecrets(required=required))
    listed = replace(tools(story), pushing=lambda: pushing)
    found = diagnose_now(listed, situation=replace(observe(listed), secret_names=there))
    assert [each for each in found.clean if each.startswith("secrets: ")] == ([line] if line else [])
    assert [each for each in found.notes if "secrets" in each] == ([note] if note else [])


def test_a_calm_world_needs_nothing(story: Story) -> None:
    """Scenario 0."""
    story.world.log_rule = lambda _since, _until: ()
    story.world.traffic_rule = by_version("nobody")
    found = diagnose_now(tools(story), version=story.good.id)
    assert found.scenario is Scenario.NO_ACTION
    assert not found.is_known


def test_a_service_that_is_down_is_named_with_its_criticality(story: Story) -> None:
    """Scenario 1: the health report says which; backout.toml says whether it may degrade."""
    story.world.log_rule = lambda _since, _until: ()
    story.world.services["storage"] = ServiceState.DOWN
    found = diagnose_now(tools(story))
    assert (found.scenario, found.service, found.criticality) == (Scenario.HEALTH_CHECK, "storage", "critical")
    assert found.evidence[0].source == "health"
    story.world.services |= {"storage": ServiceState.OK, "email": ServiceState.DOWN}
    found = diagnose_now(tools(story))
    assert (found.cause, found.criticality) == ("email_failure", "degradable")


def test_a_failed_migration_is_named_and_blocks_a_rollback_of_code_alone(story: Story) -> None:
    """Scenario 4: from the history itself, without a line in any log."""
    story.world.log_rule = lambda _since, _until: ()
    story.world.migrations.append(AppliedMigration("0007_plan", story.world.clock.now(), None, logs="ERROR: no\nmore"))
    found = diagnose_now(tools(story))
    assert (found.scenario, found.cause) == (Scenario.MIGRATION, "migration_failed")
    assert found.rollback is RollbackAdvice.BLOCKED
    assert "0007_plan" in found.evidence[0].text
    assert "ERROR: no" in found.evidence[0].text


def test_sources_that_do_not_answer_are_said_and_stop_nothing(story: Story) -> None:
    """Neither the logs nor the counts nor the health endpoint answer: an answer comes all the same, and says so."""

    def gone(name: str) -> None:
        if name in ("logs.read", "traffic.read", "health.look"):
            raise ProviderUnavailable("gone", where=name)

    story.world.before_call = gone
    found = diagnose_now(tools(story))
    assert any("the logs could not be read" in note for note in found.notes)
    assert not found.is_known


def test_guard_attaches_it_and_the_report_begins_with_it(story: Story) -> None:
    """In the journal with the conclusion; in the report's root cause, quoted."""
    run = watch(tools(story))
    assert run.plan.kind is PlanKind.ROLLBACK
    (text,) = story.world.reports.texts.values()
    cause = text.split("## Root Cause")[1].split("## Resolution")[0]
    assert "Diagnosis: The code throws (`worker_script_error`, S3" in cause
    assert "x `TypeError: x is undefined`" in cause


@pytest.mark.parametrize(
    "text", ['Error: bad "password=hunter22"', "Error: -----BEGIN PRIVATE KEY----- MIIE", "\ud800 x"]
)
def test_no_text_of_the_application_stops_the_rollback(story: Story, text: str) -> None:
    """What the mask takes out reaches up to a quote, or to the end of a text: never beyond that text."""
    says(story, text)
    told = equip(tools(story), redact=Redactor().redact)
    assert watch(told).plan.kind is PlanKind.ROLLBACK
    assert story.world.live.main == story.good.id


def test_a_mistake_of_ours_in_the_diagnosis_stops_nothing(story: Story) -> None:
    """It is said, and the rollback is judged as always."""
    said: list[str] = []

    def broken() -> Catalogue:
        raise ZeroDivisionError

    assert watch(equip(tools(story), catalogue=broken, say=said.append)).plan.kind is PlanKind.ROLLBACK
    assert any("ZeroDivisionError" in line for line in said)


def test_a_record_that_another_backout_wrote_is_made_anew(story: Story) -> None:
    """A run is resumed by a version that knows another shape."""

    class Context:
        run = "guard-1"
        recorded: ClassVar[list[Mapping[str, Json]]] = []

        def last_progress(self) -> Mapping[str, Json]:
            return {"diagnosis": {"scenario": "S9", "cause": 7}}

        def progress(self, data: Mapping[str, Json]) -> None:
            self.recorded.append(data)

        def check(self) -> None: ...

    story.world.clock.sleep(20)
    found = diagnose_once(tools(story), Context(), story.bad.id)
    assert found is not None
    assert found.cause == "worker_script_error"
    assert Context.recorded


def test_a_missing_secret_is_set_and_nothing_is_rolled_back(story: Story) -> None:
    """Scenario 5 by guard alone: the source holds the value; health returns; the same code stays live."""
    says(story, MISSING)
    story.world.secret_source.kept = dict(CANARIES)
    story.world.clock.sleep(1)
    run = watch(tools(story))
    assert run.plan.kind is PlanKind.SECRETS
    assert run.state is RunState.DONE
    assert result(story, run.plan.cause, "conclude")["action"] == "push_secret"
    assert result(story, run.id, "verify_health")["verified"] is True
    assert result(story, run.id, "fall_back")["outcome"] == "mended"
    live = story.world.builds[story.world.live.main]
    assert live.secrets["JWT_SECRET"] == CANARIES["JWT_SECRET"]
    assert live.version.code_hash == story.world.builds[story.bad.id].version.code_hash


@pytest.mark.parametrize("why", ["not held", "observe", "not sure"])
def test_when_it_cannot_or_may_not_be_set_a_rollback_is_judged_as_always(story: Story, why: str) -> None:
    """The source lacks it; guard only observes; the evidence names no secret."""
    says(story, "TypeError: x is undefined" if why == "not sure" else MISSING)
    if why != "not held":
        story.world.secret_source.kept = dict(CANARIES)
    run = watch(tools(story, Mode.OBSERVE if why == "observe" else Mode.ACT))
    if why == "observe":
        concluded = result(story, run.id, "conclude")
        assert concluded["action"] == "hold"
        assert concluded["would"] == "set JWT_SECRET from the configured source"
        assert story.world.live.main == story.bad.id
    else:
        assert run.plan.kind is PlanKind.ROLLBACK
        assert story.world.live.main == story.good.id


def test_a_value_that_does_not_help_is_followed_by_the_rollback(story: Story) -> None:
    """The database is down in the new code, with the secret and without: it is set, and then the code goes back."""
    says(story, MISSING)
    story.world.secret_source.kept = dict(CANARIES)
    never_well(story)
    run = watch(tools(story))
    assert run.plan.kind is PlanKind.ROLLBACK
    pushed = story.tools().runs.find(run.plan.cause)
    assert pushed is not None
    assert pushed.plan.kind is PlanKind.SECRETS
    assert story.world.live.main == story.good.id


@pytest.mark.parametrize("pushes", [1, 9], ids=["listed", "fallen out of the list"])
def test_what_a_version_did_when_it_was_live_before_is_not_what_it_does_now(story: Story, pushes: int) -> None:
    """It threw, was replaced, and is live again, mended from outside: nothing is wrong with it."""
    clock, deploy = story.world.clock, story.world.deploy
    moments: list[float] = [clock.now()]

    def threw(since: float, until: float) -> tuple[Invocation, ...]:
        return tuple(thrown(story.bad.id, at) for at in moments for _ in range(40) if since <= at <= until)

    story.world.log_rule = threw
    clock.sleep(10)
    assert diagnose_now(tools(story)).cause == "worker_script_error"
    for _ in range(pushes):
        deploy(story.good)
    clock.sleep(30)
    deploy(story.bad)
    story.world.traffic_rule = by_version("nobody")
    clock.sleep(30)
    assert diagnose_now(tools(story)).scenario is Scenario.NO_ACTION
    moments.append(clock.now())
    clock.sleep(5)
    found = diagnose_now(tools(story))
    assert found.cause == "worker_script_error"
    assert found.evidence[0].count == 40
    assert diagnose_now(tools(story), since=clock.now() - 2).scenario is Scenario.NO_ACTION


def test_a_hotfix_while_secrets_are_proved_is_not_rolled_back(story: Story) -> None:
    """What was measured is void then, however ill the hotfix is as yet (safety rule 8)."""
    says(story, MISSING)
    story.world.secret_source.kept = dict(CANARIES)
    never_well(story)
    hotfix = story.world.upload("hotfix")
    rule, told = story.world.health_rule, []

    def down(at: float, version: str) -> Any:
        if story.world.live.main not in (story.good.id, story.bad.id, hotfix.id):
            told.append(version)
            if len(told) == 5:
                story.world.deploy(hotfix)
        story.world.services["database"] = ServiceState.DOWN
        return make_health(at, story.world.services, version=version) if told else rule(at, version)

    story.world.health_rule = down
    run = watch(tools(story))
    assert told
    assert run.plan.kind is PlanKind.SECRETS
    assert "took its place" in result(story, run.id, "fall_back")["why"]
    assert story.world.live.main == hotfix.id


def test_secrets_that_were_set_lately_do_not_stand_in_the_way_of_a_rollback(story: Story) -> None:
    """They helped, and a later deployment lacks them again: not set twice in six hours, so it goes back."""
    says(story, MISSING)
    story.world.secret_source.kept = dict(CANARIES)
    assert watch(tools(story)).plan.kind is PlanKind.SECRETS
    story.world.traffic_rule = by_version("nobody")
    story.world.log_rule = lambda _since, _until: ()
    story.world.clock.sleep(600)
    assert result(story, watch(tools(story)).id, "conclude")["action"] == "stable"
    story.world.clock.sleep(600)
    again = story.world.upload("again", secrets={})
    story.world.traffic_rule = by_version(again.id)
    says(story, MISSING, version=again.id)
    story.world.deploy(again)
    story.world.clock.sleep(2)
    run = watch(tools(story))
    assert run.plan.kind is PlanKind.ROLLBACK
    assert story.world.live.main == story.good.id


def test_a_name_that_is_not_the_application_s_is_never_set(story: Story) -> None:
    """A text of the application names what is for deployments only, and the source, a whole environment, has it."""
    says(story, MISSING)
    story.world.secret_source.kept = {"JWT_SECRET": CANARIES["JWT_SECRET"]}
    ours = replace(push_tools(story.world), own=frozenset({"JWT_SECRET"}))
    assert watch(replace(tools(story), pushing=lambda: ours)).plan.kind is PlanKind.ROLLBACK


@pytest.mark.parametrize("error", [AuthError("no"), ProviderRejected("no", status=400), BackoutError("no")], ids=repr)
def test_what_cannot_be_set_is_followed_by_the_rollback(story: Story, error: BackoutError) -> None:
    """The token may not set secrets, the provider says no, the source does not answer any more: the code goes back."""
    says(story, MISSING)
    story.world.secret_source.kept = dict(CANARIES)

    def refuses(name: str) -> None:
        if name == "secret_writer.put":
            raise error

    story.world.before_call = refuses
    run = watch(tools(story))
    assert run.plan.kind is PlanKind.ROLLBACK
    assert story.world.live.main == story.good.id
    assert "Secrets NOT set: no" in "".join(story.world.reports.texts.values())


def test_errors_that_go_on_while_health_is_well_are_followed_by_the_rollback(story: Story) -> None:
    """Whoever makes the application name a secret must not keep the bad code live: the counts decide as well."""
    says(story, MISSING)
    story.world.secret_source.kept = dict(CANARIES)
    bad_code = story.world.builds[story.bad.id].version.code_hash
    sick, well = by_version("any"), by_version("nobody")

    def rule(second: int, version: str) -> Counts | None:
        is_bad = story.world.builds[version].version.code_hash == bad_code
        return sick(second, "any") if is_bad else well(second, version)

    story.world.traffic_rule = lambda second, version: (
        None if (found := rule(second, version)) is None else replace(found, version=version)
    )
    run = watch(tools(story))
    assert run.plan.kind is PlanKind.ROLLBACK
    pushed = story.tools().runs.find(run.plan.cause)
    assert pushed is not None
    assert pushed.plan.kind is PlanKind.SECRETS
    assert story.world.live.main == story.good.id


def test_a_secret_that_only_a_newer_version_had_is_not_missed_after_the_return(story: Story) -> None:
    """A deployment brought a secret, and was rolled back; one that took a secret away is told."""
    world = story.world
    world.log_rule = lambda _since, _until: ()
    world.traffic_rule = by_version("nobody")
    more = world.upload("more", secrets={"NEW_KEY": "new"})
    less = world.upload("less", secrets={})
    for version in (more, story.good):
        world.clock.sleep(10)
        world.deploy(version)
    world.clock.sleep(10)
    assert diagnose_now(tools(story)).scenario is Scenario.NO_ACTION
    for version in (more, less):
        world.clock.sleep(10)
        world.deploy(version)
    world.clock.sleep(10)
    found = diagnose_now(tools(story))
    assert (found.cause, found.names) == ("missing_env_var", ("NEW_KEY",))


@pytest.mark.parametrize(
    ("broken", "title"),
    [
        ({"GET /": {404: 20}, "GET /api/models": {404: 10}}, "everything is answered 404: "),
        (
            {"GET /": {200: 20}, "GET /api/models": {302: 9, 200: 1}},
            "GET /api/models is answered with a redirect for 90",
        ),
        ({"GET /": {200: 20}, "GET /api/models": {401: 10}}, "GET /api/models is answered 401: "),
    ],
)
def test_answers_that_are_no_errors_are_named(story: Story, broken: dict[str, dict[int, int]], title: str) -> None:
    """404 for everything without a line in any log is no "no errors"; one route alone is named by itself."""
    world = story.world
    world.log_rule = lambda _since, _until: ()
    good, bad = make_answering({"GET /": {200: 20}, "GET /api/models": {200: 10}}), make_answering(broken)
    world.traffic_rule = lambda second, version: (bad if version == story.bad.id else good)(second, version)
    world.deploy(story.good)
    world.clock.sleep(60)
    world.deploy(story.bad)
    world.clock.sleep(60)
    found = diagnose_now(tools(story))
    assert found.scenario is Scenario.RUNTIME_ERRORS
    assert found.title.startswith(title), found.title
    assert found.rollback is RollbackAdvice.CODE_OK


@pytest.mark.parametrize(("failed", "title"), [(1, "60 of 1,2"), (0, "no errors")])
def test_requests_that_fail_without_a_word_in_any_log_are_named(story: Story, failed: int, title: str) -> None:
    """A host's log has lines without a level: one request in twenty that fails is a runtime error all the same."""
    world = story.world
    world.log_rule = lambda _since, _until: ()
    good, bad = make_answering({"GET /": {200: 20}}), make_answering({"GET /": {200: 20 - failed, 500: failed}})
    world.traffic_rule = lambda second, version: (bad if version == story.bad.id else good)(second, version)
    world.deploy(story.good)
    world.clock.sleep(60)
    world.deploy(story.bad)
    world.clock.sleep(61)
    found = diagnose_now(tools(story))
    assert (found.scenario is Scenario.RUNTIME_ERRORS) == bool(failed), found
    assert title in found.title, found.title
