"""A verdict explained from the journal and the kept counts, on the memory World."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.errors import Unmeasured, UsageError
from backout.model.guard.policy import Mode
from backout.model.guard.signals import RouteCounts
from backout.providers.memory import make_steady
from backout.report.guard.explain import format_text, make_record
from backout.runbook.guard import guard
from backout.runbook.hindsight.explain import explain, find_newest_watch

from line import POLICY, Story, by_version, roll_back, watch

if TYPE_CHECKING:
    from pathlib import Path

    from backout.analysis.hindsight.explained import Explained
    from backout.model.guard.signals import Counts


def explained(story: Story, run: str) -> Explained:
    tools = story.tools()
    return explain(tools.runs, tools.counts, story.policy, run)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """A proven version, and a bad one just deployed."""
    return Story(tmp_path / "journal.sqlite")


def test_a_regressed_watch(story: Story) -> None:
    """The journal's sentence, the trace that reaches the same verdict, and how few errors would have passed."""
    rolled = watch(story.tools())
    found = explained(story, rolled.id)
    assert found.run == rolled.plan.cause
    assert (found.decision.verdict, found.action) == ("regressed", "rollback")
    assert found.trace is not None
    assert found.trace.regressed_at is not None
    assert found.trace.regressed_at <= found.decision.at
    assert found.trace.crossed_at is not None
    assert found.trace.points[-1].log_evidence >= found.trace.threshold
    assert found.recorded.baseline, "what was normal is kept with the watch"
    assert {row.version for row in found.recorded.baseline} == {story.good.id}
    (fewer, met) = found.would_change
    bad = int(fewer.split()[1])
    assert 0 < bad < found.decision.errors
    assert "1,100:1 was needed" in met
    assert found.notes == ()


def test_without_a_run_it_is_the_newest_watch(story: Story) -> None:
    """Of the environment that was asked for, or of any; the rollback that it led to is newer."""
    rolled = watch(story.tools())
    runs = story.tools().runs
    assert runs.runs()[0].id == rolled.id
    assert find_newest_watch(runs, None) == find_newest_watch(runs, "production") == rolled.plan.cause
    with pytest.raises(UsageError, match="no watch"):
        find_newest_watch(runs, "staging")


def test_what_is_kept_of_a_watch_has_its_routes(story: Story) -> None:
    """The rows of the baseline and of the watch, as the source told them."""
    plain = story.world.traffic_rule

    def routed(second: int, version: str) -> Counts | None:
        row = plain(second, version)
        return row and replace(row, routes={"/app": RouteCounts(row.requests, row.errors, row.latency)})

    story.world.traffic_rule = routed
    recorded = explained(story, watch(story.tools()).id).recorded
    for rows in (recorded.baseline, recorded.counts):
        assert rows
        assert all(row.routes == {"/app": RouteCounts(row.requests, row.errors, row.latency)} for row in rows)


def test_a_watch_that_was_held_names_the_rule(tmp_path: Path) -> None:
    """Mode observe: what followed, and why nothing did."""
    story = Story(tmp_path / "journal.sqlite", policy=replace(POLICY, guard=replace(POLICY.guard, mode=Mode.OBSERVE)))
    ended = watch(story.tools())
    found = explained(story, ended.id)
    assert (found.action, found.rule) == ("hold", "observe")
    assert "guard only observes" in format_text(found)


def test_a_healthy_watch_says_from_which_share_on_it_would_have_ended_otherwise(story: Story) -> None:
    """Nothing failed: the evidence never came near, and errors from some share on would have been found."""
    story.world.traffic_rule = make_steady(100)
    ended = watch(story.tools())
    found = explained(story, ended.id)
    assert found.trace is not None
    assert found.trace.regressed_at is None
    most, share, *_ = found.would_change
    assert most.startswith("the evidence never exceeded")
    assert "% failed requests on it would have been called regressed" in share
    assert 0 < float(share.split()[2]) < 10


def test_counts_that_are_gone(story: Story) -> None:
    """After 35 days the journal alone tells."""
    rolled = watch(story.tools())
    story.tools().counts.prune(story.world.clock.now() + 1)
    found = explained(story, rolled.id)
    assert found.trace is None
    assert "not kept any more" in found.notes[0]
    told = make_record(found)
    assert (told["chart"], told["threshold"]) == (None, None)
    assert told["streams"]


def test_the_chart_has_a_value_for_each_look(story: Story) -> None:
    """One number a look for each stream and for all together; streams that came later have none before."""
    rolled = watch(story.tools())
    told = make_record(explained(story, rolled.id))
    chart = told["chart"]
    assert isinstance(chart, dict)
    number = len(chart["after_s"])
    assert number >= 1
    assert len(chart["all"]) == number
    assert {len(values) for values in chart["streams"].values()} == {number}
    assert "errors" in chart["streams"]


def test_the_page_fits_80_columns(story: Story) -> None:
    """The verdict first, then the streams, how the evidence grew, and what would have changed it."""
    rolled = watch(story.tools())
    lines = format_text(explained(story, rolled.id), width=80).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == f"{rolled.plan.cause} on production: regressed"
    for heading in ("What each stream says", "How the evidence grew", "What would have changed it"):
        assert heading in lines


def test_runs_that_no_watch_led_to(story: Story) -> None:
    """A person's rollback has no verdict; an unknown run is none."""
    typed = roll_back(story.tools())
    with pytest.raises(UsageError, match="no watch led to it"):
        explained(story, typed.id)
    with pytest.raises(UsageError, match="no run"):
        explained(story, "guard-nothing")


def test_a_watch_under_way_is_not_decided(story: Story) -> None:
    """It says so, and does not guess."""
    story.world.traffic_rule = by_version(story.bad.id, error_rate=0.0)
    tools = story.tools()
    plan = guard.plan(tools, mode=Mode.ACT, for_s=60)
    run = tools.journal.submit(plan, actor="ops@host", reason=plan.why)
    with pytest.raises(Unmeasured, match="has not decided yet"):
        explained(story, run)
