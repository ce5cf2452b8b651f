"""The page of the proofs claims no more than its trials show."""

from __future__ import annotations

from pathlib import Path

import pytest
from proofs_page import MINUTES, TITLE, MinutesByFile, write_page

from backout.analysis.statistics.beta import upper_bound

from conftest import TOO_FEW, Proof, enough

(PAGE,) = (Path(__file__).parents[2] / "docs").rglob("proofs.md")
ROWS = [
    line.strip("| ").split(" | ")
    for line in PAGE.read_text(encoding="utf-8").partition(TITLE)[0].splitlines()
    if line.startswith("| ") and not line.startswith("| claim ")
]
BOUNDED = [row for row in ROWS if row[4].startswith("at most")]


@pytest.mark.parametrize("row", BOUNDED, ids=[row[0][:60] for row in BOUNDED])
def test_a_bound_above_what_is_allowed_is_said_to_show_nothing(row: list[str]) -> None:
    """By the row's own figures, worked out again."""
    allowed = float(row[4].split()[2].rstrip(";"))
    bound = upper_bound(int(row[2].replace(",", "")), int(row[1].replace(",", "")), 0.05)
    assert f"{bound:.3g}" == row[3]
    assert (TOO_FEW in row[4]) == (bound > allowed)


def test_how_many_trials_would_show_it() -> None:
    """Without a failure about three by what is allowed; one trial fewer leaves it open."""
    assert enough(0, 0.001) == "2,995 with no more failures would"
    assert upper_bound(0, 2995, 0.05) <= 0.001 < upper_bound(0, 2994, 0.05)
    assert TOO_FEW in Proof("x", 900, 0, 0.001, "").row()
    assert TOO_FEW not in Proof("x", 3000, 0, 0.001, "").row()
    assert TOO_FEW not in Proof("x", 3, 0, None, "").row()


def test_minutes_stand_below_and_what_did_not_run_again_stays(tmp_path: Path) -> None:
    """A part of the proofs renews its own lines of both tables; all of them leave no other line."""
    page, took = tmp_path / "proofs.md", MinutesByFile()
    for phase, seconds in (("setup", 30.0), ("call", 69.0)):
        report = pytest.TestReport("tests/a/test_b.py::test_c[d::e]", ("", 0, ""), {}, "passed", None, phase)  # type: ignore[arg-type]
        report.duration = seconds
        took.pytest_runtest_logreport(report)
    (row,) = took.make_rows().values()
    assert row.startswith("| tests/a/test_b.py | 1.6 |")
    write_page(
        page, {"old": Proof("old", 1, 0, None, "").row()}, {"tests/x.py": "| tests/x.py | 3.0 | then |"}, whole=True
    )
    write_page(page, {"new": Proof("new", 1, 0, None, "").row()}, took.make_rows(), whole=False)
    claims, _, minutes = page.read_text(encoding="utf-8").partition(MINUTES)
    assert claims.splitlines()[-2:] == [Proof(claim, 1, 0, None, "").row() for claim in ("new", "old")]
    assert minutes.splitlines() == [row, "| tests/x.py | 3.0 | then |"]
    write_page(page, {"new": Proof("new", 1, 0, None, "").row()}, took.make_rows(), whole=True)
    assert page.read_text(encoding="utf-8").partition(MINUTES)[2] == row + "\n"
