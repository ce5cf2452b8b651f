"""With a key, marks are signed: nobody else's is stable or released, and nobody else's hold lasts (rules 10 and 15)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from backout.analysis.history.remark_text import parse
from backout.analysis.history.seal import Seal
from backout.analysis.history.stability import find_quarantine, find_stable_mark
from backout.errors import AuthError
from backout.model.hold import Hold
from backout.model.plan import PlanKind
from backout.model.remark import Code, Remark, RemarkKind
from backout.plan.rollback import Request
from backout.providers.files.holds import FileHolds
from backout.providers.memory import make_steady
from backout.runbook.incident.status import read_status
from backout.runbook.observe import observe
from backout.runbook.rollback.remarks import tell_provider
from backout.runbook.safety.announce import announce
from backout.runbook.safety.hold import HERE, find_active_hold
from backout.runbook.safety.release import find_standing, release

from line import Story, equip, roll_back, toolbox, watch

if TYPE_CHECKING:
    from pathlib import Path

    from backout.runbook.toolbox import Toolbox

    from drillbook import Drillbook

pytestmark = pytest.mark.calm

HOUR, DAY = 3600.0, 86_400.0
KEY, OTHER = b"0123456789abcdef-one", b"0123456789abcdef-two"
PLACE = "account/worker"


@dataclass
class Signed:
    """A World whose marks are signed; its story's bad version is live."""

    story: Story

    def tools(self, *keys: bytes, place: str = PLACE, name: str = "") -> Toolbox:
        """Return the tools of a machine with these keys; a name's journal and holds are empty when it is first used."""
        folder = self.story.path.parent / (name or "here")
        path = folder / "journal.sqlite" if name else self.story.path
        made = toolbox(self.story.world, path, policy=self.story.policy)
        return equip(made, seal=Seal(place, keys), holds=FileHolds(folder / "holds"))

    def elsewhere(self, *keys: bytes, place: str = PLACE) -> Toolbox:
        """Return the tools of a machine that knows nothing."""
        self._count = getattr(self, "_count", 0) + 1
        return self.tools(*keys, place=place, name=f"elsewhere-{self._count}")

    def again(self, message: str) -> None:
        """Let anybody deploy what is live once more, with a message."""
        world = self.story.world
        world.clock.sleep(1)
        world.deploy(*[(share.version, share.percentage) for share in world.live.shares], message=message)


@pytest.fixture
def signed(quick_path: Path) -> Signed:
    """A World in which the bad version was just deployed."""
    return Signed(Story(quick_path / "journal.sqlite"))


def hold(tools: Toolbox, for_s: float = HOUR) -> None:
    """Set a hold as the command does; 0 lifts it."""
    now = tools.clock.now()
    announce(tools, Hold(now + for_s if for_s else 0.0, "by hand now", "ops@host", now, HERE))


def held(tools: Toolbox) -> Hold | None:
    return find_active_hold(tools, tools.deployments.history())


def test_what_is_signed_counts_on_every_machine_with_the_key(signed: Signed) -> None:
    """A rollback, a release and a hold; and while the key is changed either of the two is good."""
    story = signed.story
    assert watch(signed.tools(KEY)).plan.kind is PlanKind.ROLLBACK
    for keys in ((KEY,), (OTHER, KEY), (KEY, OTHER)):
        other = signed.elsewhere(*keys)
        assert find_quarantine(observe(other), story.bad.id, story.bad.code_hash) is not None
        assert read_status(other).elsewhere is not None
    found = find_standing(signed.tools(KEY), story.bad.id)
    assert found.bad is not None
    release(signed.tools(KEY), found.situation, found.bad, "mended")
    hold(signed.tools(KEY))
    for keys in ((KEY,), (OTHER, KEY)):
        other = signed.elsewhere(*keys)
        assert find_quarantine(observe(other), story.bad.id, story.bad.code_hash) is None
        assert held(other) is not None


def test_a_healthy_watch_signs_its_mark(signed: Signed) -> None:
    """The stable mark that was written without a key counts no more, so it is written again, signed."""
    story = signed.story
    story.world.traffic_rule = make_steady(2000)
    assert find_stable_mark(observe(signed.elsewhere(KEY)), story.good.id) is None
    watch(signed.tools(KEY), for_s=20)
    remark = parse(story.world.live.message)
    assert remark is not None
    assert (remark.kind, len(remark.signature)) == (RemarkKind.STABLE, 14)
    assert find_stable_mark(observe(signed.elsewhere(KEY)), story.bad.id) is not None
    assert find_stable_mark(observe(signed.elsewhere(OTHER)), story.bad.id) is None
    assert find_stable_mark(observe(signed.elsewhere(KEY, place="account/other")), story.bad.id) is None


