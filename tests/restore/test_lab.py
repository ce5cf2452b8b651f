"""The lab: that it covers what it claims, and that its ledger sees what is wrong; rescues and their undo."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from cli_shell import Answer
from database_lab.claims import find_claim
from database_lab.covering import (
    UNCLAIMED,
    WENT_ON,
    Combination,
    chosen,
    combinations,
    faulty_combinations,
    judged,
    known,
)
from database_lab.damages import DAMAGES, PATHS, Damage
from database_lab.faults import FAULTS
from database_lab.going_on import find_way_on
from database_lab.ledger import Ledger, differences
from database_lab.load import initial, unique_names
from database_lab.naming import is_named
from database_lab.outcomes import Outcome, combination
from database_lab.world import World, opened_world
from kept import template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KNOWN_BAD: dict[tuple[str, str], str] = {}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with opened_world(tmp_path_factory.mktemp("lab"), template()) as made:
        yield made


def test_every_damage_meets_every_path_and_every_path_both_loads() -> None:
    """At least 150 combinations, half of them beside a load; at least 40 faults."""
    every = list(combinations(*PATHS))
    assert len(every) >= 150
    assert {(each.what.name, each.path) for each in every} == {(d.name, path) for d in DAMAGES for path in PATHS}
    assert {(each.path, each.busy) for each in every} == {(path, busy) for path in PATHS for busy in (False, True)}
    assert abs(sum(each.busy for each in every) * 2 - len(every)) <= len(PATHS)
    assert len({(each.seed, each.path) for each in every}) == len(every)
    faulty = list(faulty_combinations())
    assert len(faulty) >= 40
    assert {each.what.name for each in faulty} == {each.name for each in FAULTS}


def test_the_ledger_sees_every_kind_of_difference() -> None:
    """A row too few, one too many, a value, a table that is gone; what is named is not silent."""
    import random  # noqa: PLC0415 here alone

    truth = Ledger()
    for table, key, row in initial(random.Random(1)):  # noqa: S311 seeded
        truth.put(table.name, key, row)
    assert unique_names() == set(truth.rows)
    assert len(truth.rows) >= 60
    found: dict[str, object] = {
        name: {key: dict(row) for key, row in rows.items()} for name, rows in truth.rows.items()
    }
    assert differences(truth, found) == {}  # type: ignore[arg-type]
    found["shop.orders"].pop(("3",))  # type: ignore[attr-defined]
    found["shop.orders"]["99",] = {}  # type: ignore[index]
    found["shop.floats"]["4",]["a"] = "0.10000000000000001"  # type: ignore[index]
    found["shop.dates"] = "relation does not exist"
    wrong = differences(truth, found)  # type: ignore[arg-type]
    assert {table: len(said) for table, said in wrong.items()} == {"shop.orders": 2, "shop.floats": 1, "shop.dates": 1}
    assert set(Outcome(0, wrong, "shop.orders shop.floats shop.dates").silent) == set(wrong)
    assert set(Outcome(1, wrong, "shop.orders: 2 rows not there\nshop.dates").silent) == {"shop.floats", "shop.dates"}
    assert Outcome(1, wrong, "shop.orders: left: 3, 99\nleft out: column shop.floats.a: x").silent == {
        "shop.dates": ["relation does not exist"]
    }


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ("shop.orders   12  0  0  0  status, price", False),
        ("shop.orders   12  0  0  1  status, price", False),
        ("shop.orders   12  0  0  2  status, price", True),
        ("shop.orders   1  0  0  2  status\nshop.orders: left as they are (changed again since): 5, 6", False),
        ("shop.orders   1  0  0  9  status\nshop.orders: left as they are (changed again since): 5, 6, ...", True),
        ("shop.orders   0  0  0  0  it has no primary key", True),
        ("shop.orders: left as they are (changed again since): 20", False),
        ("shop.orders: left as they are (changed again since): 20, 3", True),
        ("shop.orders: 4 damaged rows were written since in other columns: those stay (20, 3)", False),
        ("NOT AS BEFORE: shop.orders: 2 rows still as the damage left them", True),
        ("NOT AS BEFORE: shop.orders: 1 rows still as the damage left them", False),
        ("left out: table shop.orders: unlogged", True),
        ("left out: table shop.orders_old: unlogged", False),
        ("left out: column shop.orders.status: it is gone", False),
        ("left out: column shop.orders.status: it is gone\nleft out: column shop.orders.price: it is gone", False),
        ("made again: GRANT SELECT ON TABLE shop.orders TO lab_app;", False),
    ],
)
def test_a_loss_is_named_by_its_table_and_its_number_or_rows(said: str, names: bool) -> None:
    """A table's name alone names no loss; nor does the number of rows that came back."""
    wrong = ["('20',) status: 'lost', not 'new'", "('20',) price: '0', not '1'", "('3',) is not there"]
    assert is_named("shop.orders", wrong, said) is names


