"""The plan that sets secrets: what it says, what its hash covers, and what refuses it."""

from __future__ import annotations

from dataclasses import replace as altered

from values import replace

from backout.model.deployment import Deployment, DeploymentId, Share
from backout.model.plan import Equivalents, Plan, PlanKind, PlanRefused
from backout.model.version import Version, VersionId
from backout.plan.secrets import LiveNow, PushRequest, plan_push, set_reason

LIVE = Version(VersionId("11111111-live"), 1, 0.0, code_hash="code")
DEPLOYMENT = Deployment(DeploymentId("d1"), 0.0, (Share(LIVE.id, 100.0),))
NOW = LiveNow(DEPLOYMENT, LIVE, LIVE.id)
REQUEST = PushRequest({"B": "k-2", "A": "k-1"}, {"from": "env", "prefix": ""}, "the environment", "they were\nmissing")
LINES = Equivalents(secrets="bulk {file}", secret="put {name}", secrets_apart="# no", secret_names="ls", health="curl")


def planned(request: PushRequest = REQUEST, now: LiveNow = NOW) -> Plan:
    found = plan_push("production", request, now, LINES)
    assert isinstance(found, Plan)
    return found


def test_the_steps_and_what_a_person_would_type() -> None:
    """Set, read back, ask; a report where one is wanted."""
    plan = planned(replace(REQUEST, report=True))
    assert plan.kind is PlanKind.SECRETS
    assert [(s.action, s.equivalent) for s in plan.steps] == [
        ("push_secrets", "bulk secrets.json"), ("read_secrets", "ls"), ("verify_health", "curl"), ("report", ""),
    ]  # fmt: skip
    assert plan.why == "they were missing"
    assert list(plan.step("push_secrets").args["secrets"]) == ["A", "B"]  # type: ignore[arg-type]
    assert [s.action for s in planned(replace(REQUEST, wait=False)).steps] == ["push_secrets", "read_secrets"]
    assert planned(replace(REQUEST, fingerprints={"A": "k-1"})).steps[0].equivalent == "put A"


def test_the_hash_covers_the_values_by_their_fingerprints() -> None:
    """Another value is another plan; what is passed over is wording."""
    assert planned(replace(REQUEST, fingerprints={"A": "k-1", "B": "k-3"})).hash != planned().hash
    assert planned(replace(REQUEST, passed_over=("C is not set",))).hash == planned().hash


def test_the_newest_version_apart_is_said() -> None:
    """And that no line does it by hand."""
    plan = planned(now=replace(NOW, newest="22222222-new"))
    assert "uploaded again" in plan.notes[0]
    assert "22222222" in plan.notes[0]
    assert plan.steps[0].equivalent == "# no"


def test_a_gradual_deployment_refuses_it() -> None:
    """With both shares and both ways to end it."""
    split = altered(DEPLOYMENT, shares=(Share(LIVE.id, 90.0), Share(VersionId("22222222-new"), 10.0)))
    found = plan_push("production", REQUEST, replace(NOW, deployment=split), LINES)
    assert isinstance(found, PlanRefused)
    assert "11111111 at 90 %" in found.reason
    assert len(found.options) == 2


def test_a_target_at_0_percent_does_not() -> None:
    """A proof leaves one behind."""
    shares = (Share(LIVE.id, 100.0), Share(VersionId("22222222-new"), 0.0))
    assert isinstance(plan_push("p", REQUEST, replace(NOW, deployment=altered(DEPLOYMENT, shares=shares)), LINES), Plan)


def test_the_reason_that_a_person_gives_when_asked() -> None:
    """In the plan and in the deployment's message, on one line."""
    plan = set_reason(planned(), "rotated\n  after the leak")
    assert (plan.why, plan.step("push_secrets").args["message"]) == ("rotated after the leak",) * 2
