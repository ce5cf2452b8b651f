"""`backout runs`: what each run came to stands in the list, for a person and as JSON."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from cli_shell import backout

from backout.model.policy import Mode

from line import Story, by_version, roll_back, watch

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """[app]
name = "a"
[journal]
path = "journal.sqlite"
[environments.production]
platform = { provider = "cloudflare", account_id = "a1", script = "s" }
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A healthy watch, a regressed one that only observes, a rollback by hand, and one that guard made itself."""
    (tmp_path / "backout.toml").write_text(CONFIG)
    story = Story(tmp_path / "journal.sqlite")
    watch(story.tools(), mode=Mode.OBSERVE)
    roll_back(story.tools())
    story.world.clock.sleep(7 * 3600)
    worse = story.world.upload("worse")
    story.world.traffic_rule = by_version(worse.id)
    story.world.deploy(worse)
    story.world.clock.sleep(2)
    watch(story.tools(), mode=Mode.ACT)
    return tmp_path


def test_the_list_has_the_verdicts(project: Path) -> None:
    """Of a watch the verdict and what followed; of a rollback whether the service is well."""
    runs = backout(project, "runs", "list", "--json").json["runs"]
    assert isinstance(runs, list)
    told = [(each["kind"], each["verdict"], each["action"], each["rule"], each["verified"]) for each in reversed(runs)]
    assert told[:3] == [
        ("guard", "healthy", "stable", None, None),
        ("guard", "regressed", "hold", "observe", None),
        ("rollback", None, None, None, True),
    ]
    assert told[3:] == [("guard", "regressed", "rollback", None, None), ("rollback", None, None, None, True)]
    assert "requests failed" in runs[-2]["reason"]
    lines = backout(project, "runs", "list", variables={"COLUMNS": "80"}).out.splitlines()
    assert lines[0].split() == ["RUN", "STATE", "VERDICT", "STARTED", "WHY"]
    assert [re.split(r"\s{2,}", line)[2] for line in reversed(lines[1:])] == [
        "healthy, marked stable",
        "regressed, observed",
        "verified",
        "regressed, rolled back",
        "verified",
    ]
    assert max(map(len, lines)) <= 80


def test_one_run_says_what_it_came_to(project: Path) -> None:
    """With the reason."""
    runs = backout(project, "runs", "list", "--json").json["runs"]
    assert isinstance(runs, list)
    watched = runs[-2]["run_id"]
    assert backout(project, "runs", "show", watched, "--json").json["verdict"] == "regressed"
    assert "  regressed, observed: " in backout(project, "runs", "show", watched).out
