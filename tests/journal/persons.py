"""A team with one journal on a server, and a role there for each person."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
from journal import toy
from values import replace

from backout.errors import DecisionNeeded
from backout.journal import lease as leases
from backout.journal import postgres_schema as schema
from backout.journal.postgres_store import PostgresStore
from backout.journal.stored import StoredJournal
from backout.model.approval import ApprovalRule, Approver, Change
from backout.model.person import Delegation
from backout.model.plan import Plan, PlanKind, Step
from backout.providers.postgres.server.journal_link import PostgresLink

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.model.incident.incident import Run

ANYONE: Final = ApprovalRule((Change.ROLLBACK,), Approver.ANYONE, 600.0)
SECOND: Final = replace(ANYONE, by=Approver.SECOND_PERSON)
ADA: Final = "toy_ada"
BOB: Final = "toy_bob"
NOBODY: Final = Delegation()


def make_plan(number: int = 1) -> Plan:
    return Plan(PlanKind.ROLLBACK, "staging", "why", (Step("probed", "Act", {"number": number}),))


@dataclass
class Team:
    """One journal on a server, and a role there for each person."""

    directory: Path
    opened: list[StoredJournal] = field(default_factory=list)

    def url(self, role: str = "postgres") -> str:
        return toy.url_of(self.directory).replace("//postgres:", f"//{role}:")

    def admit(self, *roles: str) -> None:
        """Give each role what the page grants."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            for role in roles:
                with contextlib.suppress(psycopg.errors.DuplicateObject):
                    connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{toy.PASSWORD}'".encode())
                for statement in schema.GRANTS:
                    connection.execute(statement.format(role=role).encode())

    def open(
        self,
        role: str,
        rule: ApprovalRule | None = SECOND,
        *,
        clock: Any = None,
        now: Callable[[], float] | None = None,
        delegation: Delegation = NOBODY,
    ) -> StoredJournal:
        store = PostgresStore(PostgresLink(lambda: self.url(role)), now=now)
        journal = StoredJournal(
            store,
            clock or toy.WallClock(),
            locks=self.directory / "locks",
            host=leases.name_this_machine(),
            approvals=rule,
            delegation=delegation,
        )
        self.opened.append(journal)
        return journal

    def drive(self, run: str, journal: StoredJournal) -> Run:
        return journal.drive(run, toy.actions_in(toy.World(self.directory)), actor="me")

    def wait(self, run: str, journal: StoredJournal) -> str:
        with pytest.raises(DecisionNeeded, match="waits for") as waits:
            self.drive(run, journal)
        return str(waits.value)

    @property
    def effects(self) -> list[str]:
        return toy.World(self.directory).effects


def submit(journal: StoredJournal, number: int = 1) -> str:
    return journal.submit(make_plan(number), actor="ada@laptop", reason="r")


def approve(journal: StoredJournal, run: str, actor: str = "bob@laptop") -> None:
    journal.ask(run, "approve", actor=actor, reason="I looked")
