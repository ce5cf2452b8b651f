"""Names and texts as SQL."""

from __future__ import annotations


def quote_identifier(name: str) -> str:
    """Return a name as SQL.

    >>> quote_identifier('no"such')
    '"no""such"'
    """
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    r"""Return a text as SQL, which means the same whatever standard_conforming_strings is: a database may set it.

    >>> quote_literal("it's")
    "'it''s'"
    >>> quote_literal("a\\b")
    " E'a\\\\b'"
    """
    quoted = "'" + text.replace("'", "''") + "'"
    return " E" + quoted.replace("\\", "\\\\") if "\\" in text else quoted


def fit_in_line(*names: str) -> bool:
    r"""Whether names fit in the line of a psql command: what stands behind a line's end would be another command.

    >>> fit_in_line("Odd name", "it's"), fit_in_line("a\n\\! rm -r b")
    (True, False)
    """
    return all(name.isprintable() for name in names)
