"""What a psql line begins with, from the configuration; a connection string is never in it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backout.config.schema.environment import Database


def name_connection(database: Database, *, is_plain: bool = True) -> str:
    """Return what a psql line of the administrator's begins with: the connection string is read where it is kept.

    Args:
        is_plain: libpq takes it as it is; otherwise what an ORM appended is cut off.
    """
    variable, path = database.admin_url_env, database.admin_url_file
    if not (variable or path):
        variable, path = database.url_env, database.url_file
    if variable:
        return f'psql "${variable}"' if is_plain else f'psql "${{{variable}%%\\?*}}"'
    read = f"cat {shlex.quote(str(path))}"
    return f'psql "$({read})"' if is_plain else f'psql "$({read} | cut -d? -f1)"'
