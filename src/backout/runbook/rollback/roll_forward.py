"""Scenario 4, option A: roll forward to a fix, with the team's own deploy command, as one run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.history.remarks import find_underneath, is_deciding
from backout.decoding import decode_values
from backout.errors import BackoutError, Busy, CommandFailed, UsageError, WorldMoved
from backout.model.database.compatibility import Compatibility
from backout.model.incident.notice import NoticeKind
from backout.model.plan import Plan
from backout.model.setting import describe_setting
from backout.model.steps.forward import (
    CheckHeadResult,
    CheckHeadStep,
    CheckMigrationsResult,
    CheckMigrationsStep,
    DeployResult,
    DeployStep,
    ReadNewStep,
    SettleForwardResult,
    SettleForwardStep,
)
from backout.model.steps.rollback import ReadBackResult
from backout.model.steps.verification import VerifyStep
from backout.plan.by_hand import add_by_hand
from backout.plan.forward import Mended, plan_forward
from backout.ports import Action, Done, NotDone, Unknown, find_result
from backout.runbook.incident.tell import tell_rollback
from backout.runbook.observe import observe
from backout.runbook.recovery.restore_points import AFTER_DEPLOYMENT, BEFORE_DEPLOYMENT, await_point, mark_meanwhile
from backout.runbook.safety.checks import READ_AGAIN_S, READ_EVERY_S, await_listed, check_unmoved, make_read_back
from backout.runbook.safety.identity import check_identity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.database.compatibility import MigrationVerdict
    from backout.model.database.schema import SchemaState
    from backout.model.deployment import Deployment
    from backout.model.plan import PlanRefused
    from backout.ports import Probe, StepContext
    from backout.runbook.toolbox import Toolbox


def prepare_forward(tools: Toolbox, message: str, *, wait: bool = True) -> Plan | PlanRefused:
    """Return the plan that deploys a fix. Changes nothing: this is the whole dry run.

    Raises:
        UsageError: it is not set up how this environment is deployed.
        Refused: it is not the pinned one.
    """
    if not tools.rollback.deploy_command or tools.rollback.deployer is None:
        raise UsageError(
            "no deploy command is set up, so backout cannot roll forward",
            where=tools.environment,
            hint=describe_setting("environments", tools.environment, "deploy", command="npm run deploy"),
        )
    check_identity(tools)
    situation = observe(tools)
    pending: Sequence[MigrationVerdict] = ()
    unjudged = ""
    if situation.schema.state is not None:
        try:
            pending = _judge_pending(tools, situation.schema.state)
        except BackoutError as error:  # an Alembic or Django history has no SQL to judge
            unjudged = error.what
    mended = Mended(tools.rollback.deploy_command, message, pending, unjudged, wait=wait)
    outcome = plan_forward(situation, mended, tools.rollback.equivalents)
    return add_by_hand(outcome, tools.rollback.equivalents) if isinstance(outcome, Plan) else outcome


def _judge_pending(tools: Toolbox, state: SchemaState) -> tuple[MigrationVerdict, ...]:
    """Return the verdicts on the files not applied, for the code that is live now, in order."""
    from backout.analysis.compatibility import judge

    if tools.rollback.migrations is None:
        return ()
    done = {migration.name for migration in state.applied if migration.stands}
    judged = judge(tools.rollback.migrations.read(), app_checks_head=tools.rollback.app_checks_head)
    return tuple(verdict for verdict in judged if verdict.name not in done)


class CheckMigrations(Action[CheckMigrationsStep, CheckMigrationsResult]):
    """Step `check_migrations` {expected, leaving, pending, judged}: all is still as a person saw it in the plan.

    A pending migration may have become safer since, but not worse: one that is worse, or new and not safe, was not
    agreed to.
    """

    arguments = CheckMigrationsStep
    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: CheckMigrationsStep, context: StepContext) -> CheckMigrationsResult:
        """Return {pending: {name: verdict}} as they are now. Raises WorldMoved, Refused."""
        tools = self._tools
        check_identity(tools)
        history = await_listed(tools, args.expected)
        check_unmoved(tools, history, args.expected, context.run, args.leaving)
        if not args.judged or tools.rollback.schema is None:
            return CheckMigrationsResult(pending={})
        now = {verdict.name: verdict.verdict for verdict in _judge_pending(tools, tools.rollback.schema.read())}
        seen = args.pending
        order = list(Compatibility)
        for name, verdict in now.items():
            agreed = seen.get(name, Compatibility.SAFE)
            if order.index(verdict) > order.index(agreed):
                said = agreed if name in seen else "nothing of it"
                raise WorldMoved(
                    f"migration {name} is {verdict} by now, and the plan says {said}",
                    where=tools.environment,
                    hint=f"backout roll-forward --dry-run -e {tools.environment}",
                )
        return CheckMigrationsResult(pending=now)


class Deploy(Action[DeployStep, DeployResult]):
    """Step `deploy` {expected, leaving, leaving_since, command}: run the command; a new version must be live then."""

    arguments = DeployStep

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: DeployStep, context: StepContext) -> DeployResult:
        """Return {code, tail}.

        Raises:
            CommandFailed: it exited with a code other than 0, or with 0 although nothing new is live.
        """
        tools, expected, leaving = self._tools, args.expected, args.leaving
        assert tools.rollback.deployer is not None
        check_identity(tools)
        check_unmoved(tools, await_listed(tools, expected), expected, context.run, leaving)
        await_point(mark_meanwhile(tools, BEFORE_DEPLOYMENT, leaving, context.run, live=leaving))
        ended = tools.rollback.deployer.run(args.command, tools.rollback.hear)
        result = DeployResult(code=ended.code, tail=tuple(ended.tail))
        context.progress(result.to_json())
        live = _await_new_live(tools, expected, leaving, patient=ended.code == 0)
        if ended.code == 0 and live is not None:
            return result
        how = f"ended with exit code {ended.code}" if ended.code else "ended well"
        now = (
            f"deployment {live.id} (version {live.main}) is live now all the same"
            if live is not None
            else f"nothing new is live: version {leaving} still is"
        )
        said = f"; it said last: {' | '.join(ended.tail[-_QUOTED:])}" if ended.tail else ""
        raise CommandFailed(
            f"the deploy command {how}, and {now}{said}",
            code=ended.code,
            tail=ended.tail,
            where=args.command,
            hint=f"fix it, then: backout roll-forward -e {tools.environment} -m WHY",
        )

    def probe(self, args: DeployStep, context: StepContext) -> Probe[DeployResult]:
        """Ask whether it is still running, whether its end was seen, and whether anything new is live.

        Raises:
            Busy: it has not ended yet.
        """
        tools = self._tools
        assert tools.rollback.deployer is not None
        if tools.rollback.deployer.still_runs():
            raise Busy(
                "the deploy command that this run started has not ended yet",
                where=tools.environment,
                hint=f"when it has: backout runs resume {context.run}",
            )
        live = _await_new_live(tools, args.expected, args.leaving, patient=True)
        ended = context.last_progress()
        if live is None:
            return NotDone()
        if ended is not None and (result := decode_values(ended, DeployResult)).code == 0:
            return Done(result)
        return Unknown(f"deployment {live.id} (version {live.main}) is live by now, and the command's end was not seen")


_QUOTED = 3
"""How many of the command's last lines the error has."""


