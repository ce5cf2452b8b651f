"""What `status` says to type next."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from backout.cli.status import _list_next_commands


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
