"""An armed guard on the twin while the platform and the source of counts answer from the bag: it still rolls back."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

import pytest
from api_gate import api_gate
from nastiness import BYTES, JSON

from polling import PATIENCE_S
from streamed import await_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from drillbook import Drillbook

NOTHING_YET = b'{"counts": [], "complete_until": 0, "sampled": false}'


def every_other(armed: threading.Event, given: list[str]) -> Callable[[str, str, bytes], bytes]:
    """Return what gives something of the bag in place of every other answer to a question, once guard is armed."""
    turns, bag = itertools.cycle((True, False)), itertools.cycle((*JSON, *BYTES))

    def alter(method: str, _path: str, body: bytes) -> bytes:
        if method != "GET" or not armed.is_set() or not next(turns):
            return body
        nasty = next(bag)
        given.append(nasty.name)
        return nasty.content

    return alter


@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
def test_an_armed_guard_among_hostile_answers(drillbook: Drillbook) -> None:
    """Every other answer of the API and of the router is something of the bag."""
    trial = drillbook.trial()
    armed, api_given, counts_given = threading.Event(), list[str](), list[str]()
    with (
        api_gate(str(drillbook.stage.twin.api_base_url)) as api,
        api_gate(f"{drillbook.stage.twin.ingress_url}/twin/v1") as counts,
    ):
        trial.behind(api.url).replace((r'url = "[^"]*/twin/v1"', f'url = "{counts.url}"'))
        counts.alter = lambda _method, path, body: NOTHING_YET if "/counts" in path else body
        trial.make_live(drillbook.bad)
        process = trial.start("guard", "--json")
        await_line(process, '"tick"')
        armed.set()
        api.alter, counts.alter = every_other(armed, api_given), every_other(armed, counts_given)
        _, err = process.communicate(timeout=PATIENCE_S)
        armed.clear()
        assert process.returncode == 1, err
        assert trial.live() == drillbook.good, err
    assert len(api_given) >= 2, err
    assert counts_given, err
    assert "mistake in backout" not in err
