"""What a flight recorder costs: the figures worked out by hand from Cloudflare's prices."""

from __future__ import annotations

import pytest

from backout.config.init.bill import RATES, Sink, count_stores, estimate_isolates, make_bill


def test_how_often_isolates_store() -> None:
    """Twenty hours of deployments at two seconds, the rest at sixty; for R2 each new isolate is quick, too."""
    often, rarely = 60 * 1200 / 2, (30 * 86_400 - 60 * 1200) / 60
    assert (often, rarely) == (36_000, 42_000)
    assert count_stores("object", 1000) == pytest.approx(200 * 78_000)
    assert count_stores("r2", 1000) == pytest.approx(200 * (90 * 1200 / 2 + (30 * 86_400 - 90 * 1200) / 60))


def test_none_stores_more_often_than_it_sees_a_request() -> None:
    """One request in a hundred seconds: each is a store, however many isolates are guessed."""
    assert count_stores("object", 0.01) == pytest.approx(25_920, rel=0.01)


@pytest.mark.parametrize(
    ("sink", "rate", "cpu", "stores"),
    [
        # CPU: 0.2 ms of each event, 30 million ms included, $0.02 a million
        # R2: 95,400 stores of each isolate, the first million included, $4.50 each further one begun
        ("r2", 10, 0.0, 4.5),  # 20 isolates: 1,908,000 stores, one more million
        ("r2", 100, 21.84 * 0.02, 6 * 4.5),  # 64 isolates: 6,105,600 stores
        ("r2", 1000, 488.4 * 0.02, 19 * 4.5),  # 200 isolates: 19,080,000 stores
        # the object: 78,000 stores of each isolate; a million requests, 50 million rows, 400,000 GB-s included
        ("object", 10, 0.0, 0.15),  # 1,560,000 requests
        ("object", 100, 21.84 * 0.02, 4 * 0.15),  # 4,992,000 requests
        ("object", 1000, 488.4 * 0.02, 15 * 0.15),  # 15,600,000 requests, 46.8 million rows, 19,968 GB-s
    ],
)
def test_the_bill(sink: Sink, rate: float, cpu: float, stores: float) -> None:
    """The plan, the CPU time of the Tail Worker and its stores."""
    bill = make_bill(sink, rate)
    assert (bill.plan, bill.cpu, bill.stores) == (5.0, pytest.approx(cpu), pytest.approx(stores))
    assert bill.total == pytest.approx(5.0 + cpu + stores)


def test_many_rows_cost_something() -> None:
    """Ten thousand requests a second: 633 isolates, 49.4 million stores, 148 million rows of which 50 are included."""
    assert estimate_isolates(10_000) == 633
    assert make_bill("object", 10_000).stores == pytest.approx(49 * 0.15 + 99 * 1.0)


def test_the_object_is_the_cheaper_one() -> None:
    """At every rate that is printed: it is what init writes."""
    assert all(make_bill("object", rate).total < make_bill("r2", rate).total for rate in RATES)
