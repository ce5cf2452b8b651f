"""`backout doctor` compares the platform's commands with those that passed `backout conformance`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout import config
from backout.model.checkup import CheckState, Level
from backout.wiring.checkup.here import list_first_lanes
from backout.wiring.command import open_commands

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.checkup import Check

_CONFIG = """[app]
name = "shop"
[environments.production]
health = {{ url = "https://shop.example.com/health" }}
{guard}
{pin}
[environments.production.platform]
provider = "command"
[environments.production.platform.command]
history = ["python3", "platform.py"]
current = ["python3", "platform.py"]
activate = ["python3", "platform.py"]
"""


def load(folder: Path, *, pin: str = "", guard: str = "") -> config.Config:
    """Load a configuration whose commands are in one script."""
    (folder / "backout.toml").write_text(_CONFIG.format(pin=pin, guard=guard))
    return config.load(config.Environment(), start=folder, environment="production")


def find_check(loaded: config.Config) -> Check:
    """Return the check."""
    (question,) = (each for lane in list_first_lanes(loaded) for each in lane if each.name == "conformance")
    (check,) = question.ask()
    return check


def test_the_commands_are_those_that_passed_or_it_says_what_to_type(tmp_path: Path) -> None:
    """Never tried, passed, changed since: where guard acts, nothing is ready without it."""
    script = tmp_path / "platform.py"
    script.write_text("one")
    never = find_check(load(tmp_path))
    assert (never.state, never.level) == (CheckState.MISSING, Level.SHOULD)
    assert "never passed it" in never.why
    assert "conformance --yes" in str(never.next)
    pin = f'pin = {{ conformance = "2026-12-01/{open_commands(load(tmp_path)).fingerprint()}" }}'
    passed = find_check(load(tmp_path, pin=pin))
    assert (passed.state, passed.why) == (CheckState.OK, "the platform's commands are those that passed on 2026-12-01")
    script.write_text("two")
    changed = find_check(load(tmp_path, pin=pin, guard='guard = { mode = "act" }'))
    assert (changed.state, changed.level) == (CheckState.MISSING, Level.MUST)
    assert "changed since they passed `backout conformance` on 2026-12-01" in changed.why
