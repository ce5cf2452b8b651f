"""`backout db migrations prove`: the old code's statements, tried on a side database under the new schema."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from backout.cli.support.options import Command, pass_shell
from backout.errors import UsageError

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.model.database.statements import StatementProof, Trial

_SHOWN = 20


@click.command(
    "prove",
    cls=Command,
    short_help="Try the old code's statements on the new schema, away from production.",
    epilog="""
Examples:
  backout db migrations prove -e production --side-url-env SIDE_URL
  backout db migrations prove -e production --side-url-file side.url --statements postgres.log
""",
)
@click.option("--side-url-env", metavar="NAME", help="The variable with the side database's connection string.")
@click.option("--side-url-file", type=click.Path(path_type=Path), metavar="FILE", help="Or the file that holds it.")
@click.option("--before-url-env", metavar="NAME", help="The same data on the old schema: what fails there is no proof.")
@click.option(
    "--statements", type=click.Path(path_type=Path), metavar="FILE",
    help="What the old code sent: a log of Postgres, JSON lines, or SQL; default: pg_stat_statements of the database.",
)  # fmt: skip
@click.option("--until", metavar="TIME", help="Only statements first seen before TIME: those of the old code.")
@pass_shell
def prove(
    shell: Shell,
    *,
    side_url_env: str | None,
    side_url_file: Path | None,
    before_url_env: str | None,
    statements: Path | None,
    until: str | None,
) -> int:
    """Try the old code's statements on a side database with the new schema and real data, and undo them.

    A statement that fails overrules the verdict on the migration: code is not rolled back over it. Exit codes: 0
    everything tried works, 1 something fails, 7 nothing could be tried.
    """
    from backout.model.database.statements import Outcome
    from backout.runbook.rollback.statement_replay import prove_statements, record_proof
    from backout.wiring.db import proving

    if (side_url_env is None) == (side_url_file is None):
        raise UsageError(
            "which side database?",
            hint="give --side-url-env or --side-url-file; `backout db restore TARGET --side` makes one",
        )
    config = shell.config()
    tools = proving.make_proving_tools(
        config, side_env=side_url_env, side_file=side_url_file, before_env=before_url_env, log=statements
    )
    try:
        proof = prove_statements(
            tools.statements,
            tools.side,
            tools.clock,
            head=tools.side_head(),
            before=tools.before,
            until=_parse_time(until, tools.clock.now()),
        )
    finally:
        tools.close()
    record_proof(tools.journal, config.name, proof, actor=tools.actor)
    shell.output.result("db-migrations-prove", _record(config.name, proof), _format_text(proof))
    if proof.of(Outcome.FAILS):
        return 1
    return 0 if proof.of(Outcome.WORKS) else 7


def _parse_time(text: str | None, now: float) -> float | None:
    from backout.plan.target import parse_time

    if text is None:
        return None
    at = parse_time(text, now)
    if at is None:
        raise UsageError(f"not a time: {text!r}", hint='such as 2026-11-25T10:00:00Z or "2 hours ago"')
    return at


def _record(environment: str, proof: StatementProof) -> dict[str, object]:
    from backout.model.database.statements import Outcome

    def rows(trials: tuple[Trial, ...]) -> list[dict[str, object]]:
        return [{"sql": t.statement.sql, "calls": t.statement.calls, "why": t.why} for t in trials]

    return {
        "environment": environment,
        "head": proof.head,
        "tried": len(proof.trials) - len(proof.of(Outcome.UNTRIED)),
        "fails": rows(proof.of(Outcome.FAILS)),
        "untried": rows(proof.of(Outcome.UNTRIED)),
    }


def _format_text(proof: StatementProof) -> str:
    from backout.model.database.statements import Outcome

    failing, untried = proof.of(Outcome.FAILS), proof.of(Outcome.UNTRIED)
    works = len(proof.of(Outcome.WORKS))
    lines = [f"Migration head {proof.head or 'none'}: {works} statements of the old code work, {len(failing)} fail."]
    for trial in failing[:_SHOWN]:
        sql = " ".join(trial.statement.sql.split())
        lines += [f"  {sql}", f"    {trial.why} (called {trial.statement.calls:,} times)"]
    if len(failing) > _SHOWN:
        lines.append(f"  and {len(failing) - _SHOWN} more; --json shows all")
    if untried:
        lines.append(f"{len(untried)} could not be tried; the first: {untried[0].why}.")
    return "\n".join(lines)
