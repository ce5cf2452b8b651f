"""Rule 7, secrets: one that changed since is a decision, or is carried; code that was seen can be uploaded again."""

from __future__ import annotations

import http.client
import json
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from values import replace

from backout.errors import ProviderUnavailable, Refused, SecretsChanged
from backout.model.guard.policy import OnSecretChange
from backout.model.incident.incident import RunState
from backout.model.plan import Plan, PlanKind
from backout.model.version import Mark, VersionId, VersionMark
from backout.plan.rollback import Request
from backout.providers.clock import SystemClock
from backout.providers.files.bundles import FileBundleStore
from backout.providers.memory import World, quiet
from backout.providers.memory.state import WINDOW
from backout.report.incident.incident import render
from backout.runbook.incident.report import make_incident
from backout.runbook.rollback.reupload import keep
from backout.runbook.rollback.rollback import prepare
from backout.twin.stage import SCRIPT

from extent import long
from line import Story, equip, roll_back, toolbox, watch
from platform_sides import TwinSide
from polling import PATIENCE_S
from twin_harness import running_api

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from backout.model.incident.incident import Run
    from backout.model.version import Version
    from backout.runbook.toolbox import Toolbox

    from drillbook import Drillbook, Trial


@dataclass
class Rotated(Story):
    """A proven version, then a rotated secret, then a bad version."""

    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Rotate the secret between the good version and the bad one."""
        super().__post_init__()
        world = self.world
        builds = world.builds
        good = replace(builds[self.good.id].version, secret_names=("JWT_SECRET",), bindings=("secret_text:JWT_SECRET",))
        builds[self.good.id] = replace(builds[self.good.id], version=good, secrets={"JWT_SECRET": "old"})
        self.good = good
        kept = world.bundle_store.bundles  # guard kept the code when it watched the good version
        kept[good.id] = replace(kept[good.id], version=good)
        builds[self.bad.id] = replace(builds[self.bad.id], secrets={"JWT_SECRET": "new"})
        world.activations.clear()

    def tools(self, crash_point: Callable[[str], None] | None = None) -> Toolbox:
        """Return fresh tools that say things into `said`."""
        return replace(super().tools(crash_point), say=self.said.append)

    def policy_is(self, policy: OnSecretChange) -> None:
        """Set on_secret_change."""
        self.policy = replace(self.policy, guard=replace(self.policy.guard, on_secret_change=policy))

    def live_secrets(self) -> dict[str, str]:
        """Return what the application sees now."""
        return self.world.builds[self.world.live.main].secrets

    def uploads(self) -> list[Version]:
        """Return the versions that backout uploaded."""
        return [build.version for build in self.world.builds.values() if build.version.message.startswith("[backout")]


def proof(story: Rotated, run: Run) -> dict[str, Any]:
    """Return the result of the proof."""
    found = story.tools().runs.result(run.id, "prove")
    assert isinstance(found, dict)
    return found


@pytest.fixture
def story(quick_path: Path) -> Rotated:
    return Rotated(quick_path / "journal.sqlite")


CARRY = Request(message="it fails", carry_secrets=True, wait=False)


def test_rule_07_secrets(story: Rotated) -> None:
    """By default it is a decision: exit 3, the names and the ways on, and nothing was changed."""
    with pytest.raises(SecretsChanged) as caught:
        roll_back(story.tools())
    error = caught.value
    assert (error.exit_code, error.rule, error.names) == (3, "7 secrets", ("JWT_SECRET",))
    assert "JWT_SECRET" in error.what
    assert any("--carry-secrets" in option for option in error.options)
    assert any("--restore-secrets" in option for option in error.options)
    assert (story.world.live.sole, story.world.activations, story.uploads()) == (story.bad.id, [], [])
    assert "new" not in str(error)


def test_rule_07_guard_holds_by_default(story: Rotated) -> None:
    """Alone it changes nothing, and the report names the secret."""
    with pytest.raises(SecretsChanged):
        watch(story.tools())
    assert story.world.live.sole == story.bad.id
    assert any("JWT_SECRET" in text for text in story.world.reports.texts.values())


@pytest.mark.parametrize("by", ["policy", "flag", "guard"])
def test_rule_07_carry_is_the_old_code_with_the_secrets_of_now(story: Rotated, by: str) -> None:
    """Uploaded once, proved, and live: the code of the target, the value of today, never the old one."""
    if by != "flag":
        story.policy_is(OnSecretChange.CARRY)
    request = CARRY if by == "flag" else Request(message="it fails")
    run = watch(story.tools()) if by == "guard" else roll_back(story.tools(), request)
    [uploaded] = story.uploads()
    assert story.world.live.sole == uploaded.id != story.good.id
    assert uploaded.code_hash == story.good.code_hash
    assert story.live_secrets() == {"JWT_SECRET": "new"}
    assert story.world.builds[story.good.id].secrets == {"JWT_SECRET": "old"}
    result = proof(story, run)
    assert (result["version"], result["proved"], result["carried_from"]) == (uploaded.id, True, story.good.id)
    assert uploaded.message.startswith(f"[backout {run.id} carry] {story.good.id}")
    assert f"uploaded again as {uploaded.id}" in render(make_incident(story.tools(), run.id))
    read_back = story.tools().runs.result(run.id, "read_back")
    assert isinstance(read_back, dict)
    assert read_back["version"] == uploaded.id


def test_rule_07_restore_brings_the_old_values_back(story: Rotated) -> None:
    """A person's other answer; the policy does not overrule it."""
    story.policy_is(OnSecretChange.CARRY)
    roll_back(story.tools(), Request(message="it fails", force_secrets=True, wait=False))
    assert (story.world.live.sole, story.uploads()) == (story.good.id, [])
    assert story.live_secrets() == {"JWT_SECRET": "old"}


