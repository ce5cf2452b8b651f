"""Port Ranges on a real Postgres: who may work on a range, and what is left when somebody does not any more."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from journal import toy
from journal_engines import journal_server
from spread_lab import URL

from backout import __version__, config
from backout.errors import BackoutError, Busy, Refused, UsageError
from backout.journal.postgres_schema import GRANTS as JOURNAL_GRANTS
from backout.model.objects.ranges import RangeOrder, RangeWork
from backout.model.objects.versions import Attempt, Carried, ChangeKind, Moment, ObjectChange, Outcome
from backout.providers.postgres.server.journal_link import PostgresLink
from backout.providers.tasks.queue import make_jobs, read_schema
from backout.providers.tasks.ranges import PostgresRanges
from backout.providers.tasks.tables import GRANTS, SEARCH_PATH
from backout.wiring import tasks
from backout.wiring.records import open_journal

from private import write_private

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["journal_server"]

LANE, RUN, PLACE = "production/objects", "recover-1", "models at http://127.0.0.1:9"
CONFIG = f"""
[app]
name = "shop"
[journal]
url_env = "{URL}"
[environments.production.platform]
provider = "cloudflare"
script = "shop"
account_id = "0123456789abcdef0123456789abcdef"
[environments.production.storage]
provider = "s3"
bucket = "models"
endpoint = "http://127.0.0.1:9"
credentials_file = "access.json"
"""
TEAM = Path(__file__).resolve().parents[2] / "docs" / "team.md"
CHANGES = tuple(ObjectChange(ChangeKind.COPY, f"k{n}", "v2", "v1", "e", 3) for n in range(2))
CARRIED = (Carried(Outcome.DONE, "v3", "e"), Carried(Outcome.FAILED, why="no"))


class Lab:
    """A journal with a lease, and connections to the ranges in its database."""

    def __init__(self, folder: Path) -> None:
        self.url, self.folder = toy.url_of(folder), folder
        write_private(folder / "backout.toml", CONFIG)
        write_private(folder / "access.json", '{"access_key_id": "a", "secret_access_key": "s"}')
        self.config = config.load(config.Environment({URL: self.url}), start=folder, environment=None)
        book = open_journal(self.config)
        book.note("production", "x.noted", "1", {}, actor="ann")
        book.close()
        self.lease(7)

    def ask(self, statement: str, *values: object) -> Any:
        with psycopg.connect(self.url, autocommit=True, options="-c search_path=backout_tasks") as connection:
            found = connection.execute(statement.encode(), values)
            return found.fetchall() if found.description else None

    def lease(self, fence: int, for_s: float = 60.0) -> None:
        """Have the run driven with a fence."""
        self.ask(
            "INSERT INTO backout.lease VALUES (%s, %s, %s, 'h', 1, '', '', 0, extract(epoch FROM now()) + %s)"
            " ON CONFLICT (environment) DO UPDATE SET fence = excluded.fence, expires_at = excluded.expires_at",
            *(LANE, fence, RUN, for_s),
        )

    def open(self, url: str | None = None) -> Any:
        link = PostgresLink(lambda: url or self.url, search_path=SEARCH_PATH)
        return closing(PostgresRanges(link, make_jobs=make_jobs, read_schema=read_schema))

    def order(self, first: int = 0, fence: int = 7, **more: Any) -> RangeOrder:
        values = {"place": PLACE, "version": __version__, "prefix": "", "moment": Moment(1.0, 2.0), "again": False}
        rest = {"attempts": (Attempt(3.0, 4.0, 0.5),), "ahead_s": 0.0, "skew_s": 0.5, "changes": CHANGES}
        return RangeOrder(RUN, first, LANE, fence, RangeWork(**(values | rest | more)))

    def count_jobs(self) -> int:
        return int(self.ask("SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo'")[0][0])

    def age(self, seconds: float) -> None:
        """Have nobody heard of the ranges for so long."""
        self.ask("UPDATE range SET until = until - %s, began = began - %s", seconds, seconds)


@pytest.fixture
def lab(tmp_path: Path, journal_server: str, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv(toy.SERVER, journal_server)
    return Lab(tmp_path)


@pytest.fixture
def ranges(lab: Lab) -> Iterator[PostgresRanges]:
    with lab.open() as found:
        found.prepare()
        yield found


def test_a_range_is_taken_once_and_told_once(lab: Lab, ranges: PostgresRanges) -> None:
    ranges.publish([lab.order(0), lab.order(2)])
    assert lab.count_jobs() == 2
    claimed = ranges.claim(RUN, 0, "ann", place=PLACE)
    assert claimed is not None
    assert (claimed.work, claimed.attempts) == (lab.order().work, (Attempt(3.0, 4.0, 0.5),))
    assert ranges.claim(RUN, 0, "bob", place=PLACE) is None
    other = ranges.claim(RUN, None, "bob", place=PLACE)
    assert other is not None
    assert other.first == 2
    assert ranges.claim(RUN, None, "cy", place=PLACE) is None
    assert ranges.beat(claimed, 1)
    assert [(each.first, each.worker, each.done, each.is_settled) for each in ranges.look(RUN)] == [
        (0, "ann", 1, False),
        (2, "bob", 0, False),
    ]
    assert ranges.settle(claimed, CARRIED)
    assert ranges.settle(claimed, CARRIED), "the answer was lost, so it is told again"
    assert not ranges.beat(claimed, 2)
    assert ranges.take(RUN, 0) == CARRIED
    assert ranges.take(RUN, 2) is None
    ranges.remove(RUN)
    assert (ranges.look(RUN), lab.count_jobs()) == ([], 0)


def test_nothing_is_done_for_a_driver_that_is_not_one_any_more(lab: Lab, ranges: PostgresRanges) -> None:
    """Its lease was taken over, or has run out: what was begun is not settled, and what was not is not begun."""
    ranges.publish([lab.order(0), lab.order(2)])
    claimed = ranges.claim(RUN, 0, "ann", place=PLACE)
    assert claimed is not None
    lab.lease(7, for_s=-1.0)
    assert not ranges.beat(claimed, 1)
    lab.lease(8)
    assert not ranges.beat(claimed, 1)
    assert not ranges.settle(claimed, CARRIED)
    assert ranges.claim(RUN, 2, "bob", place=PLACE) is None
    assert ranges.find_fence(LANE, RUN)[0] == 8
    with pytest.raises(Busy):
        ranges.find_fence(LANE, "recover-2")


def test_a_range_that_is_taken_back_knows_who_had_it(lab: Lab, ranges: PostgresRanges) -> None:
    """A worker that is silent loses it, and what it tells later is refused; the next one looks for its work."""
    ranges.publish([lab.order()])
    first = ranges.claim(RUN, 0, "ann", place=PLACE)
    assert first is not None
    ranges.recall(RUN, [0], 12.0)
    assert ranges.look(RUN)[0].worker == "ann", "it was heard of"
    jobs = lab.count_jobs()
    lab.age(100.0)
    ranges.recall(RUN, [0], 12.0)
    assert lab.count_jobs() == jobs + 1
    assert not ranges.beat(first, 1)
    second = ranges.claim(RUN, 0, "bob", place=PLACE)
    assert second is not None
    assert not ranges.settle(first, ())
    ranges.release(first, "too late")
    before, span = second.attempts
    assert before == Attempt(3.0, 4.0, 0.5)
    assert 8.0 <= span.until - span.began < 60.0, "for as long as it went on unheard"
    ranges.release(second, "no key")
    assert (ranges.look(RUN)[0].worker, ranges.look(RUN)[0].why) == ("", "no key")
    third = ranges.claim(RUN, 0, "cy", place=PLACE)
    assert third is not None
    assert len(third.attempts) == 3
    assert ranges.settle(third, CARRIED)


def test_what_a_driver_left_is_told_when_nobody_works_on_it(lab: Lab, ranges: PostgresRanges) -> None:
    ranges.publish([lab.order(first) for first in (0, 2, 4)])
    for first in (0, 2):
        claimed = ranges.claim(RUN, first, "ann", place=PLACE)
        assert claimed is not None
        if first == 0:
            ranges.settle(claimed, CARRIED)
    lab.age(100.0)
    left = ranges.withdraw(RUN, 12.0)
    assert left.settled == {0: CARRIED}
    assert left.spans.keys() == {2, 4}
    assert left.spans[4] == (), "nobody took it"
    ((began, ended),) = left.spans[2]
    assert 100.0 <= ended + 8.0 <= began + 8.0 < 160.0
    ranges.publish([lab.order(2, fence=7)])
    assert ranges.look(RUN)[1].worker == "ann", "of the same lease it is not made anew"
    lab.lease(8)
    ranges.publish([lab.order(2, fence=8)])
    assert ranges.claim(RUN, 2, "bob", place=PLACE) is not None


def test_a_worker_with_another_bucket_or_another_backout_leaves_a_range(lab: Lab, ranges: PostgresRanges) -> None:
    ranges.publish([lab.order(0), lab.order(2, version="0.0.1")])
    with pytest.raises(Refused, match="another bucket") as refused:
        ranges.claim(RUN, 0, "ann", place="models at http://other")
    assert PLACE in refused.value.options[0]
    with pytest.raises(Refused, match=r"driven by backout 0\.0\.1"):
        ranges.claim(RUN, 2, "ann", place=PLACE)
    assert ranges.claim(RUN, 0, "ann", place=PLACE) is not None


def test_a_worker_that_cannot_do_a_range_says_so_and_gives_it_back(
    lab: Lab, ranges: PostgresRanges, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its own configuration and keys: nothing of a job tells it where the bucket is."""
    monkeypatch.setattr(tasks, "_AFTER_FAILURE_S", 0.0)
    ranges.publish([lab.order(0)])
    said: list[str] = []
    worker = tasks._RangeWorker(lab.config, threading.Event(), said.append)
    with pytest.raises(UsageError):
        worker.work("staging/objects", RUN, 0)
    (lab.folder / "access.json").unlink()
    with pytest.raises(BackoutError):
        worker.work(LANE, RUN, 0)
    assert "no bucket of that environment" in said[0]
    assert "access.json" in said[1]
    assert ranges.look(RUN)[0].worker == ""


