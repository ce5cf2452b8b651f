"""The ports of the statement replay: the old code's statements, and the databases to try them on."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from backout.errors import BackoutError, UsageError
from backout.model.value import Value
from backout.providers.clock import SystemClock
from backout.providers.postgres.schema.statements import StatementFile, StatementStatistics
from backout.providers.postgres.schema.trials import PostgresTrials
from backout.providers.postgres.tls.access import parse_dsn
from backout.wiring.db.history import make_postgres_history
from backout.wiring.records import find_actor, open_journal

if TYPE_CHECKING:
    from pathlib import Path

    from backout.config import Config
    from backout.ports import Clock, Journal, Schema, Statements


class Proving(Value, frozen=True):
    """The tools of `backout db migrations prove`."""

    statements: Statements
    side: PostgresTrials
    before: PostgresTrials | None
    schema: Schema
    clock: Clock
    journal: Journal
    actor: str

    def close(self) -> None:
        """End what is open on the side databases."""
        self.side.close()
        if self.before is not None:
            self.before.close()

    def side_head(self) -> str:
        """Return the migration head of the side. Raises UsageError when no migration was ever applied there."""
        head = self.schema.read().head
        if not head:
            raise UsageError("no migration was applied to the side database", hint="apply the new ones there first")
        return head


def make_proving_tools(
    config: Config, *, side_env: str | None, side_file: Path | None, before_env: str | None, log: Path | None
) -> Proving:
    """Return them. Raises AuthError where a connection string is not set."""
    side = config.side_url(side_env, side_file).reveal
    before = config.side_url(before_env, None).reveal if before_env else None

    def role() -> str:
        """Return the application's own role, "" where its connection string is not here."""
        with contextlib.suppress(BackoutError):
            return parse_dsn(config.database_url().reveal()).get("user", "")
        return ""

    return Proving(
        statements=StatementFile(log)
        if log is not None
        else StatementStatistics(lambda: config.database_url().reveal()),
        side=PostgresTrials(side, role=role),
        before=PostgresTrials(before, role=role) if before is not None else None,
        schema=make_postgres_history(config, side),
        clock=SystemClock(),
        journal=open_journal(config),
        actor=find_actor(),
    )
