"""Whether what Postgres refused may succeed later is decided in one place, for a rescue and for its undo."""

from __future__ import annotations

import ast

import psycopg
import pytest
from source_trees import SOURCE, tree_of

from backout.providers.postgres.server.message import may_pass

RESCUE = SOURCE / "providers" / "postgres" / "rescue"
CONNECTS = {"rescue.py"}
"""Opens the connections, and ends the rescue whatever the kind of error is."""


def names_the_kind(tree: ast.AST) -> bool:
    """Whether a handler says itself which of psycopg's exceptions may pass."""
    caught = [node.type for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.type is not None]
    return any("OperationalError" in ast.unparse(each) for each in caught)


def test_no_step_of_a_rescue_decides_it_for_itself() -> None:
    """`OperationalError` has 55000 among its kinds, a state that does not come by itself: it stopped a whole rescue."""
    assert {path.name for path in RESCUE.glob("*.py") if names_the_kind(tree_of(path))} == CONNECTS


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (psycopg.OperationalError("the connection was lost"), True),
        (psycopg.errors.LockNotAvailable(), True),
        (psycopg.errors.ObjectInUse(), True),
        (psycopg.errors.DiskFull(), True),
        (psycopg.errors.AdminShutdown(), True),
        (psycopg.errors.ObjectNotInPrerequisiteState(), False),
        (psycopg.errors.InsufficientPrivilege(), False),
        (psycopg.errors.UniqueViolation(), False),
    ],
)
def test_what_may_pass(error: psycopg.Error, passes: bool) -> None:
    """A lock, the connection, the server's disk; not a right, a value, or a state that somebody has to make."""
    assert may_pass(error) is passes
