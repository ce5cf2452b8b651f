"""Drills on a host behind Caddy, by the real program: the outcomes are those of the twin of Cloudflare."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cli_shell import backout

from backout.model.drill import DrillPlace
from backout.twin.home import Home
from backout.twin.hosts.leftovers import find_running
from backout.wiring.drills.catalogue import load_drills
from backout.wiring.drills.homes import explain_left_out

from drillbook import ENV, PROGRAM
from extent import PROOF
from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Record

LEFT_OUT = {
    *("api-down", "api-limited", "token-revoked", "post-mortem-cloudflare-2019", "post-mortem-github-2018"),
    *("bad-target", "two-bad-targets", "blip-that-heals", "shared-outage"),
}
OFTEN = ("throws", "health-down", "missing-secret", "failed-build", "hotfix", "everything-at-once")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, for Caddy's sockets."""
    made = Path(tempfile.mkdtemp(prefix="drills-"))
    yield made
    shutil.rmtree(made)


def test_what_cannot_take_place_on_hosts_is_named_with_why(tmp_path: Path) -> None:
    """All others do; one that was named is refused, of all of them it is left out."""
    drills = load_drills(tmp_path)
    assert {each.name for each in drills if explain_left_out(each, DrillPlace.HOSTS)} == LEFT_OUT
    assert not [each.name for each in drills if explain_left_out(each, DrillPlace.TWIN)]
    refused = backout(tmp_path, "drill", "run", "api-down", "--home", "hosts")
    assert refused.code == 2
    assert "a host has no API" in refused.err
    shown = backout(tmp_path, "drill", "run", "--all", "--home", "hosts", "--dry-run", "--json")
    assert "left out: bad-target: nothing stands between a release and its visitors" in shown.err
    named = {each["name"] for each in shown.json["drills"]}  # type: ignore[attr-defined]
    assert named == {each.name for each in drills if each.file.environment is DrillPlace.TWIN} - LEFT_OUT


@pytest.mark.long
@pytest.mark.rotating("drills", 5)
@pytest.mark.proof
@pytest.mark.timeout(3600)
def test_what_each_drill_expects_comes_true_on_hosts(folder: Path, proof: Record) -> None:
    """Some of them; in `make proof` all. How long something took is this machine's matter: only a proof counts that."""
    names = ("--all",) if PROOF else OFTEN
    timeout_s = 3000 if PROOF else 10 * PATIENCE_S
    argv = [str(PROGRAM), "drill", "run", *names, "--home", "hosts", "--dir", str(folder / "d"), "--json"]
    done = subprocess.run(
        argv,
        cwd=folder,
        env=ENV,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    drills = answer["drills"]
    wrong = {each["name"]: each["missed"] for each in drills if (each["missed"] if PROOF else list_wrong(each))}
    proof("A drill ends on hosts as it is expected to", trials=len(drills), failures=len(wrong), note="Caddy, Node")
    assert not wrong, done.stderr
    assert {each["environment"] for each in drills} == {"hosts"}
    assert len(drills) == (len(load_drills(folder)) - 2 - len(LEFT_OUT) if PROOF else len(OFTEN))
    twin = folder / "d" / "stage" / "twin"
    assert (Home(twin).note(), find_running(twin / "releases")) == (None, {})


def list_wrong(drill: dict[str, Any]) -> list[str]:
    """Return what was missed, but for how long it took."""
    return [each for each in drill["missed"] if not any(words in each for words in ("apart, at most", "bad requests"))]
