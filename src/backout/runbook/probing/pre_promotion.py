"""Prove the target first: at 0 % of the traffic, through the provider's override, before it gets any (rule 6)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backout.decoding import decode_values
from backout.errors import NoSplit, ProviderRejected, ProviderUnavailable, Refused, SecretsChanged
from backout.model.deployment import Share
from backout.model.guard.probes import NOT_PROVED
from backout.model.remark import Remark, RemarkKind
from backout.model.steps.base import to_json
from backout.model.steps.rollback import ActivateStep, ProveResult, ProveStep, Tried
from backout.model.version import VersionId
from backout.ports import Action, find_result
from backout.rules import SafetyRule
from backout.runbook.guard.questioned_marks import mark_questioned, tell_questions
from backout.runbook.probing.failed_proofs import record_failure
from backout.runbook.probing.pre_promotion_probe import BUDGET_S, PROPAGATION_S, ask, describe_total_outage
from backout.runbook.rollback.marked import make_message
from backout.runbook.safety.checks import (
    await_listed,
    await_own_listed,
    check_not_held,
    check_undisturbed,
    check_unmoved,
    find_own,
)
from backout.runbook.safety.identity import check_identity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backout.analysis.history.stability import Candidate
    from backout.errors import BackoutError
    from backout.model.deployment import Deployment
    from backout.ports import StepContext
    from backout.runbook.toolbox import Toolbox

RULE = SafetyRule.PROOF
_OPTIONS_PLACED = (
    "have /health say which version answers (the binding version_metadata), then it can be proved",
    "the traffic is as it was; the target stands at 0 %, which ends with the next deployment",
)
MAX_SHARES = 2
"""No provider splits the traffic between more versions."""


def find_chosen(tools: Toolbox, run: str, planned: str) -> str:
    """Return the version that this run's later steps are about: made live, uploaded again, proven, or as planned."""
    switched = find_result(tools.runs, run, ActivateStep)
    if switched is not None:
        return switched.version
    from backout.model.steps.forward import ReadNewStep

    made = find_result(tools.runs, run, ReadNewStep)
    if made is not None:
        return made.version
    from backout.model.steps.recovery import GoLiveStep

    served = find_result(tools.runs, run, GoLiveStep)
    if served is not None:
        return served.version
    proven = find_result(tools.runs, run, ProveStep)
    return proven.version if proven is not None else planned


def ask_about_secrets(tools: Toolbox, error: SecretsChanged, version: str) -> SecretsChanged:
    """Return the question that only a person may answer: which secret values are to be live after the rollback."""
    names = f": {', '.join(error.names)}" if error.names else ""
    again = f"backout rollback {version} -e {tools.environment}"
    return SecretsChanged(
        f"secrets changed since version {version} was live{names}; switching to it would bring the old values back",
        names=error.names,
        where=tools.environment,
        hint="decide which values are to be live, or roll forward",
        options=(
            f"keep the secrets of now, with the code uploaded again: `{again} --carry-secrets -m WHY`",
            f"bring the old values back: `{again} --restore-secrets -m WHY`",
            'always keep the secrets of now: `on_secret_change = "carry"` in [guard]',
        ),
    )


def report_held(tools: Toolbox, run: str, error: Refused, *, is_automatic: bool) -> None:
    """Write the report of an automatic rollback that was refused: no one is at the terminal to read why."""
    if is_automatic:
        from backout.runbook.incident.report import write_report

        write_report(tools, run, held=str(error))


def judge_again(
    tools: Toolbox, version: str, *, leaving: str, by_robot: bool, force_schema: str = "", accept_unproven: bool = False
) -> Candidate | None:
    """Return a version judged by all rules with the facts known now; None when it can no longer be deployed.

    Args:
        args: those of the step `prove`.
    """
    from backout.analysis.history.stability import list_candidates
    from backout.runbook.observe import add_details, observe

    situation = add_details(tools, observe(tools), [version])
    ranked = list_candidates(
        situation,
        leaving=leaving,
        accept_unproven=accept_unproven,
        force_schema=force_schema,
        by_robot=by_robot,
    )
    return next((candidate for candidate in ranked if candidate.version == version), None)


class Prove(Action[ProveStep, ProveResult]):
    """Step `prove` {version, alternatives, kept, expected, leaving, ...}: find the first target that answers well.

    Nothing gets traffic yet. After a target that is bad, or that the provider does not accept, the next one is tried.
    """

    arguments = ProveStep
    effect = False  # it moves no traffic

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: ProveStep, context: StepContext) -> ProveResult:
        """Return {version, proved, why, tried, carried_from}.

        `proved` is None when nothing was measured and the rollback still goes on; `tried` are {version, ok, why} in
        order; `carried_from` is the version whose code was uploaded again as this one, or None.
        """
        try:
            return _Proof(self._tools, args, context).result()
        except Refused as error:
            report_held(self._tools, context.run, error, is_automatic=bool(args.detected))
            raise


