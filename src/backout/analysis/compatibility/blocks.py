"""DO blocks: the statements inside a PL/pgSQL block, as its own parser finds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pglast
from pglast import ast

from backout.analysis.compatibility.parsing import Node, Unreadable, parse
from backout.analysis.compatibility.splitting import split
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterator

_LANGUAGE: Final = "plpgsql"


class Block(Value, frozen=True):
    """The statements of a block that can be read, and why others cannot."""

    statements: tuple[Node, ...] = ()
    unread: tuple[str, ...] = ()


def read_block(node: Node) -> Block:
    """Return what a DO statement runs, whatever its conditions and loops."""
    options = {str(option.defname): str(option.arg.sval) for option in node.args or ()}
    language = options.get("language", _LANGUAGE)
    if language != _LANGUAGE:
        return Block(unread=(f"it is written in {language}",))
    body = options.get("as", "")
    tag = next(f"$b{n}$" for n in range(len(body) + 2) if f"$b{n}$" not in body)
    try:
        tree = pglast.parse_plpgsql(f"DO {tag}{body}{tag}")
    except (pglast.Error, UnicodeError, ValueError, RecursionError) as error:
        return Block(unread=(" ".join(str(error).split()) or type(error).__name__,))
    statements: list[Node] = []
    unread: list[str] = []
    for text, why in _list_texts(tree):
        if why:
            unread.append(why)
            continue
        try:
            for piece in split(text):
                statements += parse(piece.text)
        except Unreadable as error:
            unread.append(str(error))
    return Block(tuple(statements), tuple(unread))


def _list_texts(tree: Any) -> Iterator[tuple[str, str]]:
    """Yield (SQL, "") for each statement, ("", why) for what is only known when it runs, in the order of the text."""
    if isinstance(tree, list):
        for item in tree:
            yield from _list_texts(item)
        return
    if not isinstance(tree, dict):
        return
    for kind, inner in tree.items():
        if kind in {"PLpgSQL_stmt_dynexecute", "PLpgSQL_stmt_dynfors"}:
            yield _read_dynamic(inner.get("query", {}))
            yield from _list_texts(inner.get("body", []))
        elif kind == "PLpgSQL_expr":
            yield from _rewrite_expression(inner)
        else:
            yield from _list_texts(inner)


def _rewrite_expression(inner: Any) -> Iterator[tuple[str, str]]:
    """Yield a statement as it is, an expression or an assignment as the SELECT that computes it."""
    text, mode = str(inner.get("query", "")), int(inner.get("parseMode", 0))
    if mode == 0:
        yield text, ""
    elif mode >= _ASSIGNMENT:
        yield f"SELECT {text.partition(':=')[2] or text.partition('=')[2]}", ""
    else:
        yield f"SELECT {text}", ""


_ASSIGNMENT: Final = 3


def _read_dynamic(query: Any) -> tuple[str, str]:
    """Return the SQL of EXECUTE when it is one constant text."""
    text = str(query.get("PLpgSQL_expr", {}).get("query", ""))
    try:
        found: Node = parse(f"SELECT {text}")[0]
    except Unreadable:
        return "", "EXECUTE of a text that is put together when it runs"
    value = found.targetList[0].val if len(found.targetList or ()) == 1 else None
    if isinstance(value, ast.A_Const) and isinstance(value.val, ast.String):
        return str(value.val.sval), ""
    return "", "EXECUTE of a text that is put together when it runs"
