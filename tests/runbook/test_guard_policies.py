"""What follows from a watch without a verdict: three settings, and none of them accepts another's case."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from values import replace

from backout import config
from backout.model.guard.policy import GuardPolicy, OnInconclusive, OnSharedOutage, OnUnmeasured
from backout.model.incident.notice import NoticeKind
from backout.providers.memory import make_steady, quiet
from backout.report.guard.run_end import describe_end
from backout.runbook.incident.ends import read_end

from line import POLICY, Story, watch

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.guard.signals import Counts

HOLD_ALL = POLICY.guard
ACCEPT = {
    "on_inconclusive": OnInconclusive.ACCEPT,
    "on_unmeasured": OnUnmeasured.ACCEPT,
    "on_shared_outage": OnSharedOutage.ACCEPT,
}


def unseen(story: Story) -> None:
    """Nobody comes."""
    story.world.traffic_rule = quiet


def undecided(story: Story) -> None:
    """A handful of requests, all answered."""
    story.world.traffic_rule = lambda second, version: make_steady(1)(second, version) if second % 5 == 0 else None


def shared(story: Story) -> None:
    """A split in which both versions fail alike, after an hour in which hardly anything failed."""
    world = story.world
    world.deploy(story.good)
    world.traffic_rule = make_steady(30)
    world.clock.sleep(900)
    begun = world.clock.now()
    world.deploy((story.good.id, 50.0), (story.bad.id, 50.0))

    def fails_since(second: int, version: str) -> Counts | None:
        return make_steady(15, error_rate=0.2 if second >= begun else 0.0)(second, version)

    world.traffic_rule = fails_since
    world.clock.sleep(2)


def ended(path: Path, guard: GuardPolicy, arrange: object) -> tuple[dict[str, object], str, Story]:
    story = Story(path / "journal.sqlite", replace(POLICY, guard=guard))
    arrange(story)  # type: ignore[operator]
    story.world.activations.clear()
    tools = replace(story.tools(), health=None)
    run = watch(tools)
    watched, concluded = (tools.runs.result(run.id, action) for action in ("watch", "conclude"))
    assert isinstance(watched, dict), run.plan.why
    assert isinstance(concluded, dict)
    return dict(concluded), str(watched["verdict"]), story


@pytest.mark.parametrize(
    ("arrange", "verdict", "setting"),
    [
        (unseen, "unmeasured", "on_unmeasured"),
        (undecided, "inconclusive", "on_inconclusive"),
        (shared, "inconclusive", "on_shared_outage"),
    ],
)
def test_each_setting_speaks_for_its_own_case(quick_path: Path, arrange: object, verdict: str, setting: str) -> None:
    """All hold by default; each accepts its case, names itself, and is told; the other two accept nothing of it."""
    for number, (accepting, chosen) in enumerate(
        [((), HOLD_ALL), *(((name,), replace(HOLD_ALL, **{name: choice})) for name, choice in ACCEPT.items())]  # type: ignore[arg-type]
    ):
        path = quick_path / str(number)
        path.mkdir()
        found, said, story = ended(path, chosen, arrange)
        assert said == verdict, found
        assert not story.world.activations
        if setting in accepting:
            assert (found["action"], found["policy"]) == ("accept", f"guard.{setting}")
        else:
            assert found["action"] == "hold"
        assert story.world.notices[-1].kind is NoticeKind.INCONCLUSIVE


def test_no_policy_rolls_back_out_of_a_shared_outage(quick_path: Path) -> None:
    """Safety rule 12 stands above `on_inconclusive = rollback` beside an old version that fails alike."""
    found, _, story = ended(quick_path, replace(HOLD_ALL, on_inconclusive=OnInconclusive.ROLLBACK), shared)
    assert found["action"] == "hold"
    assert "the old version beside it" in str(found["why"])
    assert not story.world.activations


@pytest.mark.parametrize("setting", ["on_unmeasured", "on_shared_outage"])
def test_a_rollback_is_no_choice_of_theirs(tmp_path: Path, setting: str) -> None:
    """What was not measured is not bad, and a shared outage is nobody's fault: the file says so, with its line."""
    text = '[app]\nname = "a"\n[environments.p]\nplatform = { provider = "cloudflare", script = "s" }\n'
    (mistake,) = config.find_mistakes(
        f'{text}[environments.p.guard]\n{setting} = "rollback"\n', tmp_path / "backout.toml"
    )
    assert "backout.toml:6" in mistake
    assert "hold" in mistake
    assert "accept" in mistake


def test_the_settings_reach_the_policy(tmp_path: Path) -> None:
    """As written in the file, and by a variable; confirm is one of them."""
    (tmp_path / "backout.toml").write_text(
        '[app]\nname = "a"\n[environments.p]\nplatform = { provider = "cloudflare", script = "s" }\n'
        '[environments.p.guard]\non_unmeasured = "accept"\nconfirm = "60s"\n'
    )
    found = config.load(config.Environment({"BACKOUT_GUARD_ON_SHARED_OUTAGE": "accept"}), start=tmp_path).policy.guard
    assert (found.on_unmeasured, found.on_shared_outage) == (OnUnmeasured.ACCEPT, OnSharedOutage.ACCEPT)
    assert (found.on_inconclusive, found.confirm_s) == (OnInconclusive.HOLD, 60.0)


def test_what_is_only_inconclusive_is_not_listed_as_held(quick_path: Path) -> None:
    """Held is what waits for a person; here nothing does, and the reason says what was lacking."""
    found, verdict, story = ended(quick_path, HOLD_ALL, undecided)
    assert (found["action"], found.get("rule"), verdict) == ("hold", None, "inconclusive")
    tools = story.tools()
    run = tools.runs.runs("production")[0]
    end = read_end(tools.journal, tools.runs, run)
    assert describe_end(run, end) == "inconclusive, nothing was changed"
    assert "more requests would tell" in end.reason