def test_an_unsigned_stable_or_release_never_counts(signed: Signed) -> None:
    """Also in a deployment of exactly what is live, and whatever signature it makes up."""
    story = signed.story
    code = Code.of(story.bad)
    for signature in ("", " sig=AAAAAAAAAAAAAA"):
        signed.again(f"[backout guard-1a2b3c4d stable={code}{signature}] well")
    assert find_stable_mark(observe(signed.elsewhere(KEY)), story.bad.id) is None
    watch(signed.tools(KEY))
    for signature in ("", " sig=AAAAAAAAAAAAAA"):
        signed.again(f"[backout release ok={code}{signature}] mended")
    assert find_quarantine(observe(signed.elsewhere(KEY)), story.bad.id, story.bad.code_hash) is not None
    assert find_quarantine(observe(signed.elsewhere()), story.bad.id, story.bad.code_hash) is not None


def test_an_unsigned_rollback_forbids_and_allows_nothing(signed: Signed) -> None:
    """Made by a machine without the key: its quarantine counts, and the limit of automatic ones does not."""
    story = signed.story
    watch(story.tools())  # it signs nothing
    other = signed.elsewhere(KEY)
    assert find_quarantine(observe(other), story.bad.id, story.bad.code_hash) is not None
    assert read_status(other).elsewhere is None


class Crash(BaseException):
    """The process dies here."""


@pytest.mark.parametrize("keys", [(), (KEY,)])
@pytest.mark.parametrize("call", ["deployments.activate", "deployments.history"])
def test_a_kill_right_after_the_switch_loses_no_quarantine(signed: Signed, keys: tuple[bytes, ...], call: str) -> None:
    """The switch carries it: a machine with an empty journal knows it, before the first one is resumed."""
    story = signed.story

    def die(name: str) -> None:
        if name == call and "deployments.activate" in story.world.calls:
            raise Crash

    story.world.after_call = die
    tools = signed.tools(*keys) if keys else story.tools()
    with pytest.raises(Crash):
        watch(tools)
    story.world.after_call = None
    assert story.world.live.sole == story.good.id
    assert not [mark for mark in tools.marks.marks("production") if mark.version == story.bad.id]
    other = signed.elsewhere(KEY)
    assert find_quarantine(observe(other), story.bad.id, story.bad.code_hash) is not None
    assert (read_status(other).elsewhere is not None) == bool(keys)


def test_a_copy_of_a_signed_mark_is_not_signed(signed: Signed) -> None:
    """The signature names the deployment beneath it: a lift that is written once more lifts nothing."""
    story = signed.story
    hold(signed.tools(KEY))
    hold(signed.tools(KEY), for_s=0)
    lifted = story.world.live.message
    assert held(signed.elsewhere(KEY)) is None
    hold(signed.tools(KEY))
    signed.again(lifted)
    assert held(signed.elsewhere(KEY)) is not None


@pytest.mark.parametrize("change", [(" auto ", " "), (" auto ", " auto hop=3 ")])
def test_a_repetition_says_what_the_first_said(signed: Signed, change: tuple[str, str]) -> None:
    """A switch whose first answer was lost may be there twice; with another meaning the second is nobody's."""
    assert watch(signed.tools(KEY)).plan.kind is PlanKind.ROLLBACK
    unsigned = re.sub(r" sig=\S+(?=\])", "", signed.story.world.live.message)
    assert " auto " in unsigned
    assert "sig=" not in unsigned
    signed.again(unsigned)
    assert signed.elsewhere(KEY).deployments.history()[0].remark is not None
    signed.again(unsigned.replace(*change))
    newest = signed.elsewhere(KEY).deployments.history()[0]
    assert newest.claim is not None
    assert newest.remark is None


def test_an_unsigned_hold_lasts_two_hours_twice_a_day(signed: Signed) -> None:
    """It is told each time; a third one of a day counts for nothing, also when the first ones have left the list."""
    world, tools = signed.story.world, signed.tools(KEY)
    for number in range(4):
        signed.again("[backout hold until=2099-01-01T00:00:00Z] stop")
        assert (held(tools) is not None) == (number < 2), number
        world.clock.sleep(2 * HOUR - 1)
        assert (held(tools) is not None) == (number < 2), number
        world.clock.sleep(1)
        assert held(tools) is None
        for _ in range(10):
            signed.again("deployed once more")
    world.clock.sleep(DAY)
    signed.again("[backout hold until=2099-01-01T00:00:00Z] stop")
    assert held(tools) is not None


def test_an_unsigned_lift_lifts_no_signed_hold(signed: Signed) -> None:
    """It ends what is not signed, and nothing else; a signed one ends both."""
    hold(signed.tools(KEY))
    signed.again("[backout hold until=0] go on")
    assert held(signed.elsewhere(KEY)) is not None
    hold(signed.tools(KEY), for_s=0)
    assert held(signed.elsewhere(KEY)) is None
    signed.again("[backout hold until=2099-01-01T00:00:00Z] stop")
    assert held(signed.elsewhere(KEY)) is not None
    signed.again("[backout hold until=0] go on")
    assert held(signed.elsewhere(KEY)) is None


