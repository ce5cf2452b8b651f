"""The initial settings of sessions: those of roles and databases before the damage, after it, and live.

pg_dump does not include them in the dump of one database, and the application reads different data under another
`search_path` or time zone. The value of a parameter defined by an extension or the application (its name has a
dot) may be a secret, and is never shown.

Source: PostgreSQL 18, "pg_db_role_setting", ALTER ROLE, ALTER DATABASE; src/fe_utils/string_utils.c
(makeAlterConfigCommand: which parameters hold lists of names).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from backout.model.database.rescue import DefinitionDifference, LeftOut
from backout.providers.postgres.schema.quoting import quote_identifier

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SETTINGS: Final = """
SELECT coalesce(r.rolname::text, ''), coalesce(d.datname::text, ''), s.setconfig
FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase
WHERE s.setdatabase = 0 OR d.datname = current_database()
"""
_LISTS: Final = frozenset(
    {
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    }
)
_ITEM: Final = re.compile(r'"(?:[^"]|"")*"|[^,\s]+')
_NOT_SHOWN: Final = "(not shown)"
_ANOTHER: Final = "(another value, not shown)"
Settings = dict[tuple[str, str], dict[str, str]]
"""By (role, database), "" for all of them: the value of each parameter by its name."""


def read_settings(connection: Any) -> Settings:
    """Return the initial settings of sessions with this database."""
    found: Settings = {}
    for role, database, config in connection.execute(_SETTINGS).fetchall():
        pairs = (str(each).partition("=") for each in config or ())
        found[role, database] = {name: value for name, _, value in pairs}
    return found


def compare_settings(before: Settings, live: Settings) -> Iterator[DefinitionDifference]:
    """Yield how settings differ from those before the damage, whatever changed them."""
    for whose in sorted(before.keys() | live.keys()):
        was, now = before.get(whose, {}), live.get(whose, {})
        names = sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))
        if names:
            ends = _format_lines(was, names, _NOT_SHOWN), _format_lines(now, names, _ANOTHER)
            yield DefinitionDifference(f"settings of {_describe_scope(whose)}", *ends)


def list_settings_left_out(before: Settings, after: Settings, live: Settings, *, seen: bool) -> Iterator[LeftOut]:
    """Yield the settings that the damage changed and that were not changed since.

    Args:
        seen: whether nothing else wrote at that time, so that only the damage can have done it.
    """
    reason = "the damage changed it, and it is not changed back automatically"
    for whose in sorted(before.keys() | after.keys()):
        was, then, now = (each.get(whose, {}) for each in (before, after, live))
        for name in sorted(was.keys() | then.keys()):
            if was.get(name) != then.get(name) and now.get(name) == then.get(name):
                what = f"setting {name} of {_describe_scope(whose)}"
                yield LeftOut(what, reason, _write_statement(whose, name, was.get(name)), seen=seen)


def _format_lines(settings: Mapping[str, str], names: list[str], hidden: str) -> str:
    there = (name for name in names if name in settings)
    return "\n".join(f"{name} = {hidden if '.' in name else settings[name]}" for name in there)


def _describe_scope(whose: tuple[str, str]) -> str:
    role, database = whose
    if role:
        return f"role {role} in database {database}" if database else f"role {role}"
    return f"database {database}" if database else "all roles"


def _write_statement(whose: tuple[str, str], name: str, value: str | None) -> str:
    """Return the statement that restores a parameter's value; for a hidden one, where to find the value."""
    role, database = whose
    place = f"ALTER ROLE {quote_identifier(role) if role else 'ALL'}" if role or not database else ""
    place += f" IN DATABASE {quote_identifier(database)}" if place and database else ""
    place = place or f"ALTER DATABASE {quote_identifier(database)}"
    parameter = ".".join(quote_identifier(part) for part in name.split("."))
    if value is None:
        return f"{place} RESET {parameter};"
    if "." in name:
        shown = "in psql of a side instance (backout db restore TARGET --side): \\drds"
        return f"-- its value is {shown}\n{place} SET {parameter} TO '...';"
    items = [each.strip('"').replace('""', '"') for each in _ITEM.findall(value)] if name in _LISTS else [value]
    return f"{place} SET {parameter} TO {', '.join(_quote_literal(each) for each in items) or _quote_literal('')};"


def _quote_literal(text: str) -> str:
    doubled = text.replace("'", "''")
    if "\\" not in doubled:
        return f"'{doubled}'"
    return "E'" + doubled.replace("\\", "\\\\") + "'"
