"""What `status` shows, and says to type next."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cli_shell import make_shell

from backout.cli.status import _format_text, _list_next_commands
from backout.runbook.incident.status import read_status

from line import Story

if TYPE_CHECKING:
    from pathlib import Path


def test_no_row_is_empty(quick_path: Path, tmp_path: Path) -> None:
    """A label with nothing behind it says nothing."""
    found = read_status(Story(quick_path / "journal.sqlite").tools())
    shown = _format_text(make_shell(tmp_path), found, {"may_disarm": "nobody", "next": ""}, "")
    assert re.search(r"^  not set up +\S", shown, re.MULTILINE)
    assert [line for line in shown.splitlines() if re.fullmatch(r"  \S+( \S+)* *", line)] == []


@pytest.mark.parametrize("troubles", [(), ("3 % of requests fail",)])
def test_while_a_hold_is_on_lifting_it_is_named_and_no_watch(troubles: tuple[str, ...]) -> None:
    """Also where something is wrong: guard would do nothing."""
    found: Any = SimpleNamespace(
        situation=SimpleNamespace(environment="production"),
        hold=object(),
        closed=None,
        trial=None,
        broken=None,
        journal="",
        unfinished=None,
        waiting=(),
        left_open=False,
        health=None,
        unmeasured=(),
        troubles=troubles,
    )
    told = _list_next_commands(found)
    assert told[-1].startswith("backout unhold -e production")
    assert not any(each.startswith("backout guard -e") for each in told)