def _count_attempts(tools: Toolbox, run: str) -> int:
    started = tools.journal.events(run=run, kind="step.start")
    return sum(1 for event in started if event.data.get("action") == "prove")


@dataclass
class _Outcome:
    """The result of one target; `ok` None: it could not be measured. `version` is the one to make live."""

    ok: bool | None
    why: str
    version: str
    carried_from: str | None = None
    refusal: BackoutError | None = None
    placed: bool = True
    """It stands at 0 % beside what has the traffic."""
    contradicts: bool = False
    """It does not answer as it did when it was marked stable."""


@dataclass
class _Proof:
    """One run's search for a target."""

    tools: Toolbox
    args: ProveStep
    context: StepContext
    history: Sequence[Deployment] = ()
    tried: list[Tried] = field(default_factory=list)

    def result(self) -> ProveResult:
        """Return the step's result; raises Refused when no target may be made live."""
        self._look_around()
        skipped = self._why_skipped()
        if skipped:
            version = self.args.version
            carried = self._upload(version) if version in self.args.kept else version
            return self._chosen(_Outcome(None, skipped, carried, version if carried != version else None))
        earlier = self.context.last_progress() or {}
        self.tried = decode_values(earlier.get("tried") or [], list[Tried])
        last: _Outcome | None = None
        for version in self._targets():
            last = self._try(version)
            if last.ok is not False:
                break
            # Recorded first: a version among those tried is not asked again after a crash.
            if last.refusal is None:  # it was asked, and did not answer well
                record_failure(self.tools, self.context.run, version, last.why)
            if last.contradicts:
                mark_questioned(self.tools, self.context.run, version, last.why, self.history)
            self.tried.append(Tried(version=version, ok=False, why=last.why))
            self.context.progress({"tried": to_json(self.tried)})
            self.tools.say(f"version {version} is not the target any more: {last.why}")
        if last is None or not last.ok:  # otherwise the step `mark` tells it: nothing delays the switch
            tell_questions(self.tools, self.context.run, self.args.expected)
        if last is not None and last.ok is None:
            self._accept_unmeasured(last)
        if last is None or last.ok is False:
            raise self._nothing_left(last)
        return self._chosen(last)

    def _look_around(self) -> None:
        check_identity(self.tools)
        run = self.context.run
        if _count_attempts(self.tools, run) > 1:  # an earlier one may have deployed, and undone another's work with it
            self.history = await_own_listed(self.tools, run, RemarkKind.PROVE)
            self._check_undisturbed()
        else:
            self.history = await_listed(self.tools, self.args.expected)
        self._check_unmoved()
        check_not_held(self.tools, self.history, is_automatic=bool(self.args.detected))

    def _check_unmoved(self) -> None:
        check_unmoved(self.tools, self.history, self.args.expected, self.context.run, self.args.leaving)

    def _check_undisturbed(self) -> None:
        """Put back what our own deployment undid, if an attempt without an answer made one."""
        run, made = self.context.run, find_own(self.history, self.context.run, RemarkKind.PROVE)
        if made is not None:
            check_undisturbed(self.tools, self.history, made.id, expected=self.args.expected, run=run)

    def _chosen(self, outcome: _Outcome) -> ProveResult:
        self.tried.append(Tried(version=outcome.version, ok=outcome.ok, why=outcome.why))
        return ProveResult(
            version=outcome.version,
            proved=outcome.ok,
            why=outcome.why,
            tried=tuple(self.tried),
            carried_from=outcome.carried_from,
        )

    # --- whether there is a proof at all ---

    def _why_skipped(self) -> str:
        """Return why the target is not proved, or ""."""
        if self.tools.health is None:
            return "no health check is set up, so it was not proved"
        since = next((d.created_at for d in self.history if d.id == self.args.expected), 0.0)
        outage = describe_total_outage(self.tools, self._serving(), since)
        if outage:
            self.tools.say(f"the target is NOT proved before the switch: {outage}, and any version is better than that")
            return f"{NOT_PROVED}{outage}"
        return ""

    # --- one target after the other ---

    def _targets(self) -> Iterator[str]:
        """Yield the targets not tried yet; an alternative is first judged again by all rules."""
        done = [each.version for each in self.tried]
        more = (each.version for each in self.args.alternatives)
        for number, version in enumerate([self.args.version, *more]):
            if version in done:
                continue
            objection = self._objection(version) if number else ""
            if objection:
                self.tried.append(Tried(version=version, ok=False, why=objection))
                continue
            yield version

    def _objection(self, version: str) -> str:
        """Return why a version may not be returned to, with everything known about it, or ""."""
        args = self.args
        found = judge_again(
            self.tools, version, leaving=args.leaving, by_robot=bool(args.detected), force_schema=args.force_schema
        )
        if found is None:
            return "it can no longer be deployed"
        return "" if found.eligible else found.reason

    def _try(self, version: str) -> _Outcome:
        try:
            target = self._put(version)
        except SecretsChanged as error:
            raise ask_about_secrets(self.tools, error, version) from error
        except Refused as error:
            if error.rule != SafetyRule.TARGET:
                raise
            return _Outcome(False, error.what, version, refusal=error)
        except NoSplit as error:
            return _Outcome(None, f"it cannot be put beside what is live: {error.what}", version, placed=False)
        except ProviderRejected as error:
            if error.status != 400:
                raise
            return _Outcome(False, error.what, version, refusal=error)
        carried = version if target != version else None
        if target == "":
            why = "the traffic is split already, and no third version can be put beside it"
            return _Outcome(None, why, version, placed=False)
        asked = ask(
            self.tools,
            target,
            leaving=self.args.leaving,
            serving=self._serving(),
            known_as=version,
            propagation_s=BUDGET_S if self.args.accept_unproven else PROPAGATION_S,
        )
        placed = self.tools.rollback.places_targets
        return _Outcome(asked.ok, asked.why, target, carried, placed=placed, contradicts=asked.contradicts)

    def _put(self, version: str) -> str:
        """Put a version at 0 % beside what has traffic, and return the one that is there: itself, or its new upload.

        "" when the traffic is split already and leaves no room.
        """
        if not self.tools.rollback.places_targets:
            return version
        target = self._upload(version) if version in self.args.kept else version
        try:
            return target if self._deploy(target) else ""
        except SecretsChanged:
            if not self.args.carry:
                raise
        target = self._upload(version)
        return target if self._deploy(target) else ""

    def _deploy(self, target: str) -> bool:
        """Deploy {current shares, target 0 %}, unless this run did so before; False when it cannot be put there."""
        if self._stands_there(target):
            return True
        top, expected, run = self.history[0], self.args.expected, self.context.run
        shares = [share for share in top.shares if top.serves(share.version)]
        if all(share.version != target for share in shares):
            shares.append(Share(VersionId(target), 0.0))
        if len(shares) > MAX_SHARES:
            return False
        remark = Remark(RemarkKind.PROVE, run, text=f"version {target} is asked at 0 %")
        force = self.args.force
        try:
            message = make_message(self.tools, remark, top)
            made = self.tools.deployments.deploy(shares, message=message, force=force, cohorts=top.cohorts)
        except ProviderUnavailable:
            # It is not known whether it happened. The list says; and should it be late, a second one moves nothing
            # either.
            self.history = self.tools.deployments.history()
            self._check_undisturbed()
            self._check_unmoved()
            if self._stands_there(target):
                return True
            message = make_message(self.tools, remark, self.history[0])
            made = self.tools.deployments.deploy(shares, message=message, force=force, cohorts=top.cohorts)
        self.history = await_listed(self.tools, made.id)
        check_undisturbed(self.tools, self.history, made.id, expected=expected, run=run)
        self._check_unmoved()
        return True

    def _stands_there(self, target: str) -> bool:
        """Whether this run put the target beside the traffic, and there was no deployment since."""
        top = self.history[0]
        ours = find_own(self.history[:1], self.context.run, RemarkKind.PROVE) is not None
        return ours and any(share.version == target for share in top.shares)

    def _upload(self, version: str) -> str:
        from backout.runbook.rollback.reupload import upload_again

        carried = upload_again(self.tools, self.context.run, version)
        self.tools.say(f"version {version} is uploaded again as {carried.id}, with the secrets as they are now")
        return carried.id

    # --- how it ends without a proof ---

    def _accept_unmeasured(self, outcome: _Outcome) -> None:
        """Return if a person accepted a target without a proof."""
        environment = self.tools.environment
        if self.args.accept_unproven:
            self.tools.say(f"version {outcome.version} is NOT proved ({outcome.why}); accepted by --accept-unproven")
            return
        raise Refused(
            f"version {outcome.version} cannot be proved before the switch: {outcome.why}",
            where=environment,
            rule=RULE,
            options=(
                f"accept that: `backout rollback -e {environment} --accept-unproven -m WHY`",
                *(_OPTIONS_PLACED if outcome.placed else ("the traffic is as it was",)),
            ),
        )

    def _nothing_left(self, last: _Outcome | None) -> BackoutError:
        """Return the error: the provider's own refusal when that is all there is, else every target with its reason."""
        if last is not None and last.refusal is not None and len(self.tried) == 1:
            return last.refusal
        reasons = "; ".join(f"version {each.version}: {each.why}" for each in self.tried)
        environment = self.tools.environment
        return Refused(
            f"no target answers well before it gets traffic ({reasons})",
            where=environment,
            rule=RULE,
            options=(
                f"look for another version: `backout deployments list -e {environment}`",
                "roll forward: fix the cause, deploy the fixed version",
                "the traffic is as it was; a target at 0 % gets none, which ends with the next deployment",
            ),
        )

    def _serving(self) -> set[str]:
        return {share.version for share in self.history[0].shares if self.history[0].serves(share.version)}
