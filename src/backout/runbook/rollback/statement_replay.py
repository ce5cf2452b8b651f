"""Statement replay (Scenario 4): the old code's own statements, tried on real data under the new schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.model.database.statements import Outcome, StatementProof

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.database.statements import Statement, Trial
    from backout.model.plan import Json
    from backout.ports import Clock, Journal, Statements, Trials

KIND: Final = "schema.proof"
_KEPT = 20
"""How many failing statements are recorded."""
_QUOTED_CHARACTERS = 160


def prove_statements(
    statements: Statements,
    side: Trials,
    clock: Clock,
    *,
    head: str,
    before: Trials | None = None,
    until: float | None = None,
) -> StatementProof:
    """Return the result of each statement.

    Args:
        head: the migration head of the side.
        before: the same data on the old schema: a statement that also fails there proves nothing.
        until: leave out statements first seen later (Unix seconds): they are the new code's.
    """
    chosen = [s for s in statements.read() if until is None or s.since is None or s.since < until]
    return StatementProof(head, clock.now(), tuple(_try_statement(statement, side, before) for statement in chosen))


def record_proof(journal: Journal, environment: str, proof: StatementProof, *, actor: str) -> None:
    """Record the result, so that a rollback over this migration head knows it."""
    failing: list[Json] = [
        {"sql": t.statement.sql, "calls": t.statement.calls, "why": t.why} for t in proof.of(Outcome.FAILS)[:_KEPT]
    ]
    tried = len(proof.trials) - len(proof.of(Outcome.UNTRIED))
    data: dict[str, Json] = {"head": proof.head, "tried": tried, "failing": failing}
    journal.note(environment, KIND, f"{proof.head}:{proof.at:.3f}", data, actor=actor)


def find_refuting_statement(journal: Journal, environment: str, head: str) -> str:
    """Return the statement that failed in the newest proof on this migration head, in words; "" when none did."""
    newest: Mapping[str, Json] = {}
    for event in journal.events(environment=environment, kind=KIND):
        if event.data.get("head") == head:
            newest = event.data
    failing = newest.get("failing")
    if not isinstance(failing, list) or not failing or not isinstance(failing[0], dict):
        return ""
    sql = " ".join(str(failing[0].get("sql")).split())
    more = f", and {len(failing) - 1} more" if len(failing) > 1 else ""
    return f"{failing[0].get('why')} (`{sql[:_QUOTED_CHARACTERS]}`, called {failing[0].get('calls')} times{more})"


def _try_statement(statement: Statement, side: Trials, before: Trials | None) -> Trial:
    from backout.analysis.recovery.statements import find_parameter_uses, judge_trial, make_untried

    uses = find_parameter_uses(statement.sql)
    if uses is None:
        return make_untried(statement)
    return judge_trial(
        statement, side.run(statement, uses), before.run(statement, uses) if before is not None else None
    )
