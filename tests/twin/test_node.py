"""The Node of a machine is often too old for wrangler: what a shell needs first, and that the wheel's own will do."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backout.cli.support.by_hand import find_typed_line
from backout.providers import node

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]


def variables(folder: Path, version: str) -> Mapping[str, str]:
    """Return those of a shell that finds a node which says it is of that version; "" for none."""
    folder.mkdir(exist_ok=True)
    if version:
        file = folder / "node"
        file.write_text(f"#!/bin/sh\necho {version}\n")
        file.chmod(0o755)
    return {"PATH": str(folder)}


@pytest.mark.parametrize(
    ("version", "has"),
    [("v20.20.2", "has 20.20.2"), ("v22.11.9", "has 22.11.9"), ("odd", "has none"), ("", "has none")],
)
def test_a_node_that_is_too_old_is_named_with_what_helps(tmp_path: Path, version: str, has: str) -> None:
    """The version that is needed, the one that is there, and the lines that make the shell use the wheel's."""
    lines = node.list_npx_lines(variables(tmp_path / version, version))
    assert lines[0].startswith(f"# npx needs Node 22.12 or newer; this machine {has}. The one")
    assert str(node.find_own_folder()) in lines[1]
    assert find_typed_line((*lines, "npx wrangler x")) == "npx wrangler x"


@pytest.mark.parametrize("version", ["v22.12.0", "v24.0.1", "v100.0.0"])
def test_a_node_that_will_do_needs_no_line(tmp_path: Path, version: str) -> None:
    """Nothing is said."""
    assert node.list_npx_lines(variables(tmp_path / version, version)) == ()


def test_the_version_wanted_is_that_of_the_wrangler_that_is_pinned() -> None:
    """And the wheel's Node is new enough for it."""
    package = json.loads((ROOT / "node_modules" / "wrangler" / "package.json").read_text())
    assert package["engines"]["node"] == f">={'.'.join(map(str, node.WANTED))}"
    folder = node.find_own_folder()
    assert folder is not None
    found = node.find_version({"PATH": str(folder)})
    assert found is not None
    assert found >= node.WANTED


@pytest.mark.parametrize(
    ("version", "is_used"),
    [("v20.20.2", True), ("v22.11.9", True), ("v22.12.0", False), ("v22.20.1", False), ("v24.0.1", False)],
)
def test_the_card_leaves_a_shell_alone_whose_node_will_do_by_then(tmp_path: Path, version: str, is_used: bool) -> None:
    """The page was written where it would not do."""
    lines = node.list_card_lines(variables(tmp_path / "then", "v18.0.0"))
    assert max(len(line) for line in lines if not line.startswith("export ")) <= 100
    now = variables(tmp_path / "now", version)
    script = "\n".join([*lines, "command -v node"])
    done = subprocess.run(
        ["/bin/sh", "-c", script], env=now, capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    assert done.stdout.strip() == str(Path(str(node.find_own_folder()) if is_used else now["PATH"]) / "node")


def said(lines: tuple[str, ...], tmp_path: Path) -> str:
    """Return what a plain shell answers to `node` and `npx` after these lines."""
    script = "\n".join([*lines, "node --version", "npx --version"])
    environment = {"PATH": os.defpath, "HOME": str(tmp_path), "npm_config_update_notifier": "false"}
    done = subprocess.run(
        ["/bin/sh", "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    return done.stdout


def test_the_lines_of_a_card_and_of_the_twin_run(tmp_path: Path) -> None:
    """The wheel's own `bin/npx` is a broken file; what we say in its place runs in a plain shell."""
    own = node.find_own_folder()
    assert own is not None
    assert node.write_programs(tmp_path / "bin")
    by_lines, by_folder = (
        said(node.list_own_lines(own), tmp_path),
        said((node.format_path_line(tmp_path / "bin"),), tmp_path),
    )
    assert by_lines == by_folder
    assert len(by_lines.split()) == 2
