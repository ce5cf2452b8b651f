"""No statement is sent to Postgres in psycopg's pipeline: a server that has read its last message waits without end.

`executemany` ends with a Flush behind the Sync. PostgreSQL 18 starts `idle_in_transaction_session_timeout` at the Sync
and ends it at whatever message comes next, which is that Flush: a process that is frozen behind it keeps what
it has locked.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from source_trees import tree_of

SOURCE = Path(__file__).parents[2] / "src" / "backout"
IMPORTS = re.compile(r"^ *(?:import|from) psycopg", re.MULTILINE)
PIPELINES = ("pipeline", "executemany")


def find_pipelines(tree: ast.AST) -> list[int]:
    """Return the lines that call one of them."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in PIPELINES
    ]


def test_nothing_is_sent_in_a_pipeline() -> None:
    """In no module that knows psycopg; the journal's link, which others call, has its own `executemany`."""
    wrong = [
        f"{path.relative_to(SOURCE)}:{line}"
        for path in SOURCE.rglob("*.py")
        if IMPORTS.search(path.read_text(encoding="utf-8"))
        for line in find_pipelines(tree_of(path))
    ]
    assert not wrong
    assert find_pipelines(ast.parse("with c.pipeline():\n    c.cursor().executemany(a, b)")) == [1, 2]
