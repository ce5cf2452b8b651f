"""Setting secrets of what is live: the right path, a refusal for what cannot be right, and no value in what is kept."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from canaries import CANARIES, leaks_below, leaks_in
from pushing import ASK, Missing, push, result
from values import replace

from backout.errors import PartlyDone, ProviderRejected, ProviderUnavailable, Refused, UsageError, WorldMoved
from backout.model.incident.incident import RunState
from backout.model.plan import Plan, PlanKind, PlanRefused
from backout.model.remark import Remark, RemarkKind
from backout.model.secrets import OnHand, SecretValues, Since
from backout.runbook.procedures import Actions
from backout.runbook.rollback.panic import stand_aside
from backout.runbook.secrets.push import HEALTH_S
from backout.runbook.secrets.secrets import list_on_hand, list_pushes, look_at_secrets, prepare_mending, prepare_push

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def story(quick_path: Path) -> Missing:
    return Missing(quick_path / "journal.sqlite")


def test_what_is_missing_is_set_and_the_service_is_well_without_a_rollback(story: Missing) -> None:
    """One call; the same code; the names read back; the endpoint asked; nothing of a value is kept anywhere."""
    run = push(story.tools())
    assert story.secrets() == CANARIES
    assert story.world.calls.count("secret_writer.put") == 1
    assert not {"deployments.activate", "bundles.upload"} & set(story.world.calls)
    live = story.world.builds[story.world.live.main].version
    assert (live.code_hash, live.id) != (story.live.code_hash, story.live.id)
    assert live.code_hash == story.live.code_hash
    assert result(story, run, "read_secrets")["names"] == sorted(CANARIES)
    assert result(story, run, "verify_health")["verified"] is True
    assert story.world.reports.texts == {}
    story.tools().journal.close()  # type: ignore[attr-defined]
    assert leaks_below(story.path.parent) == []


def test_names_that_were_typed_are_exactly_those(story: Missing) -> None:
    """Nothing else is set."""
    push(story.tools(), replace(ASK, names=("NEW_KEY",), wait=False))
    assert story.secrets() == {"NEW_KEY": CANARIES["NEW_KEY"]}


def test_a_plan_says_what_is_passed_over_and_why(story: Missing) -> None:
    """The tokens of deployments, what is bound otherwise, and what is expected and not held."""
    world = story.world
    world.deploy(world.upload("bound", bindings=("plain_text:NEW_KEY",), secrets={}))
    del world.secret_source.kept["EMAIL_API_KEY"]
    plan = prepare_push(story.tools(), ASK)
    assert isinstance(plan, Plan)
    text = "\n".join(plan.notes)
    assert "API_TOKEN is not set: it is for backout" in text
    assert "NEW_KEY is not set: it is bound as plain_text" in text
    assert "EMAIL_API_KEY is not set: the World's store does not hold it" in text
    assert list(plan.step("push_secrets").args["secrets"]) == ["JWT_SECRET", "PEM"]  # type: ignore[arg-type]


def test_a_source_that_cannot_list_is_asked_for_what_is_expected(story: Missing) -> None:
    """The sample file's names, those required, and those that the live version has."""
    story.world.secret_source.lists = False
    plan = prepare_push(story.tools(), ASK)
    assert isinstance(plan, Plan)
    assert list(plan.step("push_secrets").args["secrets"]) == ["EMAIL_API_KEY", "JWT_SECRET"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("names", "error", "words"),
    [
        (("NOPE",), Refused, "does not hold NOPE"),
        (("BAD-NAME",), UsageError, "cannot be the name"),
        (("BOUND",), Refused, "bound as plain_text"),
    ],
)
def test_a_name_that_cannot_be_set_is_refused_first(
    story: Missing, names: tuple[str, ...], error: type[Exception], words: str
) -> None:
    """Before anything is changed."""
    story.world.deploy(story.world.upload("bound", bindings=("plain_text:BOUND",), secrets={}))
    with pytest.raises(error, match=words):
        prepare_push(story.tools(), replace(ASK, names=names))


