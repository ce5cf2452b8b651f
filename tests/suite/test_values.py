"""A value is a `Value`: a frozen dataclass, which takes fifty times as long to define, only for what a Struct lacks."""

from __future__ import annotations

import ast

from source_trees import SOURCE, tree_of


def frozen_dataclasses(tree: ast.Module) -> set[str]:
    """Return the frozen dataclasses all of whose fields a Struct could have: it always shows and compares a field."""
    found = set()
    for each in ast.walk(tree):
        if isinstance(each, ast.ClassDef) and any(_freezes(decorator) for decorator in each.decorator_list):
            hidden = any(
                isinstance(node, ast.keyword) and node.arg in ("repr", "compare", "hash", "init")
                for line in each.body
                if isinstance(line, ast.AnnAssign)
                for node in ast.walk(line)
            )
            found |= set() if hidden else {each.name}
    return found


def _freezes(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and any(word.arg == "frozen" for word in decorator.keywords)


def test_values_are_structs() -> None:
    """`backout.model.value.Value` is their base."""
    found = {name for path in sorted(SOURCE.rglob("*.py")) for name in frozen_dataclasses(tree_of(path))}
    assert found == set()


def test_one_is_found() -> None:
    """A field that is not shown needs a dataclass."""
    plain = "@dataclass(frozen=True, slots=True)\nclass Plain:\n    a: int = field(default_factory=int)\n"
    secret = "@dataclass(frozen=True)\nclass Secret:\n    key: str = field(repr=False)\n"
    assert frozen_dataclasses(ast.parse(plain + secret)) == {"Plain"}
