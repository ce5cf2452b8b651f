"""Our SQL means what it says on every database: one place opens connections, and names are Postgres's own.

What is decided here: who opens a connection; that a module whose statements go through an unpinned one writes its names
in full; that no comparison with a column of the application leaves the choice of the operator to a search path.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from source_trees import nodes_of
from sql_strings import is_statement, texts_of, unqualified

SOURCE = Path(__file__).resolve().parents[2] / "src" / "backout"
MODULES = sorted(SOURCE.rglob("*.py"))
OPENS = {
    "providers/postgres/server/session.py": "the one place",
    "providers/tasks/queue.py": "procrastinate's own pool, with the server verified as in `session`",
    "twin/stage.py": "the twin's own database, with its own sample",
    "wiring/drills/post_mortems.py": "a server that the drill made and throws away",
}
UNPINNED = ("open_application",)
"""What of `session` opens a connection whose names are the application's."""
PINS = ("begin_reading", "write_quietly", "write_pins", "SEARCH_PATH", "_PLAIN", "read_power", "check_login")
"""What a module begins the transactions of `open_asking` with."""


def name(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def taken_from_session(path: Path) -> set[str]:
    """Return what a module imports from `session`."""
    return {
        alias.name
        for node in nodes_of(path)
        if isinstance(node, ast.ImportFrom) and node.module == "backout.providers.postgres.server.session"
        for alias in node.names
    }


def test_connections_are_opened_in_one_place() -> None:
    """By psycopg in `session`, by libpq in `libpq`: whoever goes around them has no pinned names."""
    found = {
        name(path)
        for path in MODULES
        for node in nodes_of(path)
        if (
            isinstance(node, ast.Attribute)
            and node.attr in ("connect", "AsyncConnection")
            and "psycopg" in ast.unparse(node)
        )
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "psycopg"
            and any(a.name == "connect" for a in node.names)
        )
        or (
            isinstance(node, ast.Constant)
            and node.value == "PQconnectdbParams"
            and name(path) != "providers/postgres/server/libpq_library.py"
        )
    }
    assert found == set(OPENS)


def test_a_session_of_the_applications_is_opened_where_its_statements_are_sent() -> None:
    """Nowhere else may a statement be looked up in the names that a database sets."""
    found = {name(path) for path in MODULES if taken_from_session(path) & set(UNPINNED)}
    assert found == {
        f"providers/postgres/{module}.py"
        for module in (
            *("schema/deploy", "schema/shadow", "schema/trials"),
            "fence/commit_check",  # its statements are written in full
            "certify/database",  # made for a trial, of the team's own migrations, on a server that is thrown away
        )
    }


@pytest.mark.parametrize(
    "module", ["schema/deploy", "schema/trials", "schema/shadow", "server/session", "fence/commit_check"]
)
def test_our_own_statements_there_are_written_in_full(module: str) -> None:
    """Functions, operators, types and tables bear their schema; a string that nobody can read is an error."""
    strange = []
    for text in texts_of(SOURCE / "providers" / "postgres" / f"{module}.py"):
        if not is_statement(text.text):
            strange.append(f"line {text.line}: cannot be read: {text.text[:60]!r}")
            continue
        strange += [f"line {text.line}: {each}" for each in unqualified(text.text)]
    assert strange == []


def test_what_is_asked_before_the_names_are_pinned_is_written_in_full() -> None:
    """It keeps for the transaction where the session would have looked."""
    from backout.providers.postgres.schema.history import SESSION_SCHEMAS  # noqa: PLC0415 - the others need no source of ours

    assert unqualified(SESSION_SCHEMAS) == []


def test_who_asks_without_a_pinned_session_pins_each_transaction() -> None:
    """`open_asking` leaves that to its user, so each module that has it begins them with what `pinned` returns."""
    found = {name(path) for path in MODULES if "open_asking" in taken_from_session(path) and not _mentions(path, PINS)}
    assert found == set()