def _await_new_live(tools: Toolbox, expected: str, leaving: str, *, patient: bool) -> Deployment | None:
    """Return what took the place of the deployment `expected`, None if nothing did; `patient`: lists may be late."""
    deadline = tools.clock.now() + (READ_AGAIN_S if patient else 0.0)
    while True:
        history = tools.deployments.history()
        if history and not is_deciding(history, expected, leaving):
            return find_underneath(history)
        if tools.clock.now() >= deadline:
            return None
        tools.clock.sleep(READ_EVERY_S)


class ReadNew(Action[ReadNewStep, ReadBackResult]):
    """Step `read_new` {expected, leaving}: which new version the provider says is live (safety rule 14)."""

    arguments = ReadNewStep
    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: ReadNewStep, context: StepContext) -> ReadBackResult:
        """Return {deployment, version, since, read_at}; raises WorldMoved when the old one is live."""
        tools, leaving = self._tools, args.leaving
        live = _await_new_live(tools, args.expected, leaving, patient=True)
        if live is None:
            raise WorldMoved(
                f"version {leaving} is live, and no new one",
                where=tools.environment,
                hint=f"backout status -e {tools.environment}",
            )
        return make_read_back(tools, live)


class CheckHead(Action[CheckHeadStep, CheckHeadResult]):
    """Step `check_head` {pending}: the app's own tool applied what was pending, and nothing failed."""

    arguments = CheckHeadStep
    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: CheckHeadStep, context: StepContext) -> CheckHeadResult:
        """Return {head}.

        Raises:
            BackoutError: a migration failed, or was not applied; the run is resumed when it is.
        """
        tools = self._tools
        assert tools.rollback.schema is not None
        state = tools.rollback.schema.read()
        done = {migration.name for migration in state.applied if migration.stands}
        missing = [name for name in args.pending if name not in done]
        environment = tools.environment
        if state.failed:
            raise BackoutError(
                f"the new version is live, and migration {state.failed[0]} failed half-way",
                where=environment,
                hint=f"backout db migrations status -e {environment}",
            )
        if missing:
            raise BackoutError(
                f"the new version is live, and its migration {missing[0]} was not applied",
                where=environment,
                hint=f"npx prisma migrate deploy, or backout db migrations apply -e {environment}",
            )
        return CheckHeadResult(head=state.head)


class SettleForward(Action[SettleForwardStep, SettleForwardResult]):
    """Step `settle_forward` {leaving}: send the notices; a fixed version that is not well is left to a person."""

    arguments = SettleForwardStep
    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: SettleForwardStep, context: StepContext) -> SettleForwardResult:
        """Return {outcome, told}."""
        tools, run = self._tools, context.run
        live, verified = find_result(tools.runs, run, ReadNewStep), find_result(tools.runs, run, VerifyStep)
        version = live.version if live is not None else ""
        await_point(mark_meanwhile(tools, AFTER_DEPLOYMENT, version, run, live=version))
        restored = verified is None or verified.verified is not False
        kind = NoticeKind.ROLLED_BACK if restored else NoticeKind.NOT_RESTORED
        tell_rollback(tools, kind, run)
        outcome = NoticeKind.ROLLED_FORWARD if restored else kind
        return SettleForwardResult(outcome=outcome, told=tools.notifier is not None)
