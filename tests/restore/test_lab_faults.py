"""Faults on the lab: what stands in the way of a restore never makes it quietly wrong, and is over when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from database_lab.covering import Combination, chosen, faulty_combinations, judged, known
from database_lab.faults import FAULTS, Fault
from database_lab.outcomes import UNSEEN, faulty
from database_lab.world import World, opened_world
from kept import template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KNOWN_BAD: dict[tuple[str, str], str] = {}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with opened_world(tmp_path_factory.mktemp("lab"), template()) as made:
        yield made


def test_no_fault_is_there_twice() -> None:
    """Each has a name of its own, by which its combinations are known again."""
    assert len({each.name for each in FAULTS}) == len(FAULTS)


@pytest.mark.proof
@pytest.mark.parametrize("case", chosen(faulty_combinations(), 1), ids=str)
def test_a_fault_is_named_or_does_no_harm(world: World, case: Combination, proof: Callable[..., None]) -> None:
    """The command is right, or refused; once the fault is over, it is right."""
    assert isinstance(case.what, Fault)
    fault = case.what
    outcome = known(case, lambda: faulty(world, fault, case.path, case.seed, busy=case.busy))
    judged(case, outcome, proof, KNOWN_BAD)
    assert not fault.heals or outcome.code in (0, UNSEEN), outcome
