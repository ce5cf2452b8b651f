"""An environment at a glance, from a status that another version of backout may have written."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from backout.runbook.serve.overviews import EnvironmentView, KeptStatus
from backout.web.cards import Card

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


def test_counts_that_are_no_numbers_are_not_measured() -> None:
    record = {"traffic": {"error_rate": 0.5, "requests": "many"}}
    card = Card(EnvironmentView("app", False, KeptStatus(record, 0.0), "", None, None), 1.0)
    assert card.failed_share == ("dim", "not measured")