def test_another_remark_in_between_costs_no_signature(signed: Signed) -> None:
    """What was signed for another place is written once more, on what lies there."""
    world, slipped = signed.story.world, []

    def slip_in(call: str) -> None:
        if call == "deployments.deploy" and not slipped:
            slipped.append(call)
            signed.again("[backout hold until=0] at the same moment")

    world.before_call = slip_in
    hold(signed.tools(KEY))
    world.before_call = None
    assert slipped
    assert held(signed.elsewhere(KEY)) is not None


def test_a_machine_without_the_key_writes_what_counts_for_two_hours(signed: Signed) -> None:
    """Its hold is a hold everywhere; its stable mark is none."""
    story = signed.story
    hold(signed.elsewhere(), for_s=5 * HOUR)
    assert held(signed.elsewhere(KEY)) is not None
    remark = Remark(RemarkKind.STABLE, "guard-1a2b3c4d", code=Code.of(story.bad), text="well")
    tools = signed.elsewhere()
    assert tell_provider(tools, remark, observe(tools).live.id).deployment is not None
    assert find_stable_mark(observe(signed.elsewhere(KEY)), story.bad.id) is None
    story.world.clock.sleep(2 * HOUR)
    assert held(signed.elsewhere(KEY)) is None


def test_guard_does_not_begin_without_the_key(signed: Signed) -> None:
    """It could not tell which versions are stable; a person can still go back, and accepts what is not proven."""
    with pytest.raises(AuthError, match="their key is not here"):
        watch(signed.tools())
    roll_back(signed.elsewhere(), Request(message="it fails", accept_unproven=True))
    assert signed.story.world.live.sole == signed.story.good.id


def test_a_signature_says_whose_hold_it_is_for_longer(signed: Signed) -> None:
    """A signed one lasts as long as it says, and a week at most."""
    hold(signed.tools(KEY), for_s=5 * HOUR)
    signed.story.world.clock.sleep(4 * HOUR)
    assert held(signed.elsewhere(KEY)) is not None
    roll_back(signed.tools(KEY))


def test_the_key_is_in_no_text(signed: Signed) -> None:
    """Neither in what tools print of themselves, nor in a message."""
    hold(signed.tools(KEY))
    assert KEY.decode() not in repr(signed.tools(KEY).seal)
    assert all(KEY.decode() not in deployment.message for deployment in signed.story.world.all_deployments)


# --- the program on the twin ---------------------------------------------------------------------------------------


@pytest.mark.long
def test_signed_marks_on_the_command_line(drillbook: Drillbook) -> None:
    """Who may disarm is said; a hold is signed; what a stranger writes is shown, and counts as far as it may."""
    trial = drillbook.trial()
    marks = trial.run("status", "--json").json["marks"]
    assert (marks["signed"], "anyone who may deploy" in marks["may_disarm"]) == (False, True)
    text = trial.config.read_text(encoding="utf-8")
    trial.config.write_text(text + '\n[marks]\nkey_env = "THE_MARKS_KEY"\n', encoding="utf-8")
    assert trial.run("status", "--json").json["marks"]["next"] == "set THE_MARKS_KEY: no key is here"
    trial.config.write_text(text, encoding="utf-8")
    (trial.folder / "marks-key").write_text(f"{OTHER.decode()},{KEY.decode()}\n", encoding="utf-8")
    (trial.folder / "marks-key").chmod(0o600)
    with trial.config.open("a", encoding="utf-8") as file:
        file.write('\n[marks]\nkey_file = "marks-key"\n')
    assert trial.run("status", "--json").json["marks"]["signed"] is True
    assert trial.run("hold", "--for", "3h", "-m", "by hand", "--json").code == 0
    deployments = trial.tools().deployments
    said = deployments.history()[0]
    assert said.remark is not None
    assert (said.remark.kind, len(said.remark.signature)) == (RemarkKind.HOLD, 14)
    assert "backout unhold" in trial.run("status").err.partition("next: ")[2]
    assert trial.run("unhold", "--json").code == 0
    deployments.deploy(said.shares, message=said.message)
    deployments.deploy(said.shares, message="[backout guard-1a2b3c4d stable=12345678//] well")
    listed = trial.run("deployments", "list", "--json").json["deployments"]
    assert [each["remark"] for each in listed[:2]] == [None, None]
    assert all(each["doubt"] for each in listed[:2])
    held = trial.run("status", "--json").json["hold"]
    assert held["unsigned"] is True
    assert trial.run("unhold", "--json").code == 0
    assert trial.run("status", "--json").json["hold"] is None
