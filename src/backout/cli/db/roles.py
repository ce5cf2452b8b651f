"""`backout db roles`: print the script that creates the least-privileged role for a job; a person runs it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import click

from backout.cli.support.options import Command, pass_shell
from backout.errors import UsageError

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell

JOBS: Final = ("look", "prove", "backup", "rescue", "swap", "migrate")
_MEMBERS: Final = ("rescue", "migrate")
"""The jobs whose role is a member of the tables' owner."""
_LONGEST_BYTES: Final = 63
_VARIABLE: Final = re.compile(r""":(["'])([a-z_]+)\1""")


@click.command(
    "roles",
    cls=Command,
    short_help="Print SQL for the least-privileged role for a job.",
    epilog="""
Examples:
  backout db roles look --database shop | psql -d shop
  backout db roles rescue --database shop --owner shop_owner
""",
)
@click.argument("job", type=click.Choice(JOBS))
@click.option("--role", metavar="NAME", help="The role's name; default: backout_JOB.")
@click.option("--database", default="postgres", metavar="NAME", help="The application's database; default: postgres.")
@click.option("--owner", metavar="NAME", help="The owner of the tables (rescue, migrate).")
@click.option(
    "--history",
    default="public._prisma_migrations",
    metavar="TABLE",
    help="The table of applied migrations, with its schema (look, swap).",
)
@pass_shell
def roles(shell: Shell, *, job: str, role: str | None, database: str, owner: str | None, history: str) -> int:
    """Print the SQL that creates the role for one job, with no other right. Nothing is run.

    Review it, then run it with psql in that database as a role that may create it. It sets no password: set one with
    psql's own command, which does not send it in the clear. What each job needs and why: docs/database-roles.md.
    """
    schema, _, table = history.rpartition(".")
    names = {
        "role": role or f"backout_{job}",
        "database": database,
        "owner": owner or "postgres",
        "history_schema": schema or "public",
        "history_table": table,
    }
    script = fill_script(job, names)
    payload = {"job": job, "role": names["role"], "sql": script}
    if owner is None and job in _MEMBERS:
        shell.output.warn(
            "without --owner the role is a member of postgres, which is a superuser: name the owner of the tables"
        )
    shell.output.result("db-roles", payload, script.rstrip("\n"))
    return 0


def fill_script(job: str, names: dict[str, str]) -> str:
    """Return the script of a job with its names in it, as psql would fill its variables. Raises UsageError."""
    from importlib.resources import files

    for name in names.values():
        if not name or not name.isprintable() or len(name.encode()) > _LONGEST_BYTES:
            raise UsageError(f"not a name: {name!r}", hint="backout db roles --help")

    def quote_name(found: re.Match[str]) -> str:
        mark, name = found[1], names[found[2]]
        return mark + name.replace(mark, mark * 2) + mark

    script = files("backout.catalogue").joinpath("roles").joinpath(f"{job}.sql").read_text(encoding="utf-8")
    return _VARIABLE.sub(quote_name, script)