def test_nothing_to_set_is_an_error(story: Missing) -> None:
    """With what was expected."""
    story.world.secret_source.kept = {}
    with pytest.raises(UsageError, match="nothing to set"):
        prepare_push(story.tools(), ASK)


def test_after_a_rollback_the_live_code_is_uploaded_again_with_them(story: Missing) -> None:
    """The newest version is not the live one: its code never becomes live, and what was done is said and recorded."""
    story.world.deploy(story.good)
    story.world.activations.clear()
    run = push(story.tools())
    live = story.world.builds[story.world.live.main]
    assert live.version.code_hash == story.good.code_hash
    assert live.secrets == CANARIES
    assert [deployment.main for deployment in story.world.activations] == [live.version.id]
    assert result(story, run, "push_secrets")["way"] == "apart"
    assert result(story, run, "verify_health")["verified"] is True
    assert any("uploaded again" in text for text in story.said)
    assert any("uploaded again" in note for note in run.plan.notes)
    said = re.fullmatch(
        r"\[backout (\S+) secrets\] journal=[0-9a-f]{8}/[0-9a-f]{12} they were missing", story.world.live.message
    )
    assert said is not None
    assert said[1] == run.id


def test_a_version_that_is_uploaded_just_then_is_no_reason_to_make_it_live(story: Missing) -> None:
    """Between the look and the call: the provider refuses, and the live code is uploaded again."""
    world = story.world

    def race(name: str) -> None:
        if name == "secret_writer.put":
            world.before_call = None
            world.upload("someone else's")

    world.before_call = race
    run = push(story.tools())
    assert result(story, run, "push_secrets")["way"] == "apart"
    assert story.secrets() == CANARIES
    assert world.builds[world.live.main].version.code_hash == story.live.code_hash


def test_a_gradual_deployment_is_left_alone(story: Missing) -> None:
    """Refused with the reason and the ways on; also when it began after the plan."""
    plan = prepare_push(story.tools(), ASK)
    assert isinstance(plan, Plan)
    story.world.deploy((story.good.id, 90.0), (story.live.id, 10.0))
    refused = prepare_push(story.tools(), ASK)
    assert isinstance(refused, PlanRefused)
    assert "gradual" in refused.reason
    assert any("backout rollback" in option for option in refused.options)
    tools = story.tools()
    with pytest.raises(WorldMoved):
        tools.journal.drive(tools.journal.submit(plan, actor="a", reason=""), Actions(tools), actor="a")


def test_a_hotfix_is_not_touched(story: Missing) -> None:
    """Another deployment came between plan and call: exit 6, and nothing was changed (safety rule 8)."""
    plan = prepare_push(story.tools(), ASK)
    assert isinstance(plan, Plan)
    hotfix = story.world.upload("hotfix")
    story.world.deploy(hotfix)
    tools = story.tools()
    with pytest.raises(WorldMoved):
        tools.journal.drive(tools.journal.submit(plan, actor="a", reason=""), Actions(tools), actor="a")
    assert story.world.live.sole == hotfix.id
    assert "secret_writer.put" not in story.world.calls


def test_another_value_than_was_planned_is_not_set(story: Missing) -> None:
    """What was confirmed is what is done."""
    plan = prepare_push(story.tools(), ASK)
    assert isinstance(plan, Plan)
    story.world.secret_source.kept["JWT_SECRET"] = "another one by now"
    tools = story.tools()
    with pytest.raises(Refused, match="another value of JWT_SECRET"):
        tools.journal.drive(tools.journal.submit(plan, actor="a", reason=""), Actions(tools), actor="a")
    assert "secret_writer.put" not in story.world.calls