def test_rule_07_carry_without_a_proof(story: Rotated) -> None:
    """Where nothing can be proved, the switch itself carries, and what is read back is the new upload."""
    run = roll_back(replace(story.tools(), health=None), CARRY)
    [uploaded] = story.uploads()
    assert story.world.live.sole == uploaded.id
    assert story.tools().runs.result(run.id, "read_back")["version"] == uploaded.id  # type: ignore[index,call-overload]


def test_rule_07_nothing_is_uploaded_when_no_secret_changed(quick_path: Path) -> None:
    """Carry is an answer to a change, not a way to deploy."""
    story = Story(quick_path / "journal.sqlite")
    roll_back(story.tools(), CARRY)
    assert story.world.live.sole == story.good.id
    assert "bundles.upload" not in story.world.calls


def test_rule_07_a_secret_that_is_gone_is_refused_by_name(story: Rotated) -> None:
    """Its value is nobody's any more: exit 3, and the name."""
    bad = story.world.builds[story.bad.id]
    story.world.builds[story.bad.id] = replace(bad, secrets={"OTHER": "new"})
    with pytest.raises(Refused, match="JWT_SECRET") as caught:
        roll_back(replace(story.tools(), secrets=None), CARRY)
    assert caught.value.rule == "7 secrets"
    assert story.world.live.sole == story.bad.id


def test_rule_07_the_copy_kept_here_is_used_first(story: Rotated) -> None:
    """The provider need not give the code; guard kept it when it watched that version."""
    assert story.world.bundle_store.has(story.good.id)
    story.world.bundle_store.bundles[story.good.id] = story.world.bundles.fetch(story.good.id)
    story.world.calls.clear()
    roll_back(story.tools(), CARRY)
    assert "bundles.fetch" not in story.world.calls
    assert story.live_secrets() == {"JWT_SECRET": "new"}


def test_rule_07_a_version_that_only_the_store_holds(story: Rotated) -> None:
    """Beyond the provider's window: found by the plan, which says so, and uploaded again."""
    world = story.world
    world.bundle_store.bundles[story.good.id] = world.bundles.fetch(story.good.id)
    for number in range(WINDOW):
        world.upload(f"later {number}", secrets={"JWT_SECRET": "new"})
    bad = world.upload("bad again", secrets={"JWT_SECRET": "new"})
    world.deploy(bad)
    world.clock.sleep(5)
    _, plan = prepare(story.tools(), Request(message="it fails"))
    assert isinstance(plan, Plan)
    assert plan.step("prove").args["kept"] == [story.good.id]
    assert any("uploaded again from the copy kept here" in note for note in plan.notes)
    for request in (
        Request(message="it fails", wait=False),
        Request(message="x", target=story.good.id[:8], wait=False),
    ):
        world.traffic_rule = quiet
        world.deploy(bad)
        roll_back(story.tools(), request)
        live = world.builds[world.live.main]
        assert live.version.code_hash == story.good.code_hash
        assert live.secrets == {"JWT_SECRET": "new"}


