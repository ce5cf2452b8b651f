"""Paired probes: the new version and the one before it are asked the same, side by side; the old one has no traffic.

In a cut-over nothing else tells a version that answers worse from visitors who ask for something else. The old version
stands at 0 % for that, by the steps of a rollback's proof (safety rules 4 to 8): it is who we think it is, nobody else
deployed, no hold is on, the schema and the secrets allow it, and what slipped in between is put back.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from backout.analysis.expectations import unmet
from backout.analysis.proof import Said, judge
from backout.analysis.shifts.turns import Turns
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
from backout.runbook.obstacle import Obstacle, obstacle_of, obstacle_to, safe_checks
from backout.runbook.permission import older_configuration
from backout.runbook.prober import Prober
from backout.runbook.prove import judged_again

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from backout.model.deployment import Deployment
    from backout.model.fetched import Fetched
    from backout.model.plan import Json
    from backout.model.policy import SyntheticCheck
    from backout.ports import HealthCheck
    from backout.runbook.toolbox import Toolbox

PAIRED_S = 60.0
"""Both versions are asked for so long at most, from the deployment on that puts the old one beside the new one."""
_PATIENCE = 5
"""After so many pairs that were not sent, or of which nobody knows who answered, and no other, it is given up."""
WORD = "ask"
"""What a person types who lets both be asked: no word that any other question takes for a yes."""


class PairedProbe:
    """Beside one watch; `tick` is called every second.

    Args:
        args: of the step `watch`. run: the watch. mode: what it was started with, see `obstacle_to`.
    """

    def __init__(self, tools: Toolbox, args: Mapping[str, Json], run: str, mode: Mode) -> None:
        self._tools = tools
        self._run = run
        self._mode = mode
        self._args = args
        self._new, self._old = str(args["version"]), str(args["old"])
        self._deployment = str(args["deployment"])
        self._asking: Prober[PairedAnswer | None] | None = None
        self._turns: Turns | None = None
        self._until = 0.0
        self._unknown = self._known = 0
        self._unsent: list[BackoutError] = []
        self._waits = False
        self._obstacle: Obstacle | None = None

    def tick(self, *, wanted: bool, suspected: Collection[str] = ()) -> tuple[PairedAnswer, ...]:
        """Return the pairs that came in; asking begins when it is wanted, and goes on for its time.

        Evidence that is wanted for a moment only, and then again, would else never get its answer.

        Args:
            suspected: what is answered otherwise, so that requests that are about it come first; see `Turns`.
        """
        tools = self._tools
        if self._asking is None:
            if self._obstacle or self._until or not (wanted or self._waits):
                return ()
            self._begin(suspected)
            if self._asking is None:
                return ()
        if self._turns is not None:
            self._turns.suspected = suspected
        found = tuple(pair for pair in self._asking.collect() if pair is not None)
        self._known += len(found)
        if not self._known and self._unknown + len(self._unsent) >= _PATIENCE:
            self._meet(self._unanswered())
        if self._obstacle or tools.clock.now() >= self._until:
            self.close()
        return found

    @property
    def goes_on(self) -> bool:
        """Whether both are being asked, or begin to be as soon as that is wanted."""
        return self._asking is not None or (not self._until and self.obstacle is None)

    @property
    def obstacle(self) -> Obstacle | None:
        """Why both were not asked until now, although it was wanted; None where they were, or nobody wanted it."""
        if self._obstacle is None and self._waits:
            return Obstacle(f"nobody typed {WORD} when that was asked (mode = ask)")
        if self._obstacle is None and self._until and not self._known:
            return self._unanswered()
        return self._obstacle

    def _unanswered(self) -> Obstacle:
        """Return why nothing is known although both are asked."""
        environment = self._tools.environment
        if self._unsent:
            return obstacle_of(self._unsent[-1], environment, "the requests are not sent: ")
        if not self._unknown:
            return Obstacle("no answer of both came in time")
        option = f"see whether the health endpoint names its version: `backout config check --online -e {environment}`"
        return Obstacle("the application does not say which version answered", (option,))

    def _meet(self, obstacle: Obstacle) -> None:
        self._obstacle = obstacle
        self._tools.say(f"both versions cannot be asked side by side: {obstacle.why}")

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

    def _begin(self, suspected: Collection[str]) -> None:
        """Put the old version beside the new one and begin to ask, where nothing stands in the way."""
        tools, asker = self._tools, self._tools.pairing
        obstacle = obstacle_to(tools, self._args, self._mode)
        if obstacle is not None or asker is None:
            self._meet(obstacle or Obstacle("no health check is set up"))
            return
        if self._mode is Mode.ASK and not self._has_consent():
            return
        try:
            made = self._put()
        except BackoutError as error:
            self._meet(obstacle_of(error, tools.environment))
            return
        self._until = made.created_at + PAIRED_S
        turns = self._turns = Turns(safe_checks(tools), tools.dice.shuffle)
        turns.suspected = suspected
        self._asking = Prober(
            "pairs",
            lambda: self._ask_in_turn(asker, turns),
            tools.clock,
            lambda: turns.pace_s,
            in_background=tools.in_background,
        )

    def _has_consent(self) -> bool:
        """Whether a person lets it be deployed; the watch goes on meanwhile, for it must not wait for anybody."""
        tools = self._tools
        assert tools.consent is not None  # noqa: S101 looked at by `obstacle_to`
        with contextlib.suppress(BackoutError):
            if own(tools.deployments.history(), self._run, RemarkKind.PAIR) is not None:
                return True  # whoever said so then, the process died after it
        old, new = self._old[:8], self._new[:8]
        said = tools.consent(f"Deploy version {old} at 0 % beside version {new}, and ask both the same?", WORD)
        self._waits = said is None
        if said is False:
            self._meet(Obstacle("a person said no"))
        return bool(said)

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

    def _ask_in_turn(self, asker: HealthCheck, turns: Turns) -> PairedAnswer | None:
        check = turns.take()
        pair = self._ask(asker, check)
        turns.note(check, pair)
        return pair

    def _ask(self, asker: HealthCheck, check: SyntheticCheck) -> PairedAnswer | None:
        """Return what both answer to one request, None when it is not known who answered."""
        at, order = self._tools.clock.now(), [self._new, self._old]
        self._tools.dice.shuffle(order)
        try:
            before = self._is_old(asker)
            answers = {version: asker.fetch(check.path, version, check=check) for version in order}
            named = answers[self._old].named((self._new, self._old))
            known = named == self._old or (not named and before and self._is_old(asker))
        except BackoutError as error:
            self._unsent.append(error)
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
