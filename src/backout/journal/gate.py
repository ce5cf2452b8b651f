"""The gate before a plan's first effect: with the approval that it needs it goes on, without one it waits.

The rule: what a plan has to wait for is decided before anything is changed. Once a step with an effect has begun, the
run is never stopped here: half done is the worst place to wait. Who asked and who approved is what the journal's server
says of their events, and until when an approval counts is decided by the journal's own clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import DecisionNeeded, Refused
from backout.journal.approvals import make_waiting_data
from backout.journal.people import read_people
from backout.journal.store import Entry
from backout.model.approval import NOT_PROVABLE, ApprovalRule, Approver
from backout.model.person import Delegation
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.journal.history import RunRecord
    from backout.journal.ledger import Ledger
    from backout.journal.people import People
    from backout.journal.store import Store
    from backout.model.plan import Plan
    from backout.ports import AnyAction
    from backout.ports.journal_link import Connection


class Gate(Value, frozen=True):
    """What this journal asks before a plan's first effect.

    Args:
        rule: of the environment, None: nothing has to be approved here.
        delegation: who acts for somebody else here.
    """

    rule: ApprovalRule | None
    delegation: Delegation = Delegation()

    def find_rule(self, record: RunRecord) -> ApprovalRule | None:
        """Return the rule for a run, None: it needs no approval. What it had to wait for once counts everywhere."""
        waited = record.waiting
        then = None if waited is None else ApprovalRule(by=waited.by, expires_s=waited.expires_s)
        if self.rule is None or not self.rule.needs(record.plan):
            return then
        return self.rule if then is None else self.rule.join(then)

    def asks_for_second(self, plan: Plan) -> bool:
        """Whether a plan needs a second person's approval here."""
        return self.rule is not None and self.rule.needs(plan) and self.rule.by is Approver.SECOND_PERSON

    def read_people(
        self,
        store: Store,
        connection: Connection,
        environment: str,
        record: RunRecord | None,
        on_behalf_of: str | None = None,
    ) -> People:
        """Return who had to do with a run, and who asks now, see `journal.people.read_people`."""
        return read_people(store, connection, environment, record, self.delegation, on_behalf_of)

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
        record, now, people = ledger.look(self.read_people)
        if record.glass is not None or has_begun(record, actions):
            return
        askers = people.askers if record.waiting is not None else (*people.askers, *people.own)
        if rule.by is Approver.SECOND_PERSON and (why := people.find_unprovable(askers)):
            failed = {"step": record.next_step, "error": Refused.__name__, "text": f"{NOT_PROVABLE}: {why}"}
            ledger.record(Entry("run.failed", record.id, data=failed))
            raise refuse_unprovable(record.environment, why)
        if _counts(record, rule, now, people):
            return
        late = record.approval is not None
        if not record.lacks_approval:  # it waits for the first time, or what was given does not count any more
            ledger.record(Entry("run.waiting", record.id, data=make_waiting_data(rule, self.delegation.request)))
        raise make_waiting_error(record, rule, is_late=late)


def _counts(record: RunRecord, rule: ApprovalRule, now: float, people: People) -> bool:
    """Whether the approval that a run has is one of its plan, by whom it has to be, and not too old."""
    found = record.approval
    if found is None or found.hash != record.plan.hash or found.is_spooled:
        return False
    by_second = people.approver not in people.askers and people.vouches_for(people.approver)
    if rule.by is Approver.SECOND_PERSON and not by_second:
        return False
    return now < min(found.expires_at, found.at + rule.expires_s)


def has_begun(record: RunRecord, actions: Mapping[str, AnyAction]) -> bool:
    """Whether a step that changes something was begun."""
    return any(
        step.attempts and (planned.action not in actions or actions[planned.action].effect)
        for planned, step in zip(record.plan.steps, record.steps, strict=True)
    )


def refuse_unprovable(environment: str, why: str) -> Refused:
    """Return the refusal where a second person is asked for, and the journal does not vouch for who that is."""
    return Refused(
        f"{NOT_PROVABLE}: {why}",
        where=environment,
        hint="keep the journal on Postgres, and give each person a role there that may only append: docs/team.md",
        options=(
            'Without proof: set approvals.by = "anyone" in backout.toml; somebody then has to look at each plan.',
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
