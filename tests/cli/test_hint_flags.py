"""What an error deep in the program says to type: whole commands, for nobody knows there which command led to it."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

from source_trees import tree_of

from backout.cli.support.options import make_global_options

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).parents[2] / "src" / "backout"
_TOLD = frozenset({"hint", "options", "next"})
OURS = ("cli", "config")
"""Rooms that know what was typed."""
OTHERS = re.compile(r"\b(?:npx|prisma|psql|pg_\w+|python manage\.py) [^`;]*")
"""Command lines of other programs."""
ANSWERED = {
    "--decide": "follows `backout runs resume RUN`, which is put in",
    "--accept-unsigned": "was typed, and is to be left out",
}


def bare_flags(text: str) -> list[str]:
    """Return the flags in a text that stand in no command line."""
    rest = re.sub(r"backout [a-z][^;,()|#\n]*", "", re.sub(r"`[^`]*`", "", OTHERS.sub("", text)))
    return re.findall(r"(?<![\w-])--[a-z][\w-]*", rest)


def text_of(node: ast.AST) -> str:
    """Return the text of a string, or of an f-string with an X where a value is put in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) if isinstance(part, ast.Constant) else "X" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def told() -> Iterator[tuple[str, str]]:
    """Yield (where, text) of all that is said to type next outside the rooms that know the command."""
    for path in SOURCE.rglob("*.py"):
        if path.relative_to(SOURCE).parts[0] in OURS:
            continue
        tree = tree_of(path)
        parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg in _TOLD:
                inner = (each for each in ast.walk(node.value) if id(each) not in parts)
                yield from ((f"{path.name}:{each.lineno}", text) for each in inner if (text := text_of(each)))  # type: ignore[attr-defined]


def test_no_error_names_a_flag_without_its_command() -> None:
    """`rollback --with-database` was told to use `--rescue`, which it does not have."""
    everywhere = {name for param in make_global_options() for name in param.opts}
    texts = list(told())
    assert len(texts) > 100
    wrong = [f"{where}: {flag}: {text}" for where, text in texts for flag in bare_flags(text)
             if flag not in everywhere and flag not in ANSWERED]  # fmt: skip
    assert not wrong, "\n".join(wrong)


def test_a_bare_flag_is_found() -> None:
    """In a sentence; not in a command line, whose own flags `test_hints` checks, nor in another program's."""
    assert bare_flags("set database.server, or use --rescue or --side") == ["--rescue", "--side"]
    assert bare_flags("`backout db restore TARGET --side` or backout db restore TARGET --swap") == []
    assert bare_flags("prisma migrate resolve --rolled-back X") == []
