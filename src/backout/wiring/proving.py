"""The ports of the second proof: what the old code sends, and the databases on which it is tried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backout.errors import UsageError
from backout.providers.clock import SystemClock
from backout.providers.postgres.statements import StatementFile, StatementStatistics
from backout.providers.postgres.trials import PostgresTrials
from backout.wiring import actor, journal
from backout.wiring.history import postgres_history

if TYPE_CHECKING:
    from pathlib import Path

    from backout.config import Config
    from backout.ports import Clock, Journal, Schema, Statements, Trials


@dataclass(frozen=True, slots=True)
class Proving:
    """What `backout db migrations prove` uses."""

    statements: Statements
    side: Trials
    before: Trials | None
    schema: Schema
    clock: Clock
    journal: Journal
    actor: str

    def side_head(self) -> str:
        """Return the migration head of the side. Raises UsageError when no migration was ever applied there."""
        head = self.schema.read().head
        if not head:
            raise UsageError("no migration was applied to the side database", hint="apply the new ones there first")
        return head


def tools(
    config: Config, *, side_env: str | None, side_file: Path | None, before_env: str | None, log: Path | None
) -> Proving:
    """Return them. Raises AuthError where a connection string is not set."""
    side = config.side_url(side_env, side_file).reveal
    before = config.side_url(before_env, None).reveal if before_env else None
    return Proving(
        statements=StatementFile(log)
        if log is not None
        else StatementStatistics(lambda: config.database_url().reveal()),
        side=PostgresTrials(side),
        before=PostgresTrials(before) if before is not None else None,
        schema=postgres_history(config, side),
        clock=SystemClock(),
        journal=journal(config),
        actor=actor(),
    )