def test_rule_07_guard_keeps_the_code_it_watches(story: Rotated) -> None:
    """At the start of its watch; the rollback keeps that of the version left; each once."""
    story.world.bundle_store.bundles.clear()
    story.policy_is(OnSecretChange.CARRY)
    watch(story.tools())
    assert set(story.world.bundle_store.bundles) == {story.bad.id}
    assert story.world.calls.count("bundle_store.keep") == 1


def test_rule_07_a_store_that_fails_never_fails_the_watch(story: Rotated) -> None:
    """It is said once, and the watch goes on to its end."""
    story.world.bundle_store.bundles.clear()
    story.policy_is(OnSecretChange.CARRY)

    def fail(name: str) -> None:
        if name in ("bundle_store.keep", "bundle_store.has"):
            raise ProviderUnavailable("the disk is full")

    story.world.before_call = fail
    run = watch(story.tools())
    assert run.plan.kind is PlanKind.ROLLBACK
    assert story.world.builds[story.world.live.main].version.code_hash == story.good.code_hash
    assert [text for text in story.said if story.bad.id[:8] in text and "disk is full" in text]


class Crash(BaseException):
    """The process dies here."""


@pytest.mark.parametrize("when", ["before", "after"])
def test_rule_07_a_crash_anywhere_uploads_once(quick_path: Path, when: str) -> None:
    """Between upload and deployment, too: the run that goes on finds its own upload."""
    moment = 0
    while True:
        story = Rotated(quick_path / f"{when}-{moment}.sqlite")
        count = -1

        def crash(name: str, at: int = moment) -> None:
            nonlocal count
            count += 1
            if count == at:
                raise Crash(name)

        setattr(story.world, f"{when}_call", crash)
        try:
            roll_back(story.tools(), CARRY)
        except Crash:
            story.world.before_call = story.world.after_call = None
            newest = story.tools().runs.runs("production")[0]
            if newest.plan.kind is not PlanKind.ROLLBACK or newest.state is not RunState.DONE:
                roll_back(story.tools(), CARRY)
        else:
            break
        finally:
            story.world.before_call = story.world.after_call = None
        assert len(story.uploads()) == 1, moment
        assert story.world.live.sole == story.uploads()[0].id
        assert len(story.world.activations) == 1
        moment += 1
    assert moment > 20


def test_rule_07_beyond_the_window_of_the_real_api(tmp_path: Path) -> None:
    """With the provider's own adapters and the folder: the version of long ago is live again, by its code."""
    with running_api(tmp_path) as api:
        side = TwinSide(api)
        tools = equip(
            toolbox(World(), tmp_path / "journal.sqlite"),
            clock=SystemClock(),
            deployments=side.deployments,
            versions=side.versions,
            secrets=side.secrets,
            triggers=None,
            bundles=side.bundles,
            bundle_store=FileBundleStore(tmp_path / "bundles", SCRIPT),
            health=None,
            traffic=None,
            schema=None,
            logs=None,
        )
        side.upload("zero")
        side.put_secret("JWT_SECRET", "old")
        good = side.upload("good")
        code_hash = side.versions.detail(good).code_hash
        mark = VersionMark(Mark.STABLE, VersionId(good), code_hash, tools.clock.now(), "guard-1", "well")
        tools.marks.mark("production", mark, actor="ops@host")
        keep(tools, good)
        side.put_secret("JWT_SECRET", "new")
        for number in range(WINDOW):
            side.upload(f"later {number}", deploy=False)
        side.upload("bad")
        roll_back(tools, Request(message="it fails", target=good, wait=False))
        live = side.deployments.history()[0].sole
        assert live is not None
        assert side.versions.detail(live).code_hash == code_hash
        assert [b.value for b in api.data_plane.live["fm5"][0][0].bindings] == ["new"]


# --- the real program on the twin ---

ROLLBACK = ("rollback", "-m", "it fails", "--confirm", "production", "--no-wait", "--json")


