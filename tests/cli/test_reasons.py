"""Reasons that people give: one line wherever they were pasted from, and no more of it than fits among other things."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import click
from cli_shell import backout
from source_trees import nodes_of

from backout.cli.app import root

if TYPE_CHECKING:
    from collections.abc import Iterator


CONFIG = """[app]
name = "a"
[journal]
path = "journal.sqlite"
[environments.production]
platform = { provider = "cloudflare", account_id = "a1", script = "s" }
"""
SOURCE = Path(__file__).parents[2] / "src" / "backout"
PASTED = "repairing orders\nnext: backout unhold -e production\r\n\t" + "by hand, row by row " * 200


def commands(group: click.Group, name: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield (name, command) of all that can be typed."""
    for word in group.list_commands(click.Context(group)):
        found = group.get_command(click.Context(group), word)
        assert found is not None
        yield f"{name}{word}", found
        if isinstance(found, click.Group):
            yield from commands(found, f"{name}{word} ")


def test_every_command_folds_its_reason() -> None:
    """The next `-m WHY` has the type that does it, or this fails."""
    from backout.cli.support.options import REASON  # noqa: PLC0415 - so that the other test runs where it is not

    asked = [(name, param) for name, each in commands(root) for param in each.params if "-m" in param.opts]
    assert {"guard accept", "hold", "rollback", "panic", "deployments release", "runs abort"} <= {
        name for name, _ in asked
    }
    assert not [name for name, param in asked if param.type is not REASON]
    assert REASON.convert("a\n b\tc", None, None) == "a b c"


def test_a_reason_is_one_line_and_no_screen(tmp_path: Path) -> None:
    """A hold that is set with a pasted page: what is shown is short, what is kept is whole."""
    (tmp_path / "backout.toml").write_text(CONFIG)
    shown = backout(tmp_path, "hold", "--local", "-e", "production", "-m", PASTED)
    assert shown.code == 0, shown.err
    assert not [line for line in shown.out.splitlines() if line.startswith(("next:", "by hand"))]
    assert "repairing orders next: backout unhold" in shown.out
    assert shown.out.count("row by row") < 20
    kept = backout(tmp_path, "hold", "--local", "-e", "production", "-m", PASTED, "--json").json["why"]
    assert str(kept).count("row by row") == 200
    assert "\n" not in str(kept)


WHOLE = {
    "report/incident/run_entries.py": "an entry of a timeline has it whole for --json, and is cut where it is shown",
    "report/incident/timeline_entries.py": "same",
}
"""Modules in which a reason may stand in a sentence as it is."""


def test_a_reason_in_a_sentence_is_bounded() -> None:
    """What a person gave for a hold, a mark or a plan: in the middle of other words it goes through `brief`."""
    found = []
    for path in SOURCE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        name = str(path.relative_to(SOURCE))
        if ".why}" not in text or name in WHOLE:
            continue
        for node in nodes_of(path):
            if (
                isinstance(node, ast.FormattedValue)
                and isinstance(node.value, ast.Attribute)
                and node.value.attr == "why"
            ):
                owner = ast.unparse(node.value.value).rpartition(".")[2]
                found += [f"{name}:{node.lineno}: {owner}.why"] if owner in {"hold", "mark", "bad", "stable"} else []
    assert found == []
