"""A certificate in the journal: found for the code and the migrations that it is bound to, as long as it counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from values import replace

from backout.analysis.certify.statements import read_statement
from backout.journal.sqlite import SqliteJournal
from backout.model.database.certificate import LASTS_S, Certificate, Coverage, Phase, Step
from backout.providers.clock import SystemClock
from backout.runbook.certify.certificates import (
    KIND,
    has_unknown_write,
    is_about_new,
    is_about_old,
    list_counting,
    record_certificate,
)

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

WRITE = "INSERT INTO orders (note) VALUES ($1)"
AT = 1_800_000_000.0


def make(*, reversible: bool | None = True, at: float = AT) -> Certificate:
    """Return a certificate of a trial that ended then."""
    read = read_statement(WRITE)
    assert read is not None
    return Certificate(
        old="v1", new="code:b", old_code="code:a", new_code="code:b", head="0001", migrations=(("0002", "sum"),),
        steps=(Step(Phase.OLD, 2, 0),), coverage=Coverage(1, 1, 2, 2, 3), not_exercised=("GET https://example.com/",),
        reversible=reversible, blocker=None, reasons=(), shapes=(read.fingerprint,), at=at, expires_at=at + LASTS_S,
    )  # fmt: skip


def find(
    journal: SqliteJournal,
    *,
    old: str = "v1",
    new: str = "code:b",
    head: str = "0001",
    migrations: tuple[tuple[str, str], ...] = (("0002", "sum"),),
    now: float = AT + 60,
    writes: tuple[str, ...] = (),
) -> Certificate | None:
    """Look the newest one up, by what it is bound to but for what is given."""
    bound = [
        each
        for each in list_counting(journal, "production", now=now)
        if is_about_old(each, {old})
        and is_about_new(each, {new})
        and (each.head, each.migrations) == (head, migrations)
    ]
    return bound[-1] if bound and not has_unknown_write(bound[-1], writes) else None


def test_a_certificate_is_bound(tmp_path: Path) -> None:
    """To both versions (or the hash of their code), the head, the migrations with their checksums, and a day."""
    journal = SqliteJournal(tmp_path / "journal.sqlite", SystemClock())
    assert find(journal) is None
    record_certificate(journal, "production", make(), actor="a@b")
    assert find(journal) == make()
    assert find(journal, old="code:a") == make()
    assert find(journal, old="v2") is None
    assert find(journal, new="v1") is None
    assert find(journal, head="0000") is None
    assert find(journal, migrations=(("0002", "edited"),)) is None
    assert find(journal, migrations=(("0002", "sum"), ("0003", "more"))) is None
    assert find(journal, now=AT + LASTS_S - 1) is not None
    assert find(journal, now=AT + LASTS_S) is None
    assert find(journal, now=AT - 1) is None
    journal.close()


def test_the_newest_counts_and_a_write_without_a_shape_ends_it(tmp_path: Path) -> None:
    """A later no takes the place of a yes. Reads end nothing; a write in other values is of the same shape."""
    journal = SqliteJournal(tmp_path / "journal.sqlite", SystemClock())
    record_certificate(journal, "production", make(), actor="a@b")
    assert find(journal, writes=("insert into orders (note) values ('x')", "SELECT 1 FROM orders")) is not None
    assert find(journal, writes=("INSERT INTO orders (note, more) VALUES ($1, $2)",)) is None
    assert find(journal, writes=("COPY orders FROM STDIN",)) is None
    record_certificate(journal, "production", make(reversible=False, at=AT + 1), actor="a@b")
    found = find(journal)
    assert found is not None
    assert found.reversible is False
    journal.close()


def test_a_record_of_another_shape_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What another version of backout wrote is no certificate, and ends nothing."""
    journal = SqliteJournal(tmp_path / "journal.sqlite", SystemClock())
    record_certificate(journal, "production", make(), actor="a@b")
    journal.note("production", KIND, "odd", {"certificate": {"old": 1}}, actor="a@b")
    assert find(journal) == replace(make())
    assert not caplog.records
    journal.close()