def test_health_that_does_not_come_back_is_a_finding(story: Missing) -> None:
    """Set, read back, and not verified after a minute."""
    story.world.secret_source.kept["JWT_SECRET"] = "the wrong one"
    begun = story.world.clock.now()
    run = push(story.tools())
    proof = result(story, run, "verify_health")
    assert (run.state, proof["verified"]) == (RunState.DONE, False)
    assert "database is down" in proof["summary"]
    assert story.world.clock.now() - begun >= HEALTH_S


def test_without_a_health_check_nothing_is_claimed(story: Missing) -> None:
    """Neither good nor bad."""
    run = push(replace(story.tools(), health=None))
    assert result(story, run, "verify_health")["verified"] is None


@pytest.mark.parametrize("error", [ProviderRejected, ProviderUnavailable])
def test_a_provider_that_echoes_values_leaves_none_in_the_journal(story: Missing, error: type[Exception]) -> None:
    """Nor in what is raised: whatever an adapter lets through is masked before it is recorded."""

    def echo(name: str) -> None:
        if name == "secret_writer.put":
            words = f"bad value {CANARIES['NEW_KEY']} {json.dumps(CANARIES)} {CANARIES['JWT_SECRET'].encode().hex()}"
            raise error(words, status=400) if error is ProviderRejected else error(words)

    story.world.before_call = echo
    with pytest.raises((ProviderRejected, PartlyDone)) as caught:
        push(story.tools())
    assert leaks_in(f"{caught.value} {caught.value.args} {caught.value.__cause__}", "the error") == []
    assert leaks_below(story.path.parent) == []


def test_a_mistake_of_ours_with_a_value_in_its_text_is_not_recorded(story: Missing) -> None:
    """Its kind is, its text is not."""

    def echo(name: str) -> None:
        if name == "secret_writer.put":
            raise KeyError(CANARIES["EMAIL_API_KEY"])

    story.world.before_call = echo
    with pytest.raises(PartlyDone) as caught:
        push(story.tools())
    assert leaks_in(f"{caught.value} {caught.value.__cause__}", "the error") == []
    assert leaks_below(story.path.parent) == []


def test_pushed_values_are_known_by_their_fingerprints(story: Missing) -> None:
    """When, by whom, in which version, and whether the value is still that of the version to return to."""
    tools = story.tools()
    before = look_at_secrets(tools, story.good.id)
    assert before.missing == ("EMAIL_API_KEY", "JWT_SECRET")
    assert [state.since_target for state in before.states] == [Since.GONE, Since.GONE]
    assert look_at_secrets(tools).target == story.good.id
    run = push(tools)
    found = {each.name: each for each in list_pushes(tools)}
    assert set(found) == set(CANARIES)
    assert {each.run for each in found.values()} == {run.id}
    assert leaks_in(repr(found), "the fingerprints") == []
    after = {state.name: state for state in look_at_secrets(tools, story.good.id, ask_source=True).states}
    assert look_at_secrets(tools, story.good.id).missing == ()
    assert after["JWT_SECRET"].since_push is Since.SAME
    assert after["JWT_SECRET"].since_target is Since.CHANGED
    assert after["NEW_KEY"].since_target is Since.ADDED
    assert after["JWT_SECRET"].source is Since.SAME
    story.world.secret_source.kept["JWT_SECRET"] = "rotated in the vault"
    again = {state.name: state for state in look_at_secrets(tools, story.good.id, ask_source=True).states}
    assert again["JWT_SECRET"].source is Since.CHANGED
    story.world.clock.sleep(5)
    story.world.put_secret("EMAIL_API_KEY", "by wrangler")
    last = {state.name: state for state in look_at_secrets(tools, story.good.id).states}
    assert last["JWT_SECRET"].since_push is Since.MAYBE


# --- for guard ---


