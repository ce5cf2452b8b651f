"""What is kept of a version that was found healthy."""

from __future__ import annotations

from backout.analysis.detector.measured import MOST, summarize_version
from backout.providers.memory import make_answering


def test_answers_are_kept_by_class_and_route() -> None:
    """The version's own rows alone; errors, classes that are counted apart, and what is left is good."""
    rule = make_answering({"GET /": {200: 8, 404: 2}, "POST /api/orders": {500: 1, 201: 1}})
    rows = [rule(second, version) for second in range(10) for version in ("v1", "v2")]
    found = summarize_version([row for row in rows if row is not None], "v2")
    assert (found["requests"], found["errors"], found["classes"]) == (120, 10, {"404": 20})
    assert found["good_share"] == 0.75
    assert found["routes"] == {
        "GET /": {"requests": 100, "good_share": 0.8},
        "POST /api/orders": {"requests": 20, "good_share": 0.5},
    }


def test_many_routes_are_cut_and_nothing_is_no_share() -> None:
    """The busiest are kept; without a request there is no share."""
    rule = make_answering({f"GET /{number:02}": {200: 1 + number} for number in range(30)})
    row = rule(0, "v1")
    assert row is not None
    routes = summarize_version([row], "v1")["routes"]
    assert isinstance(routes, dict)
    assert (len(routes), next(iter(routes))) == (MOST, "GET /29")
    assert summarize_version([], "v1")["good_share"] is None
