"""`backout watch`: a block that is drawn again on a terminal, lines elsewhere, records with `--json`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from cli_shell import Stream, backout, make_shell

from backout.cli.watch import Screen
from backout.model.guard.connections import ConnectionUse
from backout.model.guard.monitored import ErrorRate, Response
from backout.model.guard.monitoring import Reading, RunSight
from backout.model.guard.policy import Policy
from backout.model.guard.signals import Criticality, HealthReport, Reach, ServiceHealth, ServiceState
from backout.model.guard.verdict import CriterionResult, CriterionState

if TYPE_CHECKING:
    from pathlib import Path

CRITERIA = (
    CriterionResult("health check returns 200", CriterionState.PASSED, "status 200, 2 looks in a row", 1.0),
    CriterionResult("error rate below 1 %", CriterionState.WAITING, "about 100 more requests would tell", None),
)
READING = Reading(
    at=1_800_000_000.0,
    elapsed_s=65.0,
    for_s=900.0,
    version="3f2a91c4-0000",
    deployment="d",
    live_since=1_799_999_950.0,
    left="9bb1aa00-0000",
    run=RunSight("rollback-1", "running", 4, 7, "watch the success criteria"),
    has_health=True,
    health=HealthReport(
        1.0,
        Reach.ANSWERED,
        200,
        ServiceState.DEGRADED,
        (ServiceHealth("database", ServiceState.OK), ServiceHealth("email", ServiceState.DOWN, "\x1b[31mqueue full")),
        latency_ms=41.0,
    ),
    errors=ErrorRate(50.0, 400, 2, 0.0005, 0.023),
    response=Response(12.0, 40.0, 81.0),
    usual=Response(11.0, 38.0, 75.0),
    usual_from="its own before 12:00:00 UTC",
    connections=ConnectionUse(1.0, 7, 100, 2),
    criteria=CRITERIA,
)
POLICY = Policy(services={"email": Criticality.DEGRADABLE})


def show(folder: Path, *readings: Reading, terminal: bool = False, as_json: bool = False, term: str = "xterm") -> str:
    shell = make_shell(folder, terminal=terminal)
    shell.output.json = as_json
    screen = Screen(shell.output, term)
    screen.environment, screen.policy = "production", POLICY
    for each in readings:
        screen.show(each)
    out = shell.output.stdout
    assert isinstance(out, Stream)
    return out.getvalue()


def test_a_terminal_gets_one_block_that_is_drawn_again(tmp_path: Path) -> None:
    """No line is longer than the terminal, and nothing of the application reaches it as a control sequence."""
    shown = show(tmp_path, READING, READING, terminal=True)
    first, again = shown.split("\x1b[J")
    block, _, up = first.rpartition("\n")
    assert up == f"\x1b[{block.count(chr(10)) + 1}A\r"
    assert again == f"{block}\n"
    assert max(map(len, block.splitlines())) <= 80
    assert "\x1b" not in block
    for words in (
        "+65 s of 15 min",
        "0.50 % (0.05 to 2.3 %), limit 1 %; 2 of 400 in the last 50 s".replace("0.50", "0.5"),
        "p50 12 ms (11 ms), p95 40 ms (38 ms), p99 81 ms (75 ms)",
        "7 of 100 in use (server), 2 wait for a lock",
        "it may be: not critical",
        "step 5 of 7: watch the success criteria",
        "about 100 more requests would tell",
    ):
        assert words in " ".join(block.split()), words


@pytest.mark.parametrize("terminal", [False, True])
def test_what_cannot_be_drawn_upon_gets_a_line_each(tmp_path: Path, *, terminal: bool) -> None:
    """A file, a pipe, and a terminal without such commands."""
    shown = show(tmp_path, READING, READING, terminal=terminal, term="dumb")
    line, again = shown.splitlines()
    assert line == again
    assert "waiting for: error rate below 1 %" in line
    assert "health DOWN (email)" in line
    assert "connections 7/100" in line


def test_a_record_has_all_that_is_shown(tmp_path: Path) -> None:
    """JSON lines of one schema."""
    (line,) = show(tmp_path, READING, as_json=True).splitlines()
    record = json.loads(line)
    assert (record["schema"], record["type"], record["live_version"]) == ("backout.watch/1", "reading", "3f2a91c4-0000")
    errors = {"window_s": 50.0, "requests": 400, "errors": 2, "error_rate": 0.005, "low": 0.0005, "high": 0.023}
    assert record["errors"] == errors | {"problem": None}
    assert record["baseline"]["from"] == "its own before 12:00:00 UTC"
    assert record["criteria"][1]["evidence"] == "about 100 more requests would tell"
    assert record["health"]["services"]["email"]["state"] == "down"


@pytest.mark.parametrize("flag", ["--for", "--every"])
def test_a_span_that_is_none_is_told(tmp_path: Path, flag: str) -> None:
    """Before anything is read."""
    for value in ("0s", "soon"):
        answer = backout(tmp_path, "watch", flag, value)
        assert answer.code == 2
        assert flag in answer.err
    answer = backout(tmp_path, "rollback", "--for", "15m", "--no-wait")
    assert (answer.code, "choose one of them" in answer.err) == (2, True)
