"""The stage of the drills about itself: a long proof has visitors to its end."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, cast

from backout.twin.stage import VISIT_AT_MOST_S

from drillbook import Drillbook

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Counting:
    """A stage that only counts who comes and goes."""

    def __init__(self) -> None:
        self.came = self.went = 0

    @contextlib.contextmanager
    def visitors(self, _rate_per_s: float) -> Iterator[None]:
        """Count one more of each."""
        self.came += 1
        yield
        self.went += 1


def test_visitors_who_will_go_home_are_followed_by_others(tmp_path: Path) -> None:
    """They end by themselves after an hour; a proof that goes on longer would wait for them in vain."""
    book = Drillbook(tmp_path)
    stage = Counting()
    book.stage = cast("Any", stage)
    book.welcome()
    book.welcome()
    assert (stage.came, stage.went) == (1, 0)
    book._visited_since = time.monotonic() - VISIT_AT_MOST_S
    book.welcome()
    assert (stage.came, stage.went) == (2, 1)
    book.dismiss()
    assert stage.went == 2
