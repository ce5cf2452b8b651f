"""What was recorded is read as a type: nothing is made a number by way of its text."""

from __future__ import annotations

import ast
from pathlib import Path

from source_trees import nodes_of

SOURCE = Path(__file__).parents[2] / "src" / "backout"


def read_by_text(nodes: tuple[ast.AST, ...]) -> list[int]:
    """Return the lines with `float(str(...))` or `int(str(...))`, which hides from mypy what a value is."""
    found = []
    for node in nodes:
        match node:
            case ast.Call(func=ast.Name(id="float" | "int"), args=[ast.Call(func=ast.Name(id="str"))]):
                found.append(node.lineno)
    return found


def test_no_number_is_read_by_way_of_its_text() -> None:
    """`decode_values` says what is wrong with a value that is not a number; `result_of` gives a step's result."""
    found = {path.name: lines for path in sorted(SOURCE.rglob("*.py")) if (lines := read_by_text(nodes_of(path)))}
    assert found == {}


def test_one_is_found() -> None:
    """In an expression, too."""
    tree = ast.parse("a = [float(str(x['at'])) - 1]\nb = int(x)\nc = int(str(y))")
    assert sorted(read_by_text(tuple(ast.walk(tree)))) == [1, 3]
