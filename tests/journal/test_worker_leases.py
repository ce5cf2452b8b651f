"""Which worker guards what: each environment one, whoever is silent loses it, and whoever lost it writes nothing."""

from __future__ import annotations

import threading
from random import Random
from typing import TYPE_CHECKING

import pytest
from journal import toy

from backout.errors import Busy
from backout.journal.lease import Holder
from backout.journal.postgres_store import PostgresStore
from backout.journal.stored import StoredJournal
from backout.journal.worker_leases import LEASE_S, WorkerLeases, read_guards

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("engine")

NAMES = ("production", "staging", "preview")


class Team:
    """Workers that use one journal, whose clock stands still."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.clock = folder, toy.FakeClock()
        self.journal = self.open()

    def open(self) -> StoredJournal:
        return toy.journal_in(self._folder, clock=self.clock)

    def worker(self, name: str, *, group: str = "all", names: tuple[str, ...] = NAMES) -> WorkerLeases:
        me = Holder(f"here#1/{name}", len(name), name, "backout worker")
        return WorkerLeases(self.open()._store, me, names, group=group, actor=name)


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path)


def test_what_one_has_taken_no_other_gets_until_it_was_silent_for_too_long(team: Team) -> None:
    one, two = team.worker("one"), team.worker("two")
    one.renew()
    assert one.take(NAMES[:2]) == NAMES[:2]
    assert two.renew().free == ("preview",)
    assert two.take(NAMES) == ("preview",)
    assert one.renew().others == {"worker:2": 1}
    team.clock.sleep(LEASE_S - 1)
    two.renew()  # "one" is silent
    team.clock.sleep(2)
    seen = two.renew()
    assert (seen.held, seen.free, seen.others) == ({"preview"}, ("production", "staging"), {})
    assert two.take(seen.free) == seen.free
    late = one.renew()
    assert (late.held, set(late.lost)) == (frozenset(), {"production", "staging"})
    assert set(read_guards(team.journal._store)) == set(NAMES)


def test_what_is_remembered_is_what_would_be_read(team: Team) -> None:
    """However three workers take, give back, fall silent and come again: a renewal tells what a new look tells."""
    workers = [team.worker(name) for name in ("one", "two", "three")]
    random = Random(22)  # noqa: S311 - a seed
    remembered = 0
    for _ in range(150):
        worker = random.choice(workers)
        seen = worker.renew()
        remembered += worker.renew() is seen
        worker._last = None
        read = worker.renew()
        assert (seen.held, seen.free, seen.others) == (read.held, read.free, read.others)
        random.choice(
            (
                lambda: worker.take(random.sample(NAMES, 2)),  # noqa: B023 - called at once
                lambda: worker.give_back(random.sample(NAMES, 2)),  # noqa: B023
                lambda: team.clock.sleep(LEASE_S / 2),
                worker.leave,
                lambda: None,
            )
        )()
    assert (remembered > 0) == isinstance(team.journal._store, PostgresStore)


def test_a_higher_fence_each_time_and_an_event_that_says_instead_of_whom(team: Team) -> None:
    one, two = team.worker("one"), team.worker("two")
    one.take(["production"])
    team.clock.sleep(LEASE_S + 1)
    two.take(["production"])
    first, second = team.journal.events(kind="worker.took")
    assert (first.environment, first.data.get("instead_of")) == ("production", None)
    assert second.data["instead_of"] == "pid 3 on here (backout worker)"
    assert int(str(second.data["fence"])) > int(str(first.data["fence"]))


def test_what_was_given_back_is_free_at_once(team: Team) -> None:
    one, two = team.worker("one"), team.worker("two")
    one.renew()
    one.take(NAMES)
    one.give_back(["staging"])
    assert two.renew().free == ("staging",)
    one.leave()
    seen = two.renew()
    assert (seen.free, seen.others) == (NAMES, {})


def test_those_with_other_environments_are_not_counted(team: Team) -> None:
    one, other = team.worker("one"), team.worker("other", group="else", names=("production",))
    one.renew()
    other.renew()
    assert one.renew().others == {}


def test_seats_are_used_again(team: Team) -> None:
    """However many workers have come and gone, there are as many seats as were needed at once."""
    for number in range(5):
        worker = team.worker(f"number {number}")
        worker.renew()
        worker.leave()
    left = team.worker("left")
    left.renew()
    assert team.worker("other").renew().others == {"worker:1": 0}


def test_who_is_not_on_duty_any_more_writes_nothing(team: Team, tmp_path: Path) -> None:
    """Each kind of write is refused, and nothing is done; those of another journal go on."""
    world = toy.World(tmp_path)
    one, two, journal = team.worker("one"), team.worker("two"), team.open()
    one.take(["staging"])
    journal.duty = one.find("staging")
    journal.note("staging", "change.began", "first", {}, actor="one")
    team.clock.sleep(LEASE_S + 1)
    journal.note("staging", "change.began", "late, and nobody has taken it", {}, actor="one")
    two.take(["staging"])
    before = len(list(team.journal.events()))
    plan = toy.plan_named("probed")
    for write in (
        lambda: journal.note("staging", "change.ended", "second", {}, actor="one"),
        lambda: journal.save_checkpoint("staging", "changes", {}),
        lambda: journal.submit(plan, actor="one", reason=""),
        lambda: journal.prune(0.0),
    ):
        with pytest.raises(Busy, match="staging is guarded by pid 3 on here"):
            write()
    run = team.journal.submit(plan, actor="two", reason="")
    with pytest.raises(Busy, match="staging is guarded by"):
        journal.drive(run, toy.actions_in(world), actor="one")
    assert world.effects == []
    assert len(list(team.journal.events())) == before + 1
    assert team.journal.load_checkpoint("staging", "changes") is None


def test_of_many_that_take_at_once_one_gets_it(team: Team) -> None:
    workers = [team.worker(f"number {number}") for number in range(6)]
    got: list[tuple[str, ...]] = []
    ready = threading.Barrier(len(workers))

    def take(worker: WorkerLeases) -> None:
        ready.wait()
        got.append(worker.take(NAMES))

    threads = [threading.Thread(target=take, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(name for names in got for name in names) == sorted(NAMES)


def test_a_run_is_driven_without_a_file_lock_where_the_leases_alone_decide(tmp_path: Path) -> None:
    """As two workers of one machine do it: the second one waits for the expiry, however alive the first process is."""
    clock, world = toy.FakeClock(), toy.World(tmp_path)
    one, two = (
        StoredJournal(
            toy.journal_in(tmp_path, clock=clock)._store, clock, locks=None, host=f"here/{number}", lease_ttl_s=LEASE_S
        )
        for number in (1, 2)
    )
    run = one.submit(toy.plan_named("probed"), actor="one", reason="")
    with one._holding(one._existing(run), "one"):
        with pytest.raises(Busy, match="driven by"):
            two.drive(run, toy.actions_in(world), actor="two")
        clock.sleep(LEASE_S + 1)
        assert two.drive(run, toy.actions_in(world), actor="two").state.is_over
    assert len(world.effects) == 2
