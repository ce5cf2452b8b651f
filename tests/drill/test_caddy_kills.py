"""Commands killed with -9 at random moments on a host behind a real Caddy, then typed again: the right end, once."""

from __future__ import annotations

import random
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from caddy_home import caddy_home, wait_for_visits

from backout.analysis.history.remark_text import parse
from backout.model.incident.incident import RunState
from backout.model.plan import PlanKind
from backout.model.remark import RemarkKind

from drillbook import PROGRAM, make_tools
from extent import by_extent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from caddy_home import CaddyShop

    from conftest import Record

COMMANDS = {
    "rollback": ("rollback", "--accept-unproven", "-m", "it fails", "--yes", "--json"),
    "release push": ("release", "push", "build", "--json"),
}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[CaddyShop]:
    """A shop whose criteria are watched for some seconds, with no release yet."""
    with caddy_home(tmp_path) as running:
        config = tmp_path / "backout.toml"
        short = 'watch = "8s", error_rate = { below = 0.01, for = "3s" }'
        config.write_text(config.read_text().replace('watch = "3m"', short))
        yield running


def start(shop: CaddyShop, command: tuple[str, ...]) -> subprocess.Popen[str]:
    """Start the real program in the shop's folder."""
    argv = [str(PROGRAM), *command, "-e", "production", "--no-input"]
    return subprocess.Popen(argv, cwd=shop.host.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def find_live(answers: list[tuple[int, str]]) -> str:
    """Return which release visitors get from now on, all of them."""
    seen = len(answers) + 4  # two visitors, with an answer each that was under way
    wait_for_visits(answers, seen + 20)
    (release,) = {release for _, release in answers[seen:]}
    return release


def is_rolled_back(shop: CaddyShop) -> bool:
    """Whether the newest run is a rollback that has ended."""
    newest = next(iter(make_tools(shop.host.folder / "backout.toml").runs.runs("production")), None)
    return newest is not None and newest.plan.kind is PlanKind.ROLLBACK and newest.state is RunState.DONE


def check_rollback(shop: CaddyShop, live: str, good: str, bad: str, reports: int) -> None:
    """Visitors get the good release, by one switch, told in one report."""
    assert live == good
    history = shop.host.deployments.history()
    since = history[: next(place for place, each in enumerate(history) if each.sole == bad)]
    remarks = [remark for each in since if (remark := parse(each.message)) is not None]
    assert [remark.kind for remark in remarks].count(RemarkKind.ROLLBACK) == 1
    assert count_reports(shop) == reports + 1


def count_reports(shop: CaddyShop) -> int:
    return len(list((shop.host.folder / ".ai").rglob("*.md")))


@pytest.mark.long
@pytest.mark.proof
@pytest.mark.timeout(2400)
@pytest.mark.rotating("kills behind Caddy", 2)
@pytest.mark.parametrize("command", COMMANDS)
def test_killed_at_random_moments_and_typed_again(shop: CaddyShop, command: str, proof: Record) -> None:
    """Kill -9 somewhere in the whole course of the command; the same command again ends it as if nothing had been."""
    rounds = by_extent(1, 1, proof=25)
    chance = random.Random(f"{command} {rounds}")  # noqa: S311 - moments, no secret
    good = str(shop.push("good").json["live"])
    whole_s, killed, tries = 0.0, 0, 0
    with shop.visited() as answers:
        while killed < rounds:
            tries += 1
            shop.run("release", "prune", "--keep", "2")  # each release has a port, and there are twenty
            assert tries <= 10 * rounds, f"only {killed} of {tries} kills found it still at work"
            bad, reports = "", count_reports(shop)
            if command == "rollback":
                bad = str(shop.push(f"bad {tries}").json["live"])
            else:
                shop.build(f"good {tries}")
            began = time.monotonic()
            with start(shop, COMMANDS[command]) as process:
                try:
                    process.communicate(timeout=chance.uniform(0.0, whole_s) if whole_s else None)
                    whole_s = 0.7 * whole_s or time.monotonic() - began  # 0.7: it was measured on a busier machine
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.communicate()
                    killed += 1
            if process.returncode and not (command == "rollback" and is_rolled_back(shop)):
                again = start(shop, COMMANDS[command])
                _, said = again.communicate()
                assert again.returncode == 0, said
            live = find_live(answers)
            if command == "rollback":
                check_rollback(shop, live, good, bad, reports)
            else:
                assert (shop.host.releases.folder / live / "app" / "code.txt").read_text() == f"good {tries}"
    ends = {"rollback": "right release live, one switch, one report", "release push": "what was pushed is live, whole"}
    proof(
        f"`backout {command}` behind Caddy killed with -9, then typed again: {ends[command]}",
        trials=killed,
        failures=0,
        note="tests/drill/test_caddy_kills.py",
    )
