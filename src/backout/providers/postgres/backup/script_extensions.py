"""Extensions that SQL scripts create and an unprivileged role may not: a privileged role creates them beforehand.

An extension that its control file calls trusted can be created by the database's owner; `vector` and the like cannot.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from backout.providers.postgres.backup.plain_role import check_extensions, find_untrusted, make_extensions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    import psycopg

_NAME: Final = r'(?:"(?:[^"]|"")+"|[A-Za-z_][\w$]*)'
_EXTENSION: Final = re.compile(
    rf"^(?P<begin>\s*CREATE\s+EXTENSION\s+)(?P<there>IF\s+NOT\s+EXISTS\s+)?(?P<name>{_NAME})"
    rf"(?:\s+(?:WITH\s+)?SCHEMA\s+(?P<schema>{_NAME}))?",
    re.IGNORECASE | re.MULTILINE,
)
_SCHEMA: Final = re.compile(
    rf"^(?P<begin>\s*CREATE\s+SCHEMA\s+)(?P<there>IF\s+NOT\s+EXISTS\s+)?(?P<name>{_NAME})", re.IGNORECASE | re.MULTILINE
)


def make_extensions_of(
    scripts: Sequence[str], administrator: psycopg.Connection[Any], role: str, *, schema: str
) -> tuple[str, ...]:
    """Make what the scripts' own role may not, and return the scripts so that they find it there.

    Args:
        administrator: a superuser's connection to the empty database.
        role: who runs the scripts.
        schema: where an extension lies of which no script says so.

    Raises:
        BackoutError: an extension is not there, or reaches out of the database.
    """
    wanted: dict[str, str] = {}
    for found in (found for script in scripts for found in _EXTENSION.finditer(script)):
        wanted.setdefault(_fold_name(found["name"]), _fold_name(found["schema"]) if found["schema"] else schema)
    needed = {name: where for name, where in wanted.items() if name in find_untrusted(administrator, wanted)}
    check_extensions(administrator, needed, where="the migrations")
    made = make_extensions(administrator, tuple(needed.items()), role)
    return tuple(_find_extension(script, frozenset(needed), made) for script in scripts)


def _find_extension(script: str, extensions: frozenset[str], schemas: frozenset[str]) -> str:
    for pattern, names in ((_EXTENSION, extensions), (_SCHEMA, schemas)):
        script = pattern.sub(lambda found, names=names: _add_if_not_exists(found, names), script)  # type: ignore[misc]
    return script


def _add_if_not_exists(found: re.Match[str], names: frozenset[str]) -> str:
    if found["there"] or _fold_name(found["name"]) not in names:
        return found[0]
    return f"{found['begin']}IF NOT EXISTS {found[0].removeprefix(found['begin'])}"


def _fold_name(name: str) -> str:
    """Return a name as Postgres keeps it.

    >>> _fold_name('"My own"'), _fold_name("Vector")
    ('My own', 'vector')
    """
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()
