"""Whole histories as the tools write them; the verdicts were written by judging each migration, before it was run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from backout.analysis.compatibility import judge, list_unread
from backout.model.database.compatibility import MigrationFile

HISTORIES = sorted((Path(__file__).parent / "data" / "migrations").glob("*.sql"))
_HEAD = re.compile(r"^-- @ (\S+) (safe|safe-if|breaking) (yes|if|no)\n", re.MULTILINE)


def history(path: Path) -> tuple[list[MigrationFile], list[tuple[str, str, str]]]:
    """Return the migrations of a file, and what was judged of each: name, verdict, reversible."""
    parts = _HEAD.split(path.read_text(encoding="utf-8"))[1:]
    quads = list(zip(*[iter(parts)] * 4, strict=True))
    return [MigrationFile(q[0], q[3]) for q in quads], [(q[0], q[1], q[2]) for q in quads]


def test_the_corpus_is_large_enough() -> None:
    """Fifty at least, of each tool some, and each verdict often."""
    judged = [row for path in HISTORIES for row in history(path)[1]]
    assert len(judged) >= 50
    assert len(HISTORIES) >= 6
    assert all(sum(row[1] == verdict for row in judged) >= 15 for verdict in ("safe", "safe-if", "breaking"))


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_the_verdicts_on_a_history(path: Path) -> None:
    """Verdict and whether it can be taken back, migration by migration."""
    files, judged = history(path)
    found = [(v.name, str(v.verdict), str(v.reversible)) for v in judge(files)]
    assert found == judged


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_what_cannot_be_read_is_named(path: Path) -> None:
    """Only the two migrations that were made so cannot be parsed."""
    expected = {"V13__include.sql", "V18__cannot_be_read.sql"} if path.stem == "by_hand" else set()
    assert {v.name for v in judge(history(path)[0]) if list_unread(v)} == expected
