"""The steps that change what is live: activate, read back, quarantine. Each is checked again with the provider."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.history.remarks import find_underneath, is_deciding, is_half_made
from backout.errors import ProviderUnavailable, Refused, SecretsChanged, WorldMoved
from backout.model.remark import Code, Remark, RemarkKind
from backout.model.steps.rollback import (
    ActivateResult,
    ActivateStep,
    MarkResult,
    MarkStep,
    ProveStep,
    ReadBackResult,
    ReadBackStep,
    StillLiveResult,
    StillLiveStep,
)
from backout.model.version import Mark, VersionId, VersionMark
from backout.ports import Action, Done, NotDone, Unknown, find_result
from backout.report.times import format_duration
from backout.runbook.guard.questioned_marks import tell_questions
from backout.runbook.probing.pre_promotion import ask_about_secrets, find_chosen, judge_again, report_held
from backout.runbook.recovery.restore_points import BEFORE_DEPLOYMENT, mark_meanwhile
from backout.runbook.rollback.marked import make_message
from backout.runbook.safety.checks import (
    await_listed,
    await_own_listed,
    await_still_listed,
    check_not_held,
    check_on_every_host,
    check_undisturbed,
    check_unmoved,
    find_own,
    look_after_trouble,
    make_read_back,
)
from backout.runbook.safety.identity import check_identity

if TYPE_CHECKING:
    from backout.model.deployment import Deployment
    from backout.ports import Probe, StepContext
    from backout.runbook.toolbox import Toolbox


FRESH_S = 60.0
"""A plan younger than this is carried out as it was judged."""


class Activate(Action[ActivateStep, ActivateResult]):
    """Step `activate` {version, leaving, expected, message, force, carry}: make a version live, if all is as planned.

    `expected` is the id of the deployment that the plan is based on: if another one decides about the traffic (a
    hotfix, another operator's work) it raises WorldMoved, and nothing is changed (safety rule 8).
    """

    arguments = ActivateStep

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: ActivateStep, context: StepContext) -> ActivateResult:
        """Return {deployment, version, at} as the provider answered."""
        tools = self._tools
        check_identity(tools)
        self._check_still_allowed(context.run, args)
        history = await_listed(tools, args.expected)
        if not is_half_made(history, args.expected, context.run):  # else its other hosts are reached now
            check_unmoved(tools, history, args.expected, context.run, args.leaving)
        version = find_chosen(tools, context.run, args.version)
        remark = Remark(
            RemarkKind.ROLLBACK,
            context.run,
            auto=bool(args.detected),
            hop=args.hop,
            code=None if args.left is None else Code(args.left.version, args.left.code_hash, args.left.git_sha),
            text=args.message,
        )
        mark_meanwhile(tools, BEFORE_DEPLOYMENT, version, context.run, live=args.leaving)
        try:
            check_not_held(
                tools, history, is_automatic=bool(args.detected)
            )  # last: until the switch itself a hold stops it
            made = self._switch(version, make_message(tools, remark, history[0]), args, context.run)
        except Refused as error:
            report_held(tools, context.run, error, is_automatic=bool(args.detected))
            raise
        except ProviderUnavailable:
            found = look_after_trouble(tools, args.expected, context.run, RemarkKind.ROLLBACK)
            if found is None or not self._meant(context.run, args, found.main):
                raise
            made = found
        return _make_result(made)

    def _check_still_allowed(self, run: str, args: ActivateStep) -> None:
        """Judge the target again when the plan is not fresh: a run may be resumed hours after it was planned.

        Raises:
            Refused: a rule now forbids it, because of a migration applied in the meantime for example (rules 4, 5 and
                7).
        """
        tools, found = self._tools, self._tools.runs.find(run)
        age_s = abs(tools.clock.now() - found.started_at) if found is not None else 0.0
        if found is None or age_s < FRESH_S:
            return
        proof = find_result(tools.runs, run, ProveStep)
        version = (proof.carried_from if proof is not None else None) or find_chosen(tools, run, args.version)
        wanted = found.plan.arguments(ProveStep)
        judged = judge_again(
            tools,
            version,
            leaving=wanted.leaving,
            by_robot=bool(wanted.detected),
            force_schema=wanted.force_schema,
            accept_unproven=True,
        )
        if judged is not None and not judged.eligible:
            error = Refused(
                f"this was planned {format_duration(age_s)} ago, and by now version {version[:8]} may not be "
                "returned to: "
                f"{judged.reason}",
                where=tools.environment,
                rule=judged.rule,
                options=(f"plan again: `backout rollback -e {tools.environment} -m WHY`",),
            )
            report_held(tools, run, error, is_automatic=bool(args.detected))
            raise error

    def _switch(self, version: str, message: str, args: ActivateStep, run: str) -> Deployment:
        """Switch; with an unproven target it may show only now that a secret changed since (safety rule 7)."""
        tools = self._tools
        try:
            return tools.deployments.activate(version, message=message, force=args.force, immediate=args.immediate)
        except SecretsChanged as error:
            if not args.carry:
                raise ask_about_secrets(tools, error, version) from error
        from backout.runbook.rollback.reupload import upload_again

        return tools.deployments.activate(
            upload_again(tools, run, version).id, message=message, immediate=args.immediate
        )

    def _meant(self, run: str, args: ActivateStep, version: str) -> bool:
        """Whether this run made that version live, and not someone who copied its message."""
        planned = find_chosen(self._tools, run, args.version)
        if version == planned:
            return True
        from backout.runbook.rollback.reupload import find_reuploaded

        made = find_reuploaded(self._tools, run, planned)
        return made is not None and made.id == version

    def probe(self, args: ActivateStep, context: StepContext) -> Probe[ActivateResult]:
        """Look for our remark among the deployments; without it, the expected deployment listed means not done."""
        history = await_own_listed(self._tools, context.run, RemarkKind.ROLLBACK)
        ours = find_own(history, context.run, RemarkKind.ROLLBACK)
        if ours is not None and self._meant(context.run, args, ours.main):
            return NotDone() if history[0].hosts else Done(_make_result(ours))  # not on every host
        decides = bool(history) and is_deciding(history, args.expected, args.leaving)
        if decides or any(d.id == args.expected for d in history):
            return NotDone()  # the list reaches back to before this run, and has no switch by it
        return Unknown("another deployment is live, and none carries this run's marker")


def _make_result(deployment: Deployment) -> ActivateResult:
    return ActivateResult(deployment=deployment.id, version=deployment.main, at=deployment.created_at)


class StillLive(Action[StillLiveStep, StillLiveResult]):
    """Step `still_live` {expected, leaving}: the world is as planned, checked before an irreversible change.

    A database that went back beneath a hotfix would be an outage of our own making (safety rule 8).
    """

    arguments = StillLiveStep
    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: StillLiveStep, context: StepContext) -> StillLiveResult:
        """Return {live}, as read. Raises WorldMoved, or Refused when it is another environment."""
        check_identity(self._tools)
        history = await_listed(self._tools, args.expected)
        check_unmoved(self._tools, history, args.expected, context.run, args.leaving)
        return StillLiveResult(live=history[0].id if history else None)


class ReadBack(Action[ReadBackStep, ReadBackResult]):
    """Step `read_back` {version}: what is live now, by the provider; only that is ever reported (safety rule 14)."""

    arguments = ReadBackStep
    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: ReadBackStep, context: StepContext) -> ReadBackResult:
        """Return {deployment, version, since, read_at}; raises WorldMoved when another version is live."""
        tools, run = self._tools, context.run
        switched = find_result(tools.runs, run, ActivateStep)
        made = switched.deployment if switched is not None else ""
        history = await_still_listed(tools, made)
        found = tools.runs.find(run)
        if made and found is not None:
            planned = found.plan.arguments(ActivateStep).expected
            check_undisturbed(tools, history, made, expected=planned, run=run)
        live, expected = find_underneath(history), find_chosen(tools, run, args.version)
        check_on_every_host(tools, history[0])
        if live.sole != expected:
            shares = ", ".join(f"{share.version} at {share.percentage:g} %" for share in live.shares)
            raise WorldMoved(
                f"after the switch the provider says that {shares} is live, not {expected}",
                where=tools.environment,
                hint=f"backout status -e {tools.environment}",
            )
        return make_read_back(tools, live)


class SetMark(Action[MarkStep, MarkResult]):
    """Step `mark` {mark, version, code_hash, why, migration_head}: a judgement on a version that outlives the run."""

    arguments = MarkStep
    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: MarkStep, context: StepContext) -> MarkResult:
        """Record the mark, once per run and version; write at the provider which targets the proof questioned."""
        set_mark(self._tools, context.run, args)
        made = find_result(self._tools.runs, context.run, ActivateStep)
        if made is not None and made.deployment:
            tell_questions(self._tools, context.run, made.deployment)
        return MarkResult(mark=args.mark, version=args.version)


def set_mark(tools: Toolbox, run: str, args: MarkStep) -> None:
    """Record one mark."""
    tools.marks.mark(
        tools.environment,
        VersionMark(
            mark=Mark(args.mark),
            version=VersionId(args.version),
            code_hash=args.code_hash,
            at=tools.clock.now(),
            run=run,
            why=args.why,
            migration_head=args.migration_head,
            git_sha=args.git_sha,
            by=tools.actor,
        ),
        actor=tools.actor,
    )
