"""A table by the members of an enumeration has all of them, unless it is asked whether it has one."""

from __future__ import annotations

import ast
import importlib
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from source_trees import nodes_of, tree_of

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).parents[2] / "src"
LACKING = {
    "backout.config.drill_rules._ELSEWHERE": "in a twin a drill has another procedure, and another function",
    "backout.report.incident.notice_shift._MEANS": "a shift that rolls back is told by the rollback",
    "backout.runbook.guard.shift_notices.KINDS": "a shift that rolls back is told by the rollback",
    "backout.report.secrets._SOURCE": "a source is compared with what was pushed, so that nothing in it is added",
    "backout.web.sentences._NAMES": "the names of a watch and of a rollback have a version in them",
}
"""Tables that lack members on purpose: why no other member is looked up."""


def list_tables(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the name of each such table of a module, and of its enumeration."""
    looked_up = {
        each.value.id
        for each in nodes_of(path)
        if isinstance(each, ast.Subscript) and isinstance(each.value, ast.Name) and isinstance(each.ctx, ast.Load)
    }
    asked = {
        each.comparators[0].id
        for each in nodes_of(path)
        if isinstance(each, ast.Compare)
        and isinstance(each.ops[0], ast.In | ast.NotIn)
        and isinstance(each.comparators[0], ast.Name)
    }
    for each in tree_of(path).body:
        target = each.targets[0] if isinstance(each, ast.Assign) else getattr(each, "target", None)
        table = getattr(each, "value", None)
        if not isinstance(target, ast.Name) or target.id not in looked_up - asked or not isinstance(table, ast.Dict):
            continue
        of = {ast.unparse(key.value) for key in table.keys if isinstance(key, ast.Attribute)}
        if len(of) == 1 and all(isinstance(key, ast.Attribute) for key in table.keys):
            yield target.id, of.pop()


def test_every_member_has_a_row() -> None:
    """A new member is found here, and not by whoever meets it first."""
    lacking = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for table, of in list_tables(path):
            module = importlib.import_module(".".join(path.relative_to(SOURCE).with_suffix("").parts))
            kind = getattr(module, of)
            if isinstance(kind, type) and issubclass(kind, Enum):
                missing = [each.name for each in kind if each not in getattr(module, table)]
                if missing:
                    lacking[f"{module.__name__}.{table}"] = missing
    assert {name: missing for name, missing in lacking.items() if name not in LACKING} == {}
    assert set(LACKING) <= set(lacking), "rows that are not needed any more"
