"""How each of our transactions begins, so that no setting of the application or the database can change it.

The owner of a database sets what its sessions start with (`ALTER DATABASE ... SET search_path`), and a role that may
create in a schema of that path can put a function, an operator or a view there with the name of one of Postgres's own.
Called by an administrator, it is the administrator. So each transaction looks names up in pg_catalog alone, and sets
what else a session may have been given. Within the transaction: behind a pooler a plain SET would be the next client's.

Source: PostgreSQL 18, "Schemas, Usage Patterns", "Writing SECURITY DEFINER Functions Safely" (pg_temp stands last, else
it is searched first), "Client Connection Defaults", COPY ("File Formats, Text Format").
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

Row = tuple[str | None, ...]

SEARCH_PATH: Final = "pg_catalog, pg_temp"
PATH: Final = "backout_search_path"
"""The attribute of a connection that has another search path of ours: an owner's, whose functions rely on it."""
_SETTINGS: Final[Mapping[str, str]] = {
    "search_path": SEARCH_PATH,
    "row_security": "off",  # what would be filtered is an error, and never fewer rows
    "standard_conforming_strings": "on",
    "constraint_exclusion": "off",  # on, the planner evaluates the CHECKs of what is read
    "transform_null_equals": "off",
    "datestyle": "'ISO, YMD'",
    "intervalstyle": "postgres",
    "timezone": "'UTC'",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "xmloption": "content",
    "array_nulls": "on",
    "lc_monetary": "'C'",  # how money is written
    "lc_numeric": "'C'",
    "quote_all_identifiers": "off",
    "client_min_messages": "error",
}
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED: Final[Mapping[str, str]] = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def write_pins(more: Mapping[str, str], *, local: bool = True) -> str:
    """Return the statements that set what a session may have been given otherwise.

    Args:
        more: settings besides.
        local: for the transaction; False for the session, which must not be shared.
    """
    word = "SET LOCAL" if local else "SET SESSION"
    return "; ".join(f"{word} {name} = {value}" for name, value in {**_SETTINGS, **more}.items())


def begin_reading(
    statement_timeout_ms: int, *, lock_timeout_ms: int = 0, before: str = "", isolation: str = "READ COMMITTED"
) -> str:
    """Return the statements that a reading transaction begins with.

    Args:
        lock_timeout_ms: 0 for as long as the statement may take.
        before: asked in the names that the session had.
    """
    begin = f"BEGIN ISOLATION LEVEL {isolation} READ ONLY NOT DEFERRABLE"
    limits = {"statement_timeout": str(statement_timeout_ms), "lock_timeout": str(lock_timeout_ms)}
    return "; ".join(filter(None, (begin, before, write_pins(limits))))


def parse_copied_row(line: bytes) -> Row:
    r"""Return a row as COPY writes it.

    >>> parse_copied_row(b"1\t\\N\ta\\tb\\\\n\n")
    ('1', None, 'a\tb\\n')
    """
    fields = line.decode(errors="replace").removesuffix("\n").split("\t")
    return tuple(None if field == "\\N" else _ESCAPE.sub(_unescape, field) for field in fields)


def _unescape(found: re.Match[str]) -> str:
    return _ESCAPED.get(found[1], found[1])
