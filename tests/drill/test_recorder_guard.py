"""Guard by the flight recorder's own object, on real parts: quiet before a deployment, quick after it."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING

import pytest
from recorder_lab import SECRET, add_counter, call, counter, counter_url

from backout.model.guard.signals import sum_counts
from backout.twin.stage import SCRIPT

from polling import PATIENCE_S, until
from private import write_private

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drillbook import Drillbook, Trial

RECORDER = "guard-recorder"
PAST_S = 30


@pytest.fixture
def recorded(drillbook: Drillbook) -> Iterator[Trial]:
    """A trial whose counts come from a recorder that is quiet, as its version is no longer new."""
    twin = drillbook.stage.twin
    add_counter(twin, RECORDER, HURRY_MS="15000")
    _consume(drillbook, RECORDER)
    try:
        trial = drillbook.trial()
        secret = drillbook.stage.directory / "recorder-secret"
        write_private(secret, SECRET)
        recorder = f'{{ url = "{counter_url(twin, RECORDER)}", secret_file = "{secret}" }}'
        yield trial.replace(
            (r"traffic = \{[^\n]*\}", f'traffic = {{ provider = "recorder", recorder = {recorder} }}'),
            (r'baseline = "\d+s"', f'baseline = "{PAST_S + 120}s"'),
        )
    finally:
        _consume(drillbook)


def _consume(drillbook: Drillbook, *consumers: str) -> None:
    body = json.dumps({"tail_consumers": [{"service": name} for name in consumers]}).encode()
    call(drillbook.stage.twin, "PATCH", f"workers/scripts/{SCRIPT}/script-settings", body)


@pytest.mark.long
def test_the_object_counts_what_the_router_counts(drillbook: Drillbook, recorded: Trial) -> None:
    """Of the sample application with its visitors: every second and version, once it is final."""
    router = drillbook.trial().tools().traffic
    source = recorded.tools().traffic
    assert router is not None
    assert source is not None
    since = int(time.time()) + 3

    def is_counted() -> bool:
        page = source.read(since, since + 6)
        return page.complete_until >= since + 6 and sum_counts(page.counts)[0] > 50

    until(is_counted, PATIENCE_S, "the recorder counts", every_s=0.5)
    ours, theirs = (sum_counts(each.read(since, since + 6).counts) for each in (source, router))
    assert abs(ours[0] - theirs[0]) <= 0.1 * theirs[0], "at the edges of the span alone"
    assert ours[1] == theirs[1]


@pytest.mark.long
@pytest.mark.rotating("recorder", 3)
def test_guard_finds_a_bad_version_through_the_object(drillbook: Drillbook, recorded: Trial) -> None:
    """The recorder stores every minute; for the new version at once, so that guard rolls back within its watch."""
    begun = int(time.time())
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(counter(drillbook.stage.twin, SCRIPT, RECORDER))

        def has_past() -> bool:
            return time.time() > begun + PAST_S + 75

        until(has_past, PAST_S + 75, "the version is no longer new, and one round of the rhythm is over", every_s=1)
        before = source.read(begun, int(time.time()))
        assert sum_counts(before.counts)[0] > 100
        assert before.complete_until < time.time() - 8, "it was quiet: not all of the last minute is there"
    recorded.make_live(drillbook.bad)
    ended = recorded.run("guard", "--json")
    result = ended.json
    assert result["verdict"] == "regressed", ended.err
    assert (ended.code, result["live_version"]) == (1, drillbook.good), ended.err
    assert "advice" not in ended.err
