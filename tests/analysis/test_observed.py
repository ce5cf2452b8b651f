"""Looking back: what left a version, who did it, and what the numbers advise; on plain values."""

from __future__ import annotations

import pytest
from values import replace

from backout.analysis.hindsight.track_record import (
    Advice,
    Outcome,
    Past,
    TrackRecord,
    Watched,
    find_missed,
    list_cases,
    make_track_record,
)
from backout.model.deployment import Deployment, DeploymentId, Share
from backout.model.guard.policy import Mode
from backout.model.remark import Code, Remark, RemarkKind
from backout.model.version import Mark, VersionId, VersionMark

ALARM = Watched("guard-1", Mode.OBSERVE, "d2", "new", 100.0, "regressed", 130.0, 105.0, "it fails", "hold", "observe")


def at(time: float, name: str, *shares: tuple[str, float], remark: Remark | None = None) -> Deployment:
    return Deployment(DeploymentId(name), time, tuple(Share(VersionId(v), p) for v, p in shares), claim=remark)


BACK = Remark(RemarkKind.ROLLBACK, "rollback-1a2b3c4d", code=Code("new"), text="it fails")


def past(*deployments: Deployment, now: float = 1000.0, built: dict[str, float] | None = None) -> Past:
    first = (at(0.0, "d1", ("old", 100.0)), at(100.0, "d2", ("new", 100.0)))
    return Past((*first, *deployments), built or {"old": 0.0, "new": 90.0, "newer": 200.0}, (), now)


def only(*deployments: Deployment, watch: Watched = ALARM) -> Outcome:
    (case,) = list_cases([watch], past(*deployments))
    return case.outcome


def test_who_made_it_leave() -> None:
    """An older version: by hand. A newer one: forward. The same one, or nothing: it stayed."""
    assert only(at(300.0, "d3", ("old", 100.0))) is Outcome.BY_HAND
    assert only(at(300.0, "d3", ("newer", 100.0))) is Outcome.FORWARD
    assert only(at(300.0, "d3", ("new", 100.0))) is Outcome.STAYED
    assert only() is Outcome.STAYED


def test_old_code_uploaded_again_is_a_rollback_by_its_mark() -> None:
    """The version is newer than the bad one, and still what was there before."""
    carried = at(300.0, "d3", ("newer", 100.0), remark=BACK)
    assert only(carried) is Outcome.BY_HAND


def test_canaries() -> None:
    """Taken back: by hand. Promoted: neither a rollback nor a miss, although the old version leaves."""
    split = (("old", 90.0), ("new", 10.0))
    begun = Past((at(0.0, "d1", ("old", 100.0)), at(100.0, "d2", *split)), {"old": 0.0, "new": 90.0}, (), 1000.0)
    back = replace(begun, deployments=(*begun.deployments, at(300.0, "d3", ("old", 100.0))))
    (case,) = list_cases([ALARM], back)
    assert case.outcome is Outcome.BY_HAND
    healthy = replace(ALARM, verdict="healthy", action="stable", rule="")
    promoted = replace(begun, deployments=(*begun.deployments, at(300.0, "d3", ("new", 100.0))))
    assert find_missed([healthy], promoted) == ((), 0)
    (taken_back,), unwatched = find_missed([healthy], back)
    assert (taken_back.version, taken_back.verdict, unwatched) == ("new", "healthy", 0)


def test_a_rollback_by_guard_is_never_missed() -> None:
    """Its mark says that nobody typed it, also from another machine."""
    auto = at(300.0, "d3", ("old", 100.0), remark=replace(BACK, auto=True))
    assert find_missed([], past(auto)) == ((), 0)
    healthy = replace(ALARM, verdict="healthy", action="stable", rule="")
    assert find_missed([healthy], past(auto)) == ((), 0)


def test_what_a_day_later_was_rolled_back_is_not_missed() -> None:
    """It had other reasons."""
    healthy = replace(ALARM, verdict="healthy", action="stable", rule="")
    late = at(130.0 + 86_401, "d3", ("old", 100.0))
    assert find_missed([healthy], past(late, now=2e5)) == ((), 0)
    soon = at(130.0 + 86_399, "d3", ("old", 100.0))
    assert len(find_missed([healthy], past(soon, now=2e5))[0]) == 1


def test_a_void_watch_is_no_case() -> None:
    """Another deployment took its place: its verdict says nothing."""
    assert list_cases([replace(ALARM, verdict="void", action="void")], past()) == ()


def test_ask_without_anybody_there_is_a_case() -> None:
    """The watch ended, and the question had no answer."""
    asked = replace(ALARM, mode=Mode.ASK, action="", rule="")
    (case,) = list_cases([asked], past())
    found = make_track_record("production", Mode.ASK, [asked], [case], past())
    assert found.held_by == {"an end before it could act": 1}
    said_no = replace(asked, action="hold")
    assert make_track_record("production", Mode.ASK, [said_no], list_cases([said_no], past()), past()).held_by == {
        "a person who said no": 1
    }


def test_a_release_of_another_version_is_no_false_alarm() -> None:
    """Only of this one, and only after the verdict."""
    mark = VersionMark(Mark.RELEASED, VersionId("new"), None, 500.0, "", "a scan")
    for given, expected in (
        (mark, "a person released it: a scan"),
        (replace(mark, version=VersionId("other")), ""),
        (replace(mark, at=120.0), ""),
        (replace(mark, mark=Mark.QUARANTINED), ""),
    ):
        (case,) = list_cases([ALARM], replace(past(), marks=(given,)))
        assert case.false_alarm == expected


def report(watches: list[Watched], mode: Mode = Mode.OBSERVE) -> TrackRecord:
    around = past(at(300.0, "d3", ("old", 100.0)))
    return make_track_record("production", mode, watches, list_cases(watches, around), around)


FINE = [replace(ALARM, run=f"guard-{n}", deployment=f"f{n}", version=f"v{n}", verdict="healthy") for n in range(30)]
BLIND = [replace(watch, verdict="inconclusive") for watch in FINE]


@pytest.mark.parametrize(
    ("watches", "mode", "advice"),
    [
        ([], Mode.OBSERVE, Advice.TOO_FEW),
        (FINE[:19], Mode.OBSERVE, Advice.TOO_FEW),
        ([*FINE[:19], ALARM], Mode.OBSERVE, Advice.ARM),
        ([*FINE[:19], replace(FINE[19], verdict="void")], Mode.OBSERVE, Advice.TOO_FEW),
        ([*FINE[:10], *BLIND[10:20]], Mode.ASK, Advice.ARM),
        ([*FINE[:9], *BLIND[9:20]], Mode.ASK, Advice.NOT_YET),
        ([*FINE[:19], ALARM, replace(ALARM, run="g", verdict="healthy", decided_at=250.0, since=140.0)], Mode.ASK,
         Advice.NOT_YET),
        (FINE[:3], Mode.ACT, Advice.ARMED),
    ],
    ids=["none", "19", "20", "void does not count", "half blind", "more than half blind", "false alarm", "armed"],
)  # fmt: skip
def test_advice(watches: list[Watched], mode: Mode, advice: Advice) -> None:
    """Twenty verdicts, no false alarm, and at least half of them verdicts indeed."""
    assert report(watches, mode).advice is advice