def _mentions(path: Path, words: tuple[str, ...]) -> bool:
    names = {node.id for node in nodes_of(path) if isinstance(node, ast.Name)}
    return bool(names & set(words))


def test_nobody_sets_a_search_path_but_the_one_that_pins() -> None:
    """A statement that sets it anew would undo what the others rely on."""
    allowed = {
        "pinned": "ours",
        "history": "the table's schema, behind the catalog, for one COPY",
        "deploy": "the application's own, in its own session",
        "trials": "the same",
        "stand_in": "reads what the application's role has",
        "plain_role": "ours, in short",
        "dump_contents": "ours, in short",
        "dumps": "ours, of the transaction that is dumped",
        "by_hand": "ours, of what an administrator types",
        "owner_session": "the owner's own, behind the catalog, in a session that is nobody else",
        "tables": "procrastinate's schema, which names nothing in full, while it is made",
        "queue": "the catalog, then procrastinate's own, of sessions that do nothing else",
        "postgres_schema": "of the journal's triggers, each in the definition of its function",
    }
    found = set()
    for path in (path for path in MODULES if b"search_path" in path.read_bytes()):
        for node in nodes_of(path):
            text = node.value if isinstance(node, ast.Constant) else None
            text = text.decode(errors="replace") if isinstance(text, bytes) else text
            if isinstance(text, str) and re.search(r"(SET|set_config\()[^\n]{0,20}search_path", text):
                found.add(path.stem)
    assert found <= set(allowed)


ROWS = sorted(
    str(path.relative_to(SOURCE / "providers" / "postgres").with_suffix(""))
    for path in (
        SOURCE / "providers" / "postgres" / "schema" / "rowsql.py",
        *(SOURCE / "providers" / "postgres" / "rescue").glob("[a-z]*.py"),
        *(SOURCE / "providers" / "postgres" / "provenance").glob("[a-z]*.py"),
    )
)


@pytest.mark.parametrize("module", ROWS)
def test_columns_of_the_application_are_compared_by_an_operator_with_its_schema(module: str) -> None:
    """A type of the application may bring an operator of its own; `=` between two columns would take it."""
    bare = re.compile(r"\b[a-z]\.HOLE\s*(=|<>|<|>|<=|>=)\s*[a-z]\.HOLE")
    found = []
    for node in nodes_of(SOURCE / "providers" / "postgres" / f"{module}.py"):
        if isinstance(node, ast.JoinedStr):
            text = "".join(part.value if isinstance(part, ast.Constant) else "HOLE" for part in node.values)  # type: ignore[misc]
            found += [f"line {node.lineno}: {text}"] if bare.search(text) else []
    assert found == []


@pytest.mark.parametrize(
    ("statement", "names"),
    [
        ("SELECT pg_backend_pid()", ["function pg_backend_pid"]),
        ("SELECT 1 FROM pg_class", ["table pg_class"]),
        ("SELECT a.x = 1 FROM pg_catalog.pg_class AS a", ["operator ="]),
        ("SELECT x::text FROM pg_catalog.pg_class", ["type text"]),
        ("SELECT x IN (1, 2) FROM pg_catalog.pg_class", ["operator ="]),
        ("SELECT x::integer, x OPERATOR(pg_catalog.=) %s, pg_catalog.now() FROM pg_catalog.pg_class", []),
        ("WITH c AS (SELECT 1) SELECT * FROM c", []),
    ],
)
def test_the_check_sees_what_a_search_path_decides(statement: str, names: list[str]) -> None:
    """Else it would find nothing because it cannot."""
    assert unqualified(statement) == names


def test_the_databases_that_let_sessions_in_are_asked_for_in_one_place() -> None:
    """A list of one's own forgets those that a DROP DATABASE left half removed, and is stopped by them."""
    asking = {name(path) for path in MODULES if "WHERE datallowconn" in path.read_text(encoding="utf-8")}
    assert asking == {"providers/postgres/server/session.py"}
