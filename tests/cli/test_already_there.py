"""`rollback TARGET`, typed again after it succeeded, is the same rollback: it says so, and ends as that one did."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from cli_shell import Stream, make_shell

from backout.cli.bench import Bench
from backout.cli.live import Live
from backout.cli.rollback import _already as already
from backout.cli.rollback import _planned as planned
from backout.errors import Refused
from backout.journal.stop import StopRequest
from backout.model.plan import Plan
from backout.plan.rollback import Request

from line import Story

if TYPE_CHECKING:
    from pathlib import Path


def test_a_target_that_is_live_already_is_the_same_rollback(tmp_path: Path, quick_path: Path) -> None:
    """Typed again after its end: no refusal, and how the run ended; also where the code was uploaded again."""
    story = Story(quick_path / "journal.sqlite")
    shell = make_shell(tmp_path)
    bench = Bench(shell, story.tools(), StopRequest(lambda: None), Live(shell.output, "rollback", stream=False))
    request = Request(message="it fails", target=story.good.id)
    plan = planned(bench, request, story.good.id[:8], with_database=False)
    assert isinstance(plan, Plan)
    run = bench.drive(bench.submit(plan, "it fails"))
    again = planned(bench, request, story.good.id[:8], with_database=False)
    assert not isinstance(again, Plan)
    assert already(bench, again, dry_run=False) == 0
    out = bench.shell.output.stdout
    assert isinstance(out, Stream)
    assert f"nothing to do: version {story.good.id} is live at 100 %" in out.getvalue()
    assert f"by run {run.id}" in out.getvalue()
    with pytest.raises(Refused):
        planned(bench, replace(request, target=story.bad.id), story.bad.id, with_database=False)
