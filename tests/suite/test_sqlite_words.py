"""What SQLite says of an error may quote the file: it is shown through one function alone."""

from __future__ import annotations

import ast
import sqlite3
from pathlib import Path

from source_trees import tree_of

from backout.sqlite_words import quote_in_brackets

SOURCE = Path(__file__).parents[2] / "src" / "backout"


def shows(tree: ast.AST) -> list[int]:
    """Return the lines in which an error of SQLite is put into a text as it is."""
    found = []
    for node in ast.walk(tree):
        name = ""
        if isinstance(node, ast.ExceptHandler) and node.type is not None and "sqlite3" in ast.unparse(node.type):
            name = node.name or ""
        elif isinstance(node, ast.FunctionDef):
            args = [arg for arg in node.args.args if arg.annotation and "sqlite3." in ast.unparse(arg.annotation)]
            name = next((arg.arg for arg in args if "Error" in ast.unparse(arg.annotation or arg)), "")
        for inner in ast.walk(node) if name else ():
            values = (
                [v.value for v in inner.values if isinstance(v, ast.FormattedValue)]
                if isinstance(inner, ast.JoinedStr)
                else []
            )
            found += [inner.lineno for value in values if isinstance(value, ast.Name) and value.id == name]
    return found


def test_no_error_of_sqlite_is_shown_as_it_is() -> None:
    """Neither in a handler nor in a function that is handed one."""
    wrong = [
        f"{path.relative_to(SOURCE)}:{line}"
        for path in SOURCE.rglob("*.py")
        if path.name != "sqlite_words.py" and "sqlite3" in path.read_text(encoding="utf-8")
        for line in shows(tree_of(path))
    ]
    assert not wrong
    assert shows(ast.parse("try:\n    f()\nexcept sqlite3.Error as e:\n    g(f'no {e}')")) == [4]
    assert shows(ast.parse("def f(e: sqlite3.Error):\n    return f'no {e}'")) == [2]


def test_only_words_of_its_own_are_shown() -> None:
    """A message that quotes the file is left out."""
    assert quote_in_brackets(sqlite3.OperationalError("disk I/O error")) == " (disk I/O error)"
    assert quote_in_brackets(sqlite3.OperationalError("malformed database schema (x) - near: y")) == ""
    assert (
        quote_in_brackets(sqlite3.OperationalError("Could not decode to UTF-8 column 'data' with text 'secret'")) == ""
    )
