"""Undo of rescues on the lab: every row as it was before the rescue, but for what others have written since."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from database_lab.covering import Combination, chosen, combinations, judged, known
from database_lab.damages import Damage
from database_lab.outcomes import combination
from database_lab.world import World, opened_world
from kept import template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KNOWN_BAD: dict[tuple[str, str], str] = {}
EVERY = list(combinations("undo"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with opened_world(tmp_path_factory.mktemp("lab"), template()) as made:
        yield made


def test_both_loads_occur() -> None:
    """On every path of this file."""
    assert {(each.path, each.busy) for each in EVERY} == {(path, busy) for path in ("undo",) for busy in (True, False)}


@pytest.mark.proof
@pytest.mark.parametrize("case", chosen(EVERY, 1), ids=str)
def test_it_is_right_or_says_what_is_not(world: World, case: Combination, proof: Callable[..., None]) -> None:
    """Every row, against what the clients know to be committed."""
    assert isinstance(case.what, Damage)
    damage = case.what
    outcome = known(case, lambda: combination(world, damage, case.path, case.seed, busy=case.busy))
    judged(case, outcome, proof, KNOWN_BAD)
