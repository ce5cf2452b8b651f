"""An environment at a glance, from a status that another version of backout may have written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st
from journal.toy import FakeClock
from msgspec.structs import replace
from web_lab import STAGING, make_lab, make_plan

from backout.model.incident.incident import RunState
from backout.runbook.serve.overviews import EnvironmentView, KeptStatus
from backout.web.cards import Card

if TYPE_CHECKING:
    from pathlib import Path

KEYS = (
    *(
        "live_version",
        "stable",
        "quarantined",
        "health",
        "traffic",
        "troubles",
        "unmeasured",
        "hold",
        "closed",
        "drill",
    ),
    *("error", "message", "services", "state", "reach", "overall", "error_rate", "requests", "problem", "why"),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["down", "ok"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


TRAFFIC = st.fixed_dictionaries({"error_rate": VALUES, "requests": VALUES}, optional={"problem": VALUES})
HEALTH = st.fixed_dictionaries({"reach": VALUES, "overall": VALUES, "services": VALUES})


@given(
    record=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8), traffic=TRAFFIC | VALUES, health=HEALTH | VALUES
)
def test_whatever_was_kept_is_shown(record: dict[str, Any], traffic: object, health: object) -> None:
    """Words for each part, and no mistake: the page of the others would be none either."""
    kept = KeptStatus({**record, "traffic": traffic, "health": health}, 0.0)
    card = Card(EnvironmentView("app", False, kept, "", None, None), 1.0)
    words = [card.word, card.tone, card.live, card.hold, *card.mark, *card.health, *card.failed_share, *card.needs]
    assert all(isinstance(each, str) for each in words)
    assert hasattr(card.drill, "get")


def show(status: KeptStatus | None, worker: str, looked_since: float | None, now: float) -> Card:
    return Card(EnvironmentView("app", False, status, worker, None, None, looked_since), now)


def test_what_a_worker_reads_anew_is_not_only_old() -> None:
    """At a first glance; when a worker has not read it by and by, or there is none, it is old, or not known."""
    kept = KeptStatus({"live_version": "v-0"}, 0.0)
    glance = show(kept, "worker-1", 1000.0, 1001.0)
    assert (glance.tone, glance.word) == ("note", "being read")
    assert glance.needs == ("nobody looked for a while: what is shown is old, and is being read anew",)
    first = show(None, "worker-1", 1000.0, 1001.0)
    assert (first.word, first.needs[0].partition(":")[0]) == ("being read", "it is being read for the first time")
    for status, worker, now in ((kept, "worker-1", 1031.0), (None, "worker-1", 1031.0), (kept, "", 1001.0)):
        card = show(status, worker, 1000.0, now)
        assert (card.word, card.is_being_read) == ("not known", False)
    assert not show(KeptStatus({"live_version": "v-0"}, 1000.5), "worker-1", 1000.0, 1001.0).is_being_read
    assert show(KeptStatus({"troubles": ["it fails"]}, 0.0), "worker-1", 1000.0, 1001.0).word == "being read"


def test_the_site_knows_since_when_somebody_looks(tmp_path: Path) -> None:
    """Since the first look after a while without any."""
    site = make_lab(tmp_path, told=()).site
    try:
        site.clock = clock = FakeClock(1000.0)
        seen = []
        for at in (1000.0, 1002.0, 1030.0, 1059.0, 1100.0, 1200.0):
            clock.at = at
            (view,) = site.read_views((STAGING,))
            seen.append(view.looked_since)
        assert seen == [1000.0] * 5 + [1200.0]
    finally:
        site.close()


def test_counts_that_are_no_numbers_are_not_measured() -> None:
    record = {"traffic": {"error_rate": 0.5, "requests": "many"}}
    card = Card(EnvironmentView("app", False, KeptStatus(record, 0.0), "", None, None), 1.0)
    assert card.failed_share == ("dim", "not measured")


def test_what_is_old_is_not_shown_as_what_is() -> None:
    """Troubles that were read before a rollback are told as such, and nothing is marked as good or bad by them."""
    told = {
        "live_version": "v-1",
        "troubles": ["9 requests failed in the last 5 min, the last one 1.3 s ago"],
        "traffic": {"error_rate": 0.3, "requests": 30},
        "health": {"reach": "answered", "overall": "ok", "services": {}},
        "stable": True,
    }
    kept = KeptStatus(told, 0.0)
    now = show(kept, "worker-1", None, 1.0)
    assert (now.word, now.needs) == ("needs you", tuple(told["troubles"]))
    assert (now.failed_share[0], now.health[0], now.mark[0]) == ("bad", "good", "good")
    glance = show(kept, "worker-1", 1000.0, 1001.0)
    assert (glance.word, glance.tone) == ("being read", "note")
    assert glance.needs[0].startswith("nobody looked for a while")
    assert glance.needs[1] == f"when it was read last: {told['troubles'][0]}"
    assert [glance.failed_share[0], glance.health[0], glance.mark[0]] == ["dim"] * 3
    dead = show(kept, "", None, 1001.0)
    assert (dead.word, dead.needs[0]) == ("needs you", "what is shown is old: no worker has read it since")


def test_a_run_that_waits_needs_somebody(tmp_path: Path) -> None:
    """It is marked as what waits, and not as what goes on; a hold beside it is told, and is not its word."""
    site = make_lab(tmp_path, told=()).site
    try:
        found = site.journal.find(site.journal.submit(make_plan(STAGING), actor="eve", reason="it fails"))
    finally:
        site.close()
    assert found is not None
    run = replace(found, state=RunState.WAITING)
    for record in ({"live_version": "v-0"}, {"hold": {"why": "I look"}}):
        card = Card(EnvironmentView("app", False, KeptStatus(record, 0.0), "worker-1", run, None), 1.0)
        assert (card.tone, card.word) == ("warn", "needs you")
        assert any("waiting" in each for each in card.needs)
    unread = Card(EnvironmentView("app", False, None, "worker-1", run, None), 1.0)
    assert any("waiting" in each for each in unread.needs), "the journal tells it before anything is read"


def test_a_hold_says_until_when() -> None:
    """Whoever repairs data by hand has to know; one without an end lasts until somebody lifts it."""
    for until, words in (
        ("2026-12-03T02:08:30Z", "data, until 2026-12-03 02:08 UTC"),
        (None, "data, until somebody lifts it"),
        ("soon", "data"),
    ):
        kept = KeptStatus({"hold": {"why": "data", "until": until}}, 0.0)
        assert show(kept, "w", 0.0, 1.0).hold == words
    asked = KeptStatus({"hold": {"why": "data (asked for by eve (ops), request 75)", "until": None}}, 0.0)
    assert show(asked, "w", 0.0, 1.0).hold == "data (eve (ops)), until somebody lifts it"
