"""Whoever may approve a plan that waits hears of it, whichever command waits."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from source_trees import nodes_of
from web_lab import PRODUCTION, STAGING, make_actions, make_lab, make_plan

from backout.errors import DecisionNeeded

if TYPE_CHECKING:
    from backout.model.incident.notice import Notice

CLI = Path(__file__).parents[2] / "src" / "backout" / "cli"
NEEDS_NONE = {"db/backup.py", "demo.py", "release/jobs.py"}
"""What these do never needs an approval."""


def test_a_notice_names_the_run_and_what_to_type(tmp_path: Path) -> None:
    """With the run, from which its page's address is made; a run that goes on tells nothing."""
    from backout.cli.support.waiting import telling_who_approves  # noqa: PLC0415 the rule below knows no such module

    lab = make_lab(tmp_path, told=())
    told: list[Notice] = []
    shell = cast("Any", SimpleNamespace(notifier=SimpleNamespace(tell=told.append)))
    journal = lab.site.open_journal(PRODUCTION)
    run = journal.submit(make_plan(PRODUCTION), actor="toy", reason="it was bad")
    with pytest.raises(DecisionNeeded), telling_who_approves(shell, journal, run):
        journal.drive(run, make_actions(tmp_path), actor="toy")
    (notice,) = told
    assert (notice.environment, notice.run, str(notice.kind)) == (PRODUCTION, run, "held")
    assert notice.next[0] == f"backout runs approve {run} -m WHY"
    assert "waits for an approval" in notice.title
    journal = lab.site.open_journal(STAGING)
    run = journal.submit(make_plan(STAGING), actor="toy", reason="it was bad")
    with telling_who_approves(shell, journal, run):
        journal.drive(run, make_actions(tmp_path), actor="toy")
    assert len(told) == 1
    lab.site.close()


def test_every_command_that_drives_runs_tells_who_waits() -> None:
    """By the session's `telling`, or by this one."""
    silent = []
    for path in sorted(CLI.rglob("*.py")):
        drives = [
            each
            for each in nodes_of(path)
            if isinstance(each, ast.Call) and ast.unparse(each.func).endswith("journal.drive")
        ]
        text = path.read_text(encoding="utf-8")
        if drives and "telling(run)" not in text and "telling_who_approves(" not in text:
            silent.append(str(path.relative_to(CLI)))
    assert set(silent) <= NEEDS_NONE, silent
