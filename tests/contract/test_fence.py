"""Port Fence: one suite on a database in memory and on a real Postgres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from fence_lab import DEADLINE, Shop, Writer, running_server
from values import replace

from backout.errors import Refused
from backout.model.database.fence import FenceOrder
from backout.providers.memory import World

from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class MemorySide:
    """A World's database."""

    world: World

    def __post_init__(self) -> None:
        self.fence = self.world.fence

    def write(self) -> bool:
        """Write as the application does; return whether it was let in."""
        return self.fence.write()

    def prepare(self) -> None:
        """Leave a prepared transaction."""
        self.fence.live.prepared.append("held")

    def roles(self) -> object:
        """Return all that a fence changes."""
        return dict(self.fence.live.roles), dict(self.fence.live.comments)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with running_server(tmp_path_factory.mktemp("fence")) as port:
        yield port


@pytest.fixture(params=["memory", "postgres"])
def side(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MemorySide | Shop]:
    if request.param == "memory":
        yield MemorySide(World())
        return
    shop = Shop(request.getfixturevalue("port"), tmp_path)
    yield shop
    shop.fence.close()


def order(side: MemorySide | Shop, run: str = "r1") -> FenceOrder:
    return FenceOrder(run, "ann@host", DEADLINE, side.fence.survey().planned)


def test_a_fence_keeps_the_application_out(side: MemorySide | Shop) -> None:
    """It writes before and after, and not while the fence stands, which is proved."""
    before = side.roles()
    assert side.write()
    mark = side.fence.raise_fence(order(side))
    assert not side.write()
    proof = side.fence.prove(mark.lsn, quiet_s=0.5)
    assert proof.holds, proof.why
    standing = side.fence.read()
    assert standing is not None
    assert (standing.run, standing.actor, standing.deadline) == ("r1", "ann@host", DEADLINE)
    assert replace(standing, lsn=mark.lsn) == mark
    side.fence.open(mark)
    assert side.roles() == before
    assert side.fence.read() is None
    assert side.write()


def test_a_fence_may_be_raised_and_opened_again(side: MemorySide | Shop) -> None:
    """What was before it stays known, and a second opening finds nothing to do."""
    before = side.roles()
    first = side.fence.raise_fence(order(side))
    second = side.fence.raise_fence(order(side))
    assert replace(second, lsn=0) == replace(first, lsn=0)
    assert second.lsn >= first.lsn
    side.fence.open(second)
    side.fence.open(second)
    assert side.roles() == before


def test_another_runs_fence_is_left_alone(side: MemorySide | Shop) -> None:
    """Neither raised over nor opened."""
    mark = side.fence.raise_fence(order(side))
    with pytest.raises(Refused, match="fence of run r1 stands"):
        side.fence.raise_fence(order(side, "r2"))
    with pytest.raises(Refused, match="fence of run r1 stands"):
        side.fence.open(replace(mark, run="r2"))
    assert side.fence.read() is not None


def test_a_prepared_transaction_refuses_the_fence(side: MemorySide | Shop) -> None:
    """It could be committed by anyone at any time."""
    side.prepare()
    assert "prepared" in " ".join(each.reason for each in side.fence.survey().refusals)
    with pytest.raises(Refused, match="prepared"):
        side.fence.raise_fence(order(side))
    assert side.write()


def test_an_application_that_never_gives_up_is_kept_out(port: int, tmp_path: Path) -> None:
    """It connects every 10 ms in three threads: no row appears behind the fence, and none before it is lost."""
    shop = Shop(port, tmp_path)
    with Writer(shop) as writer:
        until(lambda: len(writer.acknowledged) > 60, timeout_s=30)
        mark = shop.fence.raise_fence(order(shop))
        through, refused = len(writer.acknowledged), writer.refused
        rows = shop.administer("SELECT count(*) FROM orders")
        proof = shop.fence.prove(mark.lsn, 1.0)
        until(lambda: writer.refused > refused + 20, timeout_s=30)
        assert proof.holds, proof.why
        assert len(writer.acknowledged) == through
        assert shop.administer("SELECT count(*) FROM orders") == rows
        shop.fence.open(mark)
        until(lambda: len(writer.acknowledged) > through + 20, timeout_s=30)
    found = {number for (number,) in shop.administer("SELECT id FROM orders")}
    assert found >= {number for number, _ in writer.acknowledged}