def test_a_role_that_appends_works_with_the_tables_that_the_owner_made(
    lab: Lab, tmp_path: Path, journal_server: str
) -> None:
    """Without a right it is told so, and what to do."""
    role = f"writer_{lab.url.rpartition('_')[2]}"
    lab.ask(f"CREATE ROLE {role} LOGIN PASSWORD '{toy.PASSWORD}'")
    url = lab.url.replace("postgresql://postgres:", f"postgresql://{role}:")
    with lab.open(url) as theirs:
        with pytest.raises(BackoutError, match="may not use the schema backout_tasks") as refused:
            theirs.prepare()
        assert refused.value.hint is not None
        assert "docs/team.md" in refused.value.hint
        with lab.open() as ours:
            ours.prepare()
        for grant in (*JOURNAL_GRANTS, *GRANTS):
            lab.ask(grant.format(role=role))
        theirs.prepare()
        theirs.publish([lab.order()])
        claimed = theirs.claim(RUN, 0, "ann", place=PLACE)
        assert claimed is not None
        assert theirs.settle(claimed, CARRIED)
        theirs.remove(RUN)
    text = TEAM.read_text(encoding="utf-8")
    assert all(grant.format(role="backout_writer") in text for grant in GRANTS), "as the page has them"


def test_tables_of_another_version_are_told(lab: Lab, ranges: PostgresRanges) -> None:
    lab.ask("UPDATE made SET procrastinate = '3.11.2'")
    with pytest.raises(BackoutError, match="another version") as refused:
        ranges.prepare()
    assert refused.value.hint is not None
    assert "DROP SCHEMA backout_tasks CASCADE" in refused.value.hint
    lab.ask("UPDATE made SET procrastinate = '3.10.99'")
    ranges.prepare()
