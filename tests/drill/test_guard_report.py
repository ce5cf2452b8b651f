"""The look back on the real program: observed, rolled back by hand, told with what waiting cost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from backout.model.guard.signals import sum_counts

from polling import until

if TYPE_CHECKING:
    from drillbook import Drillbook

pytestmark = pytest.mark.rotating("drills", 5)


@pytest.mark.long
def test_what_guard_would_have_done(drillbook: Drillbook) -> None:
    """Mode observe changes nothing; a person rolls back; the report counts both, the time and the bad requests."""
    trial = drillbook.trial().replace((r'mode = "act"', 'mode = "observe"'))
    trial.make_live(drillbook.good)
    trial.make_live(drillbook.bad)
    watched = trial.run("guard", "--json")
    assert (watched.code, watched.json["action"]) == (1, "hold"), watched.err
    assert trial.live() == drillbook.bad
    traffic, since = trial.tools().traffic, int(time.time())
    assert traffic is not None
    until(lambda: sum_counts(traffic.read(since, since + 60).counts)[1] > 3, 30, "some more requests fail", every_s=0.2)
    rolled = trial.run("rollback", "-m", "it fails", "--confirm", "production", "--no-wait", "--json")
    assert rolled.code == 0, rolled.err
    told = trial.run("guard", "report", "--json")
    assert told.code == 0, told.err
    report = told.json
    assert report["schema"] == "backout.guard-report/1"
    assert (report["would_have_rolled_back"], report["rolled_back_by_hand"], report["rolled_back"]) == (1, 1, 0)
    assert report["verdicts"]["regressed"] == 1
    assert (report["false_alarms"], report["advice"]["verdict"]) == (0, "too_few")
    (case,) = report["cases"]
    assert (case["version"], case["outcome"], case["rule"]) == (drillbook.bad, "by_hand", "observe")
    assert case["live_after_verdict_s"] > 0
    assert case["bad_requests_after_verdict"] > 3
    screen = trial.run("guard", "report", "--last", "5")
    assert "rolled back by a person after" in screen.out
    assert max(map(len, screen.out.splitlines())) <= 100
