"""The gate before a plan's first effect: with the approval that it needs it goes on, without one it waits.

The rule: what a plan has to wait for is decided before anything is changed. Once a step with an effect has begun, the
run is never stopped here: half done is the worst place to wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import DecisionNeeded, Refused
from backout.journal.approvals import make_waiting_data
from backout.journal.store import Entry
from backout.model.approval import NOT_PROVABLE, ApprovalRule, Approver
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.journal.history import RunRecord
    from backout.journal.ledger import Ledger
    from backout.model.plan import Plan
    from backout.ports import AnyAction


class Gate(Value, frozen=True):
    """What this journal asks before a plan's first effect.

    Args:
        rule: of the environment, None: nothing has to be approved here.
        person: whom the journal itself vouches for, "" where it cannot tell who writes.
        now: Unix seconds.
    """

    rule: ApprovalRule | None
    person: str
    now: Callable[[], float]

    def find_rule(self, record: RunRecord) -> ApprovalRule | None:
        """Return the rule for a run, None: it needs no approval. What it had to wait for once counts everywhere."""
        if self.rule is not None and self.rule.needs(record.plan):
            return self.rule
        if record.waiting is None:
            return None
        return ApprovalRule(by=record.waiting.by, expires_s=record.waiting.expires_s)

    def check_approvable(self, plan: Plan) -> None:
        """Raise Refused when a plan needs a second person's approval, and this journal could not tell who that is."""
        if self.rule is not None and self.rule.needs(plan) and self._is_unprovable(self.rule):
            raise refuse_unprovable(plan.environment)

    def _is_unprovable(self, rule: ApprovalRule) -> bool:
        return rule.by is Approver.SECOND_PERSON and not self.person

    def check(self, ledger: Ledger, record: RunRecord, actions: Mapping[str, AnyAction]) -> None:
        """Return when the run may go on.

        Args:
            record: the run as it was when this process began to drive it.

        Raises:
            DecisionNeeded: it waits for an approval, which is recorded.
            Refused: nobody's approval could be proven; the run is over.
        """
        rule = self.find_rule(record)
        if rule is None:
            return
        record = ledger.load()
        if record.glass is not None or has_begun(record, actions):
            return
        if self._is_unprovable(rule):
            failed = {"step": record.next_step, "error": Refused.__name__, "text": NOT_PROVABLE}
            ledger.record(Entry("run.failed", record.id, data=failed))
            raise refuse_unprovable(record.environment)
        found = record.approval
        counts_until = 0.0 if found is None else min(found.expires_at, found.at + rule.expires_s)
        if found is not None and found.hash == record.plan.hash and self.now() < counts_until:
            return
        if not record.lacks_approval:  # it waits for the first time, or what was given does not count any more
            ledger.record(Entry("run.waiting", record.id, data=make_waiting_data(rule, self.person)))
        raise make_waiting_error(record, rule, is_late=found is not None)


def has_begun(record: RunRecord, actions: Mapping[str, AnyAction]) -> bool:
    """Whether a step that changes something was begun."""
    return any(
        step.attempts and (planned.action not in actions or actions[planned.action].effect)
        for planned, step in zip(record.plan.steps, record.steps, strict=True)
    )


def refuse_unprovable(environment: str) -> Refused:
    """Return the refusal where a second person is asked for, and no journal could say who that was."""
    return Refused(
        NOT_PROVABLE,
        where=environment,
        hint='set approvals.by = "anyone" in backout.toml: somebody then has to look at each plan, whoever that is',
        options=(
            "If it cannot wait: the same command with `--break-glass -m WHY`; it is recorded, and told to everybody.",
        ),
    )


def make_waiting_error(record: RunRecord, rule: ApprovalRule, *, is_late: bool) -> DecisionNeeded:
    """Return the error that says who has to approve a run, and what to type."""
    who = "a second person's approval" if rule.by is Approver.SECOND_PERSON else "an approval"
    late = "; the one that was given has expired" if is_late else ""
    return DecisionNeeded(
        f"the plan waits for {who}, and nothing was changed{late}",
        where=record.id,
        hint=f"backout runs approve {record.id} -m WHY",
        options=(
            f"When it is approved: `backout runs resume {record.id}`, within {rule.expires_s / 60:.0f} min.",
            f"If it cannot wait: `backout runs resume {record.id} --break-glass -m WHY`; everybody is told.",
            f"Give it up: `backout runs abort {record.id} -m WHY`.",
        ),
    )
