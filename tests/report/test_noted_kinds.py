"""Everything that is recorded beside the runs is told by the timeline, or is named here with the reason why not."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

from source_trees import nodes_of, tree_of

from backout.model.incident.incident import Event
from backout.report.incident.run_entries import RunTeller

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).parents[2] / "src" / "backout"
KIND = re.compile(r"[a-z]+(?:\.[a-z_]+)+\.?")
BRANCH = ("created", "finalized", "deleted")
"""What is done to a vendor's branch, the one kind that ends with a value."""
UNTOLD = {
    "worker.job": "when a worker ran what was due; what came of it has a record of its own, and `/metrics`",
    "schema.proof": "what became of statements on a side; `db prove` tells it, and a rollback that it refuses",
    **dict.fromkeys(
        (f"drill.{what}" for what in ("started", "ended", "failed", "breaks", "broke")),
        "`drill history` tells it",
    ),
    **dict.fromkeys(
        (f"request.{what}" for what in ("made", "taken", "ended")),
        "what was asked for on a page: the run, the hold or the refusal that came of it is told",
    ),
    "database.unsigned.proved": "a side of an unsigned backup came up: the acceptance of that backup is told",
}


def strings(node: ast.AST, tree: ast.AST, path: Path) -> Iterator[str]:
    """Yield the texts that an expression may be, constants of the source looked up by their name."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr) and node.values:
        yield from strings(node.values[0], tree, path)
    elif isinstance(node, ast.IfExp):
        yield from strings(node.body, tree, path)
        yield from strings(node.orelse, tree, path)
    elif isinstance(node, ast.Name):
        for each in ast.walk(tree):
            targets = (
                each.targets
                if isinstance(each, ast.Assign)
                else [each.target]
                if isinstance(each, ast.AnnAssign)
                else []
            )
            if (
                any(isinstance(target, ast.Name) and target.id == node.id for target in targets)
                and each.value is not None
            ):  # type: ignore[attr-defined]
                yield from strings(each.value, tree, path)  # type: ignore[attr-defined]
            if isinstance(each, ast.ImportFrom) and any(
                (alias.asname or alias.name) == node.id for alias in each.names
            ):
                other = SOURCE.joinpath(*str(each.module).split(".")[1:]).with_suffix(".py")
                if other.is_file() and other != path:
                    yield from strings(node, tree_of(other), other)


def noted_kinds() -> dict[str, str]:
    """Return {kind: where} of all that is given to `note`; one that ends with a point goes on with a value."""
    found: dict[str, str] = {}
    for path in SOURCE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "note(" not in text:
            continue
        for node in nodes_of(path):
            if (
                isinstance(node, ast.Call)
                and (getattr(node.func, "attr", "") or getattr(node.func, "id", "")) == "note"
            ):
                for each in node.args[:2]:
                    kinds = (kind for kind in strings(each, tree_of(path), path) if KIND.fullmatch(kind))
                    found |= {kind: f"{path.relative_to(SOURCE)}:{node.lineno}" for kind in kinds}
    return found


def test_every_note_is_told() -> None:
    """`guard accept` was recorded and stood in no timeline; what is recorded next is told, or this fails."""
    kinds = noted_kinds()
    assert {"guard.accept", "database.swapped", "change.began", "wal.promise_kept", "migration.applied"} <= set(kinds)
    data = {"run": "r-1", "version": "v", "shift": "s", "why": "w", "by": "b", "sentence": "s"}
    for kind, where in kinds.items():
        names = [f"{kind}{rest}" for rest in BRANCH] if kind.endswith(".") else [kind]
        for name in names:
            told = list(RunTeller(()).hear(Event(1, 1.0, "production", "", None, name, data, "ops@host")))
            assert bool(told) is (name not in UNTOLD), f"{where}: {name}"
    assert set(UNTOLD) <= set(kinds)