def ask(trial: Trial, headers: dict[str, str]) -> dict[str, Any]:
    """Return the answer of GET /api/session with its status."""
    parts = urlsplit(str(trial.book.stage.twin.ingress_url))
    connection = http.client.HTTPConnection(parts.netloc, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/api/session", headers={"Host": f"{SCRIPT}.localhost", **headers})
        answer = connection.getresponse()
        return {"status": answer.status, **json.loads(answer.read())}
    finally:
        connection.close()


def accepts(trial: Trial, token: str) -> bool:
    """Whether the application that is live accepts a token: it does if it sees the secret that signed it."""
    return bool(ask(trial, {"Authorization": f"Bearer {token}"})["status"] == 200)


@pytest.fixture
def rotated(drillbook: Drillbook) -> Iterator[tuple[Trial, str]]:
    """A trial in which the secret was rotated and then a bad version deployed, and the token of a session of now."""
    trial = drillbook.trial()
    drillbook.deploy("good-2")  # a secret is changed only where the newest version is live
    drillbook.rotate("JWT_SECRET", "canary-of-the-rotation")
    tools = trial.tools()
    assert tools.rollback.bundles is not None
    bad = tools.rollback.bundles.upload(tools.rollback.bundles.fetch(drillbook.bad), message="arranged").id
    trial.make_live(bad)
    yield trial, str(ask(trial, {})["token"])
    drillbook.put_secrets_back()


@pytest.mark.both_homes
@pytest.mark.long
def test_rule_07_hold_on_the_twin(drillbook: Drillbook, rotated: tuple[Trial, str]) -> None:
    """The API's 10220 is exit 3 with the name of the secret; everybody's sessions go on."""
    trial, token = rotated
    bad = trial.live()
    ended = trial.run(*ROLLBACK)
    assert ended.code == 3, ended.out
    assert (ended.json["error"], ended.json["rule"]) == ("SecretsChanged", "7 secrets")
    assert "JWT_SECRET" in ended.json["what"]
    assert trial.live() == bad
    assert accepts(trial, token)
    restored = trial.run(*ROLLBACK, "--restore-secrets")
    assert restored.json["live_version"] == drillbook.good
    assert not accepts(trial, token)  # what the decision was about


@pytest.mark.both_homes
@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
@pytest.mark.parametrize("by", ["policy", long("flag")])
def test_rule_07_carry_on_the_twin(drillbook: Drillbook, rotated: tuple[Trial, str], by: str) -> None:
    """The old code runs with the new value: sessions of before the rollback go on."""
    trial, token = rotated
    if by == "policy":
        trial.replace((r"(\[environments\.production\.guard\])", '\\1\non_secret_change = "carry"'))
    ended = trial.run(*ROLLBACK, *(("--carry-secrets",) if by == "flag" else ()))
    assert ended.code == 0, ended.err
    live = ended.json["live_version"]
    assert live == ended.json["to_version"] == trial.live()
    assert live not in (drillbook.good, drillbook.bad)
    assert (ended.json["proof"]["proved"], ended.json["proof"]["carried_from"]) == (True, drillbook.good)
    versions = trial.tools().versions
    assert versions.detail(live).code_hash == versions.detail(drillbook.good).code_hash
    assert accepts(trial, token)
    assert "canary-of-the-rotation" not in ended.out + ended.err
    assert all(b"canary-of-the-rotation" not in path.read_bytes() for path in trial.folder.rglob("*") if path.is_file())


@pytest.mark.long
def test_rule_07_guard_keeps_the_code_on_the_twin(drillbook: Drillbook) -> None:
    """Beside its journal, for its owner alone, without the value of any secret."""
    root = drillbook.stage.directory / ".backout" / "bundles"
    assert next(root.glob(f"versions/*/{drillbook.good}.json"), None)
    store = FileBundleStore(root, next((root / "versions").iterdir()).name)
    bundle = store.find(drillbook.good)
    assert bundle is not None
    assert bundle.version.id == drillbook.good
    values = [line.partition("=")[2] for line in (drillbook.stage.directory / "secrets.env").read_text().splitlines()]
    for path in root.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
        assert path.is_dir() or not any(value.encode() in path.read_bytes() for value in values)


@pytest.mark.long
@pytest.mark.calm
def test_rule_07_two_answers_at_once_are_no_answer(drillbook: Drillbook) -> None:
    """--carry-secrets and --restore-secrets contradict each other: exit 2."""
    assert drillbook.trial().run(*ROLLBACK, "--carry-secrets", "--restore-secrets").code == 2
