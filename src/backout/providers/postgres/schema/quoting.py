"""Names and texts as SQL."""

from __future__ import annotations


def identifier(name: str) -> str:
    """Return a name as SQL.

    >>> identifier('no"such')
    '"no""such"'
    """
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    r"""Return a text as SQL, which means the same whatever standard_conforming_strings is: a database may set it.

    >>> literal("it's")
    "'it''s'"
    >>> literal("a\\b")
    " E'a\\\\b'"
    """
    quoted = "'" + text.replace("'", "''") + "'"
    return " E" + quoted.replace("\\", "\\\\") if "\\" in text else quoted
