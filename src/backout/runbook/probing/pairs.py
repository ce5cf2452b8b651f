"""Paired probes: the new version and the one before it get the same requests, side by side; the old one has no traffic.

In a cut-over nothing else tells a version that answers worse from visitors who ask for other things. The old version is
put at 0 % for that, by the steps of a rollback's proof (safety rules 4 to 8): it is the one we expect, no one else
deployed, no hold is on, the schema and the secrets allow it, and what slipped in between is put back.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backout.analysis.detector.expectations import find_unmet
from backout.analysis.history.proof import Said, judge
from backout.analysis.history.stability import returns
from backout.analysis.shifts.turns import Turns
from backout.errors import BackoutError, ProviderUnavailable, Refused
from backout.model.deployment import Share
from backout.model.guard.policy import Mode
from backout.model.guard.probes import PairedAnswer, VersionAnswer
from backout.model.remark import Remark, RemarkKind
from backout.model.version import VersionId
from backout.rules import SafetyRule
from backout.runbook.observe import observe
from backout.runbook.probing.obstacle import Obstacle, find_obstacle, list_safe_checks, make_obstacle
from backout.runbook.probing.pre_promotion import judge_again
from backout.runbook.probing.prober import Prober
from backout.runbook.rollback.marked import make_message
from backout.runbook.safety.checks import (
    await_listed,
    check_not_held,
    check_undisturbed,
    check_unmoved,
    find_own,
    look_after_trouble,
)
from backout.runbook.safety.identity import check_identity
from backout.runbook.safety.permission import explain_older_configuration

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from backout.model.deployment import Deployment
    from backout.model.guard.fetched import Fetched
    from backout.model.guard.policy import SyntheticCheck
    from backout.model.steps.guard import WatchStep
    from backout.ports import HealthCheck
    from backout.runbook.toolbox import Toolbox

PAIRED_S = 60.0
"""How long both versions are asked at most, from the first pair whose answering version is known."""
PATIENCE_S = 60.0
"""How long a deployment may take to reach what answers, before it is given up."""
_EAGER, _SLOW_S = 5, 2.0
"""After so many pairs in a row that were not sent, or whose answering version is unknown: seconds between two."""
AGAIN_S = 120.0
"""The pause before both are asked again for a suspicion that persists or is new; it doubles each time."""
WORD = "ask"
"""The word with which a person lets both be asked: not one that any other question takes for a yes."""


@dataclass(slots=True)
class _Round:
    """One round of asking.

    Args:
        until: when it ends (Unix seconds).
        known: how many pairs came in.
        unknown: how many pairs whose answering version is unknown.
        is_named: some answer named a version, so that a later one may name the old one.
        unsent: errors.
    """

    until: float
    turns: Turns
    known: int = 0
    unknown: int = 0
    is_named: bool = False
    unsent: list[BackoutError] = field(default_factory=list)

    @property
    def tried(self) -> int:
        """How many pairs gave no result."""
        return self.unknown + len(self.unsent)

    @property
    def is_hopeless(self) -> bool:
        """Whether no answer names its version: waiting longer would not help."""
        return self.unknown >= _EAGER and not self.unsent and not self.is_named

    @property
    def pace_s(self) -> float:
        """Seconds from the end of a pair until the next one."""
        return _SLOW_S if not self.known and self.tried >= _EAGER else self.turns.pace_s


class PairedProbe:
    """Runs beside one watch; `tick` is called every second.

    Args:
        args: of the step `watch`.
        run: the watch.
        mode: the mode it was started with, see `find_obstacle`.
    """

    def __init__(self, tools: Toolbox, args: WatchStep, run: str, mode: Mode) -> None:
        self._tools = tools
        self._run = run
        self._mode = mode
        self._args = args
        self._new, self._old, self._deployment = args.version, args.old, args.deployment
        self._asking: Prober[PairedAnswer | None] | None = None
        self._round: _Round | None = None
        self._waits = self._was_answered = self._is_final = False
        self._obstacle: Obstacle | None = None
        self._again_at, self._pause_s = 0.0, AGAIN_S

    def tick(self, *, wanted: bool, suspected: Collection[str] = ()) -> tuple[PairedAnswer, ...]:
        """Return the pairs that came in; asking begins when it is wanted, and goes on for its time.

        Otherwise evidence that is wanted only for moments would never get its answer. A later suspicion is asked about
        again, even if earlier pairs said that both are alike: after a pause, and ever more rarely.

        Args:
            suspected: what is answered otherwise, so that requests about it come first; see `Turns`.
        """
        tools = self._tools
        if self._asking is None:
            is_first = not self._again_at
            if not (wanted or self._waits or (suspected and not is_first)):
                return ()
            if self._is_final or tools.clock.now() < self._again_at:
                return ()
            self._begin(suspected)
            if self._asking is None:
                return ()
        made = self._round
        assert made is not None
        made.turns.suspected = suspected
        found = tuple(pair for pair in self._asking.collect() if pair is not None)
        now = tools.clock.now()
        if found and not made.known:
            made.until = now + PAIRED_S
            self._was_answered = True
        made.known += len(found)
        if not made.known and (now >= made.until or made.is_hopeless):
            self._meet(self._explain_unanswered(made))
        elif now >= made.until:
            self.close()
        return found

    @property
    def goes_on(self) -> bool:
        """Whether both are being asked, or will be as soon as that is wanted."""
        return self._asking is not None or (not self._again_at and self.obstacle is None)

    @property
    def obstacle(self) -> Obstacle | None:
        """Why both were not asked until now, although it was wanted; None where they were, or it was not wanted."""
        if self._was_answered:
            return None
        if self._obstacle is None and self._waits:
            return Obstacle(f"{WORD} was not typed when that was asked (mode = ask)")
        if self._obstacle is None and self._round is not None:
            return self._explain_unanswered(self._round)
        return self._obstacle

    def _explain_unanswered(self, made: _Round) -> Obstacle:
        """Return why nothing is known although both are asked."""
        environment = self._tools.environment
        if made.unsent:
            return make_obstacle(made.unsent[-1], environment, "the requests are not sent: ")
        if not made.unknown:
            return Obstacle("no answer of both came in time")
        if made.is_named:
            return Obstacle(f"the version before did not answer within {PATIENCE_S:.0f} s of its deployment at 0 %")
        option = f"see whether the health endpoint names its version: `backout config check --online -e {environment}`"
        return Obstacle("the application does not say which version answered", (option,))

    def _meet(self, obstacle: Obstacle) -> None:
        if obstacle != self._obstacle:
            self._tools.say(f"both versions cannot be asked side by side: {obstacle.why}")
        self._obstacle = obstacle
        self.close()

    def put_back(self, history: Sequence[Deployment]) -> None:
        """Put back what this run's own deployment undid unnoticed, in whichever process that was.

        Its answer may have been lost, or the process with it; evidence that would make it look again may not come.

        Raises:
            WorldMoved: another deployment came in between.
        """
        made = find_own(history, self._run, RemarkKind.PAIR)
        if made is not None and made.sole == self._new:  # not one with a copied message
            check_undisturbed(self._tools, history, made.id, expected=self._deployment, run=self._run)

    def close(self) -> None:
        """Stop asking, for the pause that comes before the next time."""
        self._again_at = self._tools.clock.now() + self._pause_s
        self._pause_s *= 2
        if self._asking is not None:
            self._asking.close()
            self._asking = None

    def _begin(self, suspected: Collection[str]) -> None:
        """Put the old version beside the new one and begin to ask, unless there is an obstacle."""
        tools, asker = self._tools, self._tools.guard.pairing
        obstacle = find_obstacle(tools, self._args, self._mode)
        if obstacle is not None or asker is None:
            self._meet(obstacle or Obstacle("no health check is set up"))
            return
        if self._mode is Mode.ASK and not self._has_consent():
            return
        try:
            self._put()
        except BackoutError as error:
            self._meet(make_obstacle(error, tools.environment))
            return
        made = self._round = _Round(
            tools.clock.now() + PATIENCE_S, Turns(list_safe_checks(tools), tools.guard.dice.shuffle)
        )
        made.turns.suspected = suspected
        self._obstacle = None
        self._asking = Prober(
            "pairs",
            lambda: self._ask_in_turn(asker, made),
            tools.clock,
            lambda: made.pace_s,
            in_background=tools.guard.in_background,
        )

    def _has_consent(self) -> bool:
        """Whether a person lets it be deployed; the watch goes on meanwhile, because it must not wait for an answer."""
        tools = self._tools
        assert tools.guard.consent is not None
        with contextlib.suppress(BackoutError):
            if find_own(tools.deployments.history(), self._run, RemarkKind.PAIR) is not None:
                return True  # that was said, and then the process died
        old, new = self._old[:8], self._new[:8]
        said = tools.guard.consent(f"Deploy version {old} at 0 % beside version {new}, and ask both the same?", WORD)
        self._waits = said is None
        if said is False:
            self._is_final = True
            self._meet(Obstacle("a person said no"))
        return bool(said)

    # --- the old version at 0 % ---

    def _put(self) -> Deployment:
        """Return the deployment with the old version at 0 %, which this run makes once."""
        tools, run = self._tools, self._run
        check_identity(tools)
        history = await_listed(tools, self._deployment)
        made = find_own(history, run, RemarkKind.PAIR)
        if made is None:
            check_unmoved(tools, history, self._deployment, run, self._new)
            self._check_old()
            shares = (Share(VersionId(self._new), 100.0), Share(VersionId(self._old), 0.0))
            remark = Remark(RemarkKind.PAIR, run, text=f"version {self._old} is asked at 0 %, beside what is live")
            check_not_held(tools, history, is_automatic=True)  # last: until the deployment itself a hold stops it
            try:
                message = make_message(tools, remark, history[0])
                made = tools.deployments.deploy(shares, message=message, cohorts=history[0].cohorts)
            except ProviderUnavailable:
                made = look_after_trouble(tools, self._deployment, run, RemarkKind.PAIR)
                if made is None:
                    raise
        history = await_listed(tools, made.id)
        check_undisturbed(tools, history, made.id, expected=self._deployment, run=run)
        check_unmoved(tools, history, self._deployment, run, self._new)
        return made

    def _check_old(self) -> None:
        """Raise Refused when a rule forbids returning to the old version: its answers then decide nothing."""
        situation = observe(self._tools)
        older = explain_older_configuration(self._tools, situation)
        if older:
            raise Refused(older, where=self._tools.environment, rule=SafetyRule.IDENTITY)
        if returns(situation, self._new, self._old):  # features that an older version lacks are no reason to undo that
            raise Refused(
                f"version {self._new[:8]} was live before version {self._old[:8]}, so this is a way back",
                where=self._tools.environment,
                rule=SafetyRule.TARGET,
            )
        found = judge_again(self._tools, self._old, leaving=self._new, by_robot=False, accept_unproven=True)
        if found is not None and found.eligible:
            return
        why = "it can no longer be deployed" if found is None else found.reason
        raise Refused(
            f"version {self._old[:8]} may not be asked: {why}",
            where=self._tools.environment,
            rule=SafetyRule.TARGET if found is None else found.rule,
        )

    # --- asking ---

    def _ask_in_turn(self, asker: HealthCheck, made: _Round) -> PairedAnswer | None:
        check = made.turns.take()
        pair = self._ask(asker, check, made)
        made.turns.note(check, pair)
        return pair

    def _ask(self, asker: HealthCheck, check: SyntheticCheck, made: _Round) -> PairedAnswer | None:
        """Return the answers of both to one request, None when it is not known which version answered."""
        at, order = self._tools.clock.now(), [self._new, self._old]
        self._tools.guard.dice.shuffle(order)
        try:
            before = self._is_old(asker, made)
            answers = {version: asker.fetch(check.path, version, check=check) for version in order}
            named = {version: answers[version].find_version((self._new, self._old)) for version in order}
            made.is_named = made.is_named or any(named.values())
            known = named[self._old] == self._old or (not named[self._old] and before and self._is_old(asker, made))
        except BackoutError as error:
            made.unsent.append(error)
            return None
        if not known or named[self._new] == self._old:
            made.unknown += 1
            return None
        new, old = (_make_version_answer(check, answers[version]) for version in (self._new, self._old))
        return PairedAnswer(at, check.name, new, old)

    def _is_old(self, asker: HealthCheck, made: _Round) -> bool:
        """Whether a request for the old version is answered by it: a provider ignores what it cannot follow."""
        report, current = asker.look(self._old), asker.look(self._new)
        look = judge(report, self._old, {self._new}, current, self._tools.policy)
        made.is_named = made.is_named or look.said is not Said.HIDDEN
        return look.said not in (Said.ELSEWHERE, Said.HIDDEN)


def _make_version_answer(check: SyntheticCheck, answer: Fetched) -> VersionAnswer:
    ends_well = answer.ends is not None and not answer.loops and answer.ends_well
    return VersionAnswer(
        answer.status,
        answer.location,
        has_words=False if answer.status is not None and find_unmet(check, answer) else None,
        ends_well=ends_well if answer.hops else None,
        loops=answer.loops,
    )
