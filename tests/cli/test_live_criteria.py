"""The live line of a verification: how many criteria are met of those that there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli_shell import Stream, make_shell

from backout.cli.guard.live import Live
from backout.model.guard.verdict import CriterionResult, CriterionState

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_not_set_up_is_named_and_not_counted(tmp_path: Path) -> None:
    """Two of the four are not there: "2 of 2 criteria passed", and which are not set up."""
    shell = make_shell(tmp_path)
    met, absent = CriterionState.PASSED, CriterionState.NOT_SET_UP
    states = {"health": met, "errors": met, "storage accessible": absent, "email operational": absent}
    news = tuple(CriterionResult(name, state, "", None) for name, state in states.items())
    Live(shell.output, "rollback", stream=False).watching(news)
    said = shell.output.stderr
    assert isinstance(said, Stream)
    assert said.getvalue() == "2 of 2 criteria passed; not set up: storage accessible, email operational\n"
