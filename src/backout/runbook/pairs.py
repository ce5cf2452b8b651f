"""Paired probes: the new version and the one before it are asked the same, side by side; the old one has no traffic.

In a cut-over nothing else tells a version that answers worse from visitors who ask for something else. The old version
stands at 0 % for that, by the steps of a rollback's proof (safety rules 4 to 8): it is who we think it is, nobody else
deployed, no hold is on, the schema and the secrets allow it, and what slipped in between is put back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.expectations import unmet
from backout.analysis.proof import Said, judge
from backout.analysis.stability import returns
from backout.errors import BackoutError, ProviderUnavailable, Refused
from backout.model.deployment import Share, VersionId
from backout.model.policy import Mode
from backout.model.probes import PairedAnswer, VersionAnswer
from backout.model.remark import Remark, RemarkKind
from backout.runbook.checks import (
    check_not_held,
    check_undisturbed,
    check_unmoved,
    listed_after,
    look_after_trouble,
    own,
)
from backout.runbook.identity import check_identity
from backout.runbook.marked import message_of
from backout.runbook.observe import observe
from backout.runbook.permission import older_configuration
from backout.runbook.prober import Prober
from backout.runbook.prove import judged_again

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from backout.model.deployment import Deployment
    from backout.model.fetched import Fetched
    from backout.model.plan import Json
    from backout.model.policy import SyntheticCheck
    from backout.ports import HealthCheck
    from backout.runbook.toolbox import Toolbox

PAIRED_S = 60.0
"""Both versions are asked for so long at most, from the deployment on that puts the old one beside the new one."""
EVERY_S = 0.5
_PATIENCE = 5
"""After so many pairs of which nobody knows who answered, and none of which it is known, it is given up."""


class PairedProbe:
    """Beside one watch; `tick` is called every second.

    Args:
        args: of the step `watch`. run: the watch. mode: what it was started with; one that only observes asks nothing.
    """

    def __init__(self, tools: Toolbox, args: Mapping[str, Json], run: str, mode: Mode) -> None:
        self._tools = tools
        self._run = run
        self._mode = mode
        self._new, self._old = str(args["version"]), str(args["old"])
        self._deployment = str(args["deployment"])
        self._splits = float(str(args["split"])) < 1
        self._asking: Prober[PairedAnswer | None] | None = None
        self._until = 0.0
        self._unknown = self._known = 0
        self.problem = ""
        """Why both cannot be asked, in words; "" while nothing stands in the way, or nobody wanted it."""

    def tick(self, *, wanted: bool) -> tuple[PairedAnswer, ...]:
        """Return the pairs that came in; asking begins when it is wanted, and goes on for its time.

        Evidence that is wanted for a moment only, and then again, would else never get its answer.
        """
        tools = self._tools
        if self._asking is None:
            if not wanted or self.problem or self._until:
                return ()
            self.problem = self._begin()
            if self.problem:
                tools.say(f"both versions cannot be asked side by side: {self.problem}")
                return ()
        assert self._asking is not None  # noqa: S101 begun above
        found = tuple(pair for pair in self._asking.collect() if pair is not None)
        self._known += len(found)
        if not self._known and self._unknown >= _PATIENCE:
            self.problem = "the application does not say which version answered"
            tools.say(f"both versions cannot be asked side by side: {self.problem}")
        if self.problem or tools.clock.now() >= self._until:
            self.close()
        return found

    def put_back(self, history: Sequence[Deployment]) -> None:
        """Put back what this run's own deployment undid, in whichever process that was, and seen by nobody.

        Its answer may have been lost, or the process with it; evidence that would make it look again may not come.

        Raises:
            WorldMoved: another deployment came in between.
        """
        made = own(history, self._run, RemarkKind.PAIR)
        if made is not None and made.sole == self._new:  # not somebody's who copied its message
            check_undisturbed(self._tools, history, made.id, expected=self._deployment, run=self._run)

    def close(self) -> None:
        """Stop asking."""
        if self._asking is not None:
            self._asking.close()
            self._asking = None

    def _begin(self) -> str:
        """Put the old version beside the new one and begin to ask; return what stands in the way, or ""."""
        tools, asker, checks = self._tools, self._tools.pairing, self._checks()
        why = self._why_not(checks)
        if why or asker is None:
            return why or "no health check is set up"
        try:
            made = self._put()
        except BackoutError as error:
            return error.what
        self._until = made.created_at + PAIRED_S
        turns = self._turns(checks)
        self._asking = Prober(
            "pairs", lambda: self._ask(asker, next(turns)), tools.clock, EVERY_S, in_background=tools.in_background
        )
        return ""

    def _why_not(self, checks: Sequence[SyntheticCheck]) -> str:
        if self._mode is Mode.OBSERVE:
            return "guard only observes, so it deploys nothing (mode = observe)"
        if self._old in ("", self._new):
            return "there is no version before it to compare with"
        if self._splits:
            return "the traffic is split, which tells the two apart already"
        return "" if checks else "no request is declared that is safe to send (guard.synthetic)"

    def _checks(self) -> list[SyntheticCheck]:
        """Return the declared requests; never a visitor's URL, and none whose answer is meant to change."""
        guard = self._tools.policy.guard
        meant = guard.expect
        return [check for check in guard.asked if not any(each.covers(check.method, check.path) for each in meant)]

    def _turns(self, checks: list[SyntheticCheck]) -> Iterator[SyntheticCheck]:
        """Yield all checks again and again, each round in a random order."""
        while True:
            self._tools.dice.shuffle(checks)
            yield from checks

    # --- the old version at 0 % ---

    def _put(self) -> Deployment:
        """Return the deployment that has the old version at 0 %, which this run makes once."""
        tools, run = self._tools, self._run
        check_identity(tools)
        history = listed_after(tools, self._deployment)
        made = own(history, run, RemarkKind.PAIR)
        if made is None:
            check_unmoved(tools, history, self._deployment, run, self._new)
            self._check_old()
            shares = (Share(VersionId(self._new), 100.0), Share(VersionId(self._old), 0.0))
            remark = Remark(RemarkKind.PAIR, run, text=f"version {self._old} is asked at 0 %, beside what is live")
            check_not_held(tools, history, {"detected": True})  # last: until the deployment itself a hold stops it
            try:
                made = tools.deployments.deploy(shares, message=message_of(tools, remark, history[0]))
            except ProviderUnavailable:
                made = look_after_trouble(tools, self._deployment, run, RemarkKind.PAIR)
                if made is None:
                    raise
        history = listed_after(tools, made.id)
        check_undisturbed(tools, history, made.id, expected=self._deployment, run=run)
        check_unmoved(tools, history, self._deployment, run, self._new)
        return made

    def _check_old(self) -> None:
        """Raise Refused when a rule forbids to return to the old version: then its answers decide nothing."""
        situation = observe(self._tools)
        older = older_configuration(self._tools, situation)
        if older:
            raise Refused(older, where=self._tools.environment, rule="1 identity")
        if returns(situation, self._new, self._old):  # what an older version lacks is no reason to undo that
            raise Refused(
                f"version {self._new[:8]} was live before version {self._old[:8]}, so this is a way back",
                where=self._tools.environment,
                rule="5 target",
            )
        found = judged_again(self._tools, self._old, {"leaving": self._new}, accept_unproven=True)
        if found is not None and found.eligible:
            return
        why = "it can no longer be deployed" if found is None else found.reason
        raise Refused(
            f"version {self._old[:8]} may not be asked: {why}",
            where=self._tools.environment,
            rule="5 target" if found is None else found.rule,
        )

    # --- asking ---

    def _ask(self, asker: HealthCheck, check: SyntheticCheck) -> PairedAnswer | None:
        """Return what both answer to one request, None when it is not known who answered."""
        at, order = self._tools.clock.now(), [self._new, self._old]
        self._tools.dice.shuffle(order)
        try:
            before = self._is_old(asker)
            answers = {version: asker.fetch(check.path, version, check=check) for version in order}
            named = answers[self._old].named((self._new, self._old))
            known = named == self._old or (not named and before and self._is_old(asker))
        except BackoutError:
            return None
        if not known or answers[self._new].named((self._new, self._old)) == self._old:
            self._unknown += 1
            return None
        new, old = (_said(check, answers[version]) for version in (self._new, self._old))
        return PairedAnswer(at, check.name, new, old)

    def _is_old(self, asker: HealthCheck) -> bool:
        """Whether a request for the old version is answered by it: the provider ignores what it cannot follow."""
        report, current = asker.look(self._old), asker.look(self._new)
        look = judge(report, self._old, {self._new}, current, self._tools.policy)
        return look.said not in (Said.ELSEWHERE, Said.HIDDEN)


def _said(check: SyntheticCheck, answer: Fetched) -> VersionAnswer:
    ends_well = answer.ends is not None and not answer.loops and answer.ends_well
    return VersionAnswer(
        answer.status,
        answer.location,
        has_words=False if answer.status is not None and unmet(check, answer) else None,
        ends_well=ends_well if answer.hops else None,
        loops=answer.loops,
    )
