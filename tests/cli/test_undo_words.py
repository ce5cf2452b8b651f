"""What the undo of a rescue prints: its own verbs, and that nothing was taken back where nothing was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cli_shell import make_shell

from backout.cli.db.rescue_table import format_rescue
from backout.model.database.rescue import LeftOut, RescueReport, TableRescue

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "rescue",
    [
        RescueReport((), ()),
        RescueReport((), (TableRescue("public.a", conflicts=3),)),
        RescueReport((), (TableRescue("public.a"),), left_out=(LeftOut("public.a", "the table no longer exists"),)),
    ],
    ids=["nothing to take back", "all of it stays", "all of it is left out"],
)
def test_an_undo_that_took_nothing_back_says_so(tmp_path: Path, rescue: RescueReport) -> None:
    """A rescue that put nothing back had found nothing; of its undo that says nothing about the damage."""
    lines = format_rescue(make_shell(tmp_path), rescue, undone=True).splitlines()
    assert "nothing was taken back" in lines
    assert not any("damaged" in line for line in lines)
    if rescue.tables and rescue.tables[0].conflicts:
        assert "public.a: 3 rows stay: changed again since" in lines


@pytest.mark.parametrize(
    ("statement", "verb"),
    [
        ('ALTER TABLE "public"."a" DROP COLUMN "v"', "removed again"),
        ("ALTER TABLE ONLY public.days DETACH PARTITION public.days_high;", "removed again"),
        ("REVOKE SELECT ON TABLE public.a FROM bob;", "removed again"),
        ("COMMENT ON TABLE public.a IS NULL;", "removed again"),
        ("COMMENT ON TABLE public.a IS 'after';", "changed again"),
        ('ALTER TABLE "public"."a" ALTER COLUMN "v" SET DEFAULT 3;', "changed again"),
        ("ALTER TABLE a DROP CONSTRAINT c;\nALTER TABLE a ADD CONSTRAINT c CHECK (n > -5);", "changed again"),
    ],
)
def test_an_undo_has_its_own_verbs(tmp_path: Path, statement: str, verb: str) -> None:
    """What a rescue made again is removed again, what it changed is changed again; a rescue's words stay."""
    rescue = RescueReport((statement,), ())
    shell, text = make_shell(tmp_path), " ".join(statement.split())
    assert format_rescue(shell, rescue, undone=True) == f"{verb}: {text}"
    assert format_rescue(shell, rescue) == f"made again: {text}"
    assert format_rescue(shell, rescue, would=True) == f"would be made again: {text}"