def test_a_loss_in_a_partition_is_named_by_it() -> None:
    """All partitions that hold what is wrong, and those alone."""
    wrong = ["('23', '2') should not be there", "('20', '2') should not be there"]
    said = "left out: shop.days_high_x: the table stays: rows were written since"
    stays = "shop.days_high_x  0  0  0  0  the table stays: rows were written since"
    assert is_named("shop.days", wrong, f"{stays}\n{said}")
    assert not is_named("shop.days", wrong, stays.replace("_x", "_0"))
    assert not is_named("shop.days", [*wrong, "('1', '1') should not be there"], stays)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(0, "✓ protected: restorable to any moment", ""), "✓ protected: restorable to any moment"),
        (Answer(1, "it was well\nlab is protected again", ""), "lab is protected again"),
        (Answer(0, "  receiver  process 7", ""), "exit code 0"),
        (Answer(1, "✗ UNPROTECTED: WAL was lost from 0/450A840 to 0/8000000", "next: backout db backup"), ""),
        (Answer(1, "it was protected last at 2026-11-30T18:58:52.073Z, 0/B600CC8", ""), ""),
        (Answer(7, "whether it is protected is not known: the live database does not answer", ""), ""),
    ],
)
def test_a_claim_is_seen_in_a_line_or_in_the_exit_code(answer: Answer, said: str) -> None:
    """Whatever else the answer says."""
    assert find_claim(answer) == said


@pytest.mark.parametrize(
    ("outcome", "failed"),
    [
        (Outcome(0, {}, ""), {}),
        (Outcome(3, {}, "", claims=()), {UNCLAIMED: 0}),
        (Outcome(3, {}, "", claims=("backout db check: exit code 0",)), {UNCLAIMED: 1}),
        (Outcome(5, {}, "stopped", went_on=""), {WENT_ON: 1}),
        (Outcome(5, {}, "stopped", went_on="backout runs resume r-1"), {WENT_ON: 1}),
        (Outcome(0, {}, "done", went_on="backout runs resume r-1"), {WENT_ON: 0}),
        (Outcome(0, {"shop.dates": ["('1',) is not there"]}, "done", went_on="backout runs resume r-1"), {WENT_ON: 1}),
        (
            Outcome(1, {"shop.dates": ["('1',) is not there"]}, "shop.dates: 1 rows not there", went_on="x"),
            {WENT_ON: 0},
        ),
        (
            Outcome(3, {"shop.dates": ["('1',) is not there"]}, "shop.dates: 1 rows not there", went_on="x"),
            {WENT_ON: 0},
        ),
        (Outcome(3, {"shop.dates": ["('1',) is not there"]}, "refused", went_on="x"), {WENT_ON: 1}),
    ],
)
def test_a_claim_across_a_gap_and_a_way_on_that_leads_nowhere_fail(outcome: Outcome, failed: dict[str, int]) -> None:
    """Each counted in a line of its own, and only where it could fail."""
    counted: dict[str, int] = {}

    def record(claim: str, *, trials: int, failures: int, note: str = "") -> None:
        assert trials == 1
        counted[claim] = failures

    case = Combination(FAULTS[0], "rescue", busy=False, seed=1)
    with pytest.raises(AssertionError) if any(failed.values()) else contextlib.nullcontext():
        judged(case, outcome, record, KNOWN_BAD)
    assert {claim: failures for claim, failures in counted.items() if claim in (UNCLAIMED, WENT_ON)} == failed


def test_what_goes_on_is_found_where_it_is_told() -> None:
    """As a person reads it, and in JSON; what only shows a run goes nowhere."""
    assert find_way_on("error: stopped in step 7\n  next: backout runs resume recover-b08a9e3c\n") == (
        "runs resume recover-b08a9e3c"
    )
    assert (
        find_way_on('{"hint":"backout runs resume recover-b08a9e3c","exit_code":5}') == "runs resume recover-b08a9e3c"
    )
    assert find_way_on("  next: backout runs show recover-b08a9e3c\n") == ""


@pytest.mark.proof
@pytest.mark.parametrize("case", chosen(combinations("rescue"), 1), ids=str)
def test_a_rescue_is_right_or_says_what_is_not(world: World, case: Combination, proof: Callable[..., None]) -> None:
    """Every row, against what the clients know to be committed."""
    assert isinstance(case.what, Damage)
    damage = case.what
    outcome = known(case, lambda: combination(world, damage, case.path, case.seed, busy=case.busy))
    judged(case, outcome, proof, KNOWN_BAD)
