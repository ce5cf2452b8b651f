"""`backout db migrations drift`: changes made by hand, or never recorded as a migration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.support.options import Command, pass_shell
from backout.errors import AuthError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from backout.cli.support.shell import Shell

_MAJOR = 10_000


@click.command(
    "drift",
    cls=Command,
    short_help="Compare the live schema with the one that the migrations build.",
    epilog="""
Examples:
  backout db migrations drift -e production             # how to bring it back
  backout db migrations drift -e production --record    # as a migration would say it
  backout db migrations drift -e production --build build.sql
""",
)
@click.option("--record", is_flag=True, help="Turn it round: what a migration must say to describe the live schema.")
@click.option("--build", metavar="FILE", help="SQL that builds the schema, in place of the migrations' files.")
@click.option("--shadow-env", metavar="NAME", help="Variable with the connection string of a server to build on.")
@click.option("--ignore-schema", "ignored", multiple=True, metavar="NAME", help="Leave a schema out; may be repeated.")
@pass_shell
def drift(shell: Shell, *, record: bool, build: str | None, shadow_env: str | None, ignored: tuple[str, ...]) -> int:
    """Run the migrations on an empty database, and show how the live schema differs, as SQL statements.

    Nothing is changed. Owners, privileges and comments are not compared. Exit codes: 0 no drift, 1 drift.
    """
    from backout.cli.support.paint import paint_for
    from backout.report.database import migration_history as words
    from backout.runbook.rollback.migrations import find_drift as drifted
    from backout.wiring.db import history

    config = shell.config()
    shadow = shell.environment.secret(shadow_env) if shadow_env else None
    if shadow_env and shadow is None:
        raise AuthError("a connection string is needed", where="--shadow-env", hint=f"set {shadow_env}")
    script = _read(shell.folder / build) if build else None
    found = drifted(*history.make_catalogs(config, build=script, shadow=shadow, ignore_schemas=ignored), record=record)
    style = shell.output.style
    human = words.format_drift(config.name, found, record=record, paint=paint_for(style))
    shell.output.result("db-migrations-drift", words.make_drift_record(config.name, found, record=record), human)
    live, built = found.live_version // _MAJOR, found.built_version // _MAJOR
    if live != built:
        shell.output.warn(
            f"the live server is Postgres {live}, the shadow {built}: they may write the same view or function "
            "differently; --shadow-env names a server of the same version"
        )
    return 1 if found.differences else 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read it: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError:
        raise UsageError("not UTF-8", where=str(path)) from None