def test_guard_asks_whether_the_source_holds_what_is_missing(story: Missing) -> None:
    """Names come back, values do not; a source that fails is a problem in words, never an error."""
    tools = story.tools()
    assert list_on_hand(tools, ["NEW_KEY", "NOPE"]) == OnHand(("NEW_KEY",), ("NOPE",), "the World's store")

    def broken(name: str) -> None:
        if name == "secret_source.read":
            raise ProviderUnavailable("the vault is sealed")

    story.world.before_call = broken
    found = list_on_hand(tools, ["NEW_KEY"])
    assert (found.held, found.lacking, found.problem) == ((), ("NEW_KEY",), "the vault is sealed")
    assert list_on_hand(replace(tools, pushing=None), ["NEW_KEY"]) == OnHand((), ("NEW_KEY",))


def test_guard_s_plan_sets_exactly_those_tells_somebody_and_reports(story: Missing) -> None:
    """With the cause in front; the report says that nothing was rolled back."""
    tools = story.tools()
    plan = prepare_mending(tools, ["JWT_SECRET"], detected="JWT_SECRET is missing", detected_at=tools.clock.now())
    assert isinstance(plan, Plan)
    assert plan.kind is PlanKind.SECRETS
    run = tools.journal.drive(tools.journal.submit(plan, actor="guard", reason=plan.why), Actions(tools), actor="guard")
    assert run.state is RunState.DONE
    assert story.secrets() == {"JWT_SECRET": CANARIES["JWT_SECRET"]}
    (report,) = story.world.reports.texts.values()
    assert "Secrets set: JWT_SECRET. The code stayed as it was." in report
    (notice,) = story.world.notices
    assert notice.kind == "secrets_pushed"
    assert "JWT_SECRET" in notice.title
    assert leaks_in(report + repr(notice), "report and notice") == []


def test_a_hold_stops_what_nobody_typed(story: Missing) -> None:
    """And nothing else (safety rule 10)."""
    tools = story.tools()
    plan = prepare_mending(tools, ["JWT_SECRET"], detected="JWT_SECRET is missing")
    assert isinstance(plan, Plan)
    hold = Remark(RemarkKind.HOLD, until=tools.clock.now() + 3600, text="a person is at work")
    story.world.deploy(story.live, message=str(hold), by="deployment")
    with pytest.raises(Refused, match="a hold is on"):
        tools.journal.drive(tools.journal.submit(plan, actor="guard", reason=""), Actions(tools), actor="guard")
    assert "secret_writer.put" not in story.world.calls
    push(story.tools())
    assert story.secrets() == CANARIES


def test_panic_does_not_wait_for_secrets_that_nobody_goes_on_with(story: Missing) -> None:
    """What is not set yet can be set again; a rollback cannot wait."""

    def away(name: str) -> None:
        if name == "secret_writer.put":
            raise ProviderUnavailable("no answer")

    story.world.before_call = away
    with pytest.raises(PartlyDone):
        push(story.tools())
    story.world.before_call = None
    assert stand_aside(story.tools()) is None


def test_values_that_were_typed_cannot_be_asked_again(story: Missing) -> None:
    """A resumed run says what to type, and the same command goes on with it."""
    tools = story.tools()

    def away(name: str) -> None:
        if name == "secret_writer.put":
            raise ProviderUnavailable("no answer")

    story.world.before_call = away
    with pytest.raises(PartlyDone):
        push(tools)
    story.world.before_call = None
    pushing = tools.pushing
    assert pushing is not None

    def gone(_named: object) -> Any:
        raise UsageError("the values came from stdin, and none was kept")

    with pytest.raises(PartlyDone):
        push(replace(tools, pushing=lambda: replace(pushing(), opened=gone)))
    run = push(tools)
    assert run.state is RunState.DONE
    assert story.secrets() == CANARIES


def test_a_value_object_holds_only_what_was_asked_for() -> None:
    """`only` and names."""
    values = SecretValues({"A": "1", "B": "2"})
    assert values.only(["B", "C"]).names == ("B",)
    assert values.names == ("A", "B")
