"""The benchmark of failures of two seconds that heal, and of those that go on, at small counts."""

from __future__ import annotations

import json
import math

from shared import blips


def test_blips_are_left_alone_and_failures_that_go_on_are_not() -> None:
    """At 50 requests/s, whatever share fails: no blip is rolled back, the others within a few seconds."""
    found = blips.measure([(kind, 2) for kind, _ in blips.plan("quick") if kind.rate == 50], 1)
    assert {delay for kind, delays in found.items() if kind.heals for delay in delays} == {math.inf}
    assert all(2 < delay < 7 for kind, delays in found.items() if not kind.heals for delay in delays)
    said = blips.text(found)
    assert "| 50 | 100% | 0 of 2 | 2 of 2 | " in said
    assert "| 5 | 10 | 0 of 2 |" in said
    assert json.loads(json.dumps(blips.record(found), allow_nan=False))["ratios"]["blip, 3 routes, 50/s, 50%"] == 0


def test_what_is_never_found_is_null_in_the_record() -> None:
    """JSON has no infinity."""
    kind = next(kind for kind, _ in blips.plan("quick") if not kind.heals)
    found = {kind: [3.5, math.inf]}
    record = json.loads(json.dumps(blips.record(found), allow_nan=False))
    assert record["samples"] == {"goes on, 3 routes, 5/s, 20%": [3.5, None]}
    assert record["ratios"] == {"goes on, 3 routes, 5/s, 20%": None}
    assert "| 5 | 20% | 0 of 0 | 1 of 2 | 3.5 s |" in blips.text(found)
