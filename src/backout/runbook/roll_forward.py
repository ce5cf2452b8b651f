"""Scenario 4, option A: roll forward to what was mended, with the team's own deploy command, as one run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.remarks import still_decides, underneath
from backout.errors import BackoutError, Busy, CommandFailed, UsageError, WorldMoved
from backout.model.compatibility import Compatibility
from backout.model.notice import NoticeKind
from backout.model.plan import Plan
from backout.model.setting import setting
from backout.plan.by_hand import by_hand
from backout.plan.forward import Mended, plan_forward
from backout.ports import Done, NotDone, Unknown
from backout.runbook.checks import READ_AGAIN_S, READ_EVERY_S, check_unmoved, listed_after
from backout.runbook.identity import check_identity
from backout.runbook.observe import observe
from backout.runbook.points import AFTER_DEPLOYMENT, BEFORE_DEPLOYMENT, await_point, mark_meanwhile
from backout.runbook.tell import tell_rollback

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.model.compatibility import MigrationVerdict
    from backout.model.deployment import Deployment
    from backout.model.plan import Json, PlanRefused
    from backout.model.schema import SchemaState
    from backout.ports import Probe, StepContext
    from backout.runbook.toolbox import Toolbox


def prepare_forward(tools: Toolbox, message: str, *, wait: bool = True) -> Plan | PlanRefused:
    """Return the plan that deploys what was mended. Changes nothing: this is the whole dry run.

    Raises:
        UsageError: nobody said how this environment is deployed. Refused: it is not the pinned one.
    """
    if not tools.deploy_command or tools.deployer is None:
        raise UsageError(
            "no deploy command is set up, so backout cannot roll forward",
            where=tools.environment,
            hint=setting("environments", tools.environment, "deploy", command="npm run deploy"),
        )
    check_identity(tools)
    situation = observe(tools)
    pending: Sequence[MigrationVerdict] = ()
    unjudged = ""
    if situation.schema.state is not None:
        try:
            pending = _pending(tools, situation.schema.state)
        except BackoutError as error:  # an Alembic or a Django history has no SQL to be judged
            unjudged = error.what
    mended = Mended(tools.deploy_command, message, pending, unjudged, wait=wait)
    outcome = plan_forward(situation, mended, tools.equivalents)
    return by_hand(outcome, tools.equivalents) if isinstance(outcome, Plan) else outcome


def _pending(tools: Toolbox, state: SchemaState) -> tuple[MigrationVerdict, ...]:
    """Return the verdicts on the files that are not applied, for the code that is live now, in their order."""
    from backout.analysis.compatibility import judge  # noqa: PLC0415 - the parser of SQL costs more than a whole plan

    if tools.migrations is None:
        return ()
    done = {migration.name for migration in state.applied if migration.stands}
    judged = judge(tools.migrations.read(), app_checks_head=tools.app_checks_head)
    return tuple(verdict for verdict in judged if verdict.name not in done)


class CheckMigrations:
    """Step `check_migrations` {expected, leaving, pending, judged}: all is still as a person saw it in the plan.

    A pending migration may have become safer since, never worse: one that is worse, or new and not safe, was not agreed
    to.
    """

    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002 the Action protocol
        """Return {pending: {name: verdict}} as they are now. Raises WorldMoved, Refused."""
        tools = self._tools
        check_identity(tools)
        history = listed_after(tools, str(args["expected"]))
        check_unmoved(tools, history, str(args["expected"]), context.run, str(args["leaving"]))
        if not args["judged"] or tools.schema is None:
            return {"pending": {}}
        now = {verdict.name: verdict.verdict for verdict in _pending(tools, tools.schema.read())}
        seen = args["pending"]
        assert isinstance(seen, dict)  # noqa: S101 the plan maker wrote it
        order = list(Compatibility)
        for name, verdict in now.items():
            agreed = Compatibility(str(seen.get(name, Compatibility.SAFE)))
            if order.index(verdict) > order.index(agreed):
                said = agreed if name in seen else "nothing of it"
                raise WorldMoved(
                    f"migration {name} is {verdict} by now, and the plan says {said}",
                    where=tools.environment,
                    hint=f"backout roll-forward --dry-run -e {tools.environment}",
                )
        return {"pending": dict(now)}

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """It only looks; looking again is right."""
        return NotDone()


class Deploy:
    """Step `deploy` {expected, leaving, leaving_since, command}: run the command; a new version must be live then."""

    effect = True

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002 the Action protocol
        """Return {code, tail}.

        Raises:
            CommandFailed: it exited with another code than 0, or it did not and nothing new is live.
        """
        tools, expected, leaving = self._tools, str(args["expected"]), str(args["leaving"])
        assert tools.deployer is not None  # noqa: S101 `prepare_forward` looked
        check_identity(tools)
        check_unmoved(tools, listed_after(tools, expected), expected, context.run, leaving)
        await_point(mark_meanwhile(tools, BEFORE_DEPLOYMENT, leaving, context.run))
        ended = tools.deployer.run(str(args["command"]), tools.hear)
        result: dict[str, Json] = {"code": ended.code, "tail": list(ended.tail)}
        context.progress(result)
        live = _new_live(tools, expected, leaving, patient=ended.code == 0)
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
            where=str(args["command"]),
            hint=f"mend it, then: backout roll-forward -e {tools.environment} -m WHY",
        )

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Ask whether it runs still, whether its end was seen, and whether anything new is live.

        Raises:
            Busy: it has not ended yet.
        """
        tools = self._tools
        assert tools.deployer is not None  # noqa: S101 `prepare_forward` looked
        if tools.deployer.still_runs():
            raise Busy(
                "the deploy command that this run started has not ended yet",
                where=tools.environment,
                hint=f"when it has: backout runs resume {context.run}",
            )
        live = _new_live(tools, str(args["expected"]), str(args["leaving"]), patient=True)
        ended = context.last_progress()
        if live is None:
            return NotDone()
        if ended is not None and ended.get("code") == 0:
            return Done({"code": 0, "tail": ended.get("tail")})
        return Unknown(f"deployment {live.id} (version {live.main}) is live by now, and the command's end was not seen")


_QUOTED = 3
"""So many of the command's last lines stand in the error."""


def _new_live(tools: Toolbox, expected: str, leaving: str, *, patient: bool) -> Deployment | None:
    """Return what took the place of the deployment `expected`, None when nothing did; `patient`: lists may be late."""
    deadline = tools.clock.now() + (READ_AGAIN_S if patient else 0.0)
    while True:
        history = tools.deployments.history()
        if history and not still_decides(history, expected, leaving):
            return underneath(history)
        if tools.clock.now() >= deadline:
            return None
        tools.clock.sleep(READ_EVERY_S)


class ReadNew:
    """Step `read_new` {expected, leaving}: which new version the provider says is live (safety rule 14)."""

    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002 the Action protocol
        """Return {deployment, version, since, read_at}; raises WorldMoved when the old one is live."""
        tools, leaving = self._tools, str(args["leaving"])
        live = _new_live(tools, str(args["expected"]), leaving, patient=True)
        if live is None:
            raise WorldMoved(
                f"version {leaving} is live, and no new one",
                where=tools.environment,
                hint=f"backout status -e {tools.environment}",
            )
        return {"deployment": live.id, "version": live.main, "since": live.created_at, "read_at": tools.clock.now()}

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Reading again is right."""
        return NotDone()


class CheckHead:
    """Step `check_head` {pending}: the app's own tool applied what was pending, and nothing failed."""

    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002 the Action protocol
        """Return {head}.

        Raises:
            BackoutError: a migration failed, or was not applied; the run is resumed when it is.
        """
        tools = self._tools
        assert tools.schema is not None  # noqa: S101 planned only where it is set up
        state = tools.schema.read()
        done = {migration.name for migration in state.applied if migration.stands}
        pending = args["pending"]
        missing = [name for name in map(str, pending if isinstance(pending, list) else ()) if name not in done]
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
        return {"head": state.head}

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Reading again is right."""
        return NotDone()


class SettleForward:
    """Step `settle_forward` {leaving}: tell somebody; a mended version that is not well is left to a person."""

    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002 the Action protocol
        """Return {outcome, told}."""
        tools, run = self._tools, context.run
        live, verified = tools.runs.result(run, "read_new"), tools.runs.result(run, "verify")
        version = str(live["version"]) if isinstance(live, dict) else ""
        await_point(mark_meanwhile(tools, AFTER_DEPLOYMENT, version, run))
        restored = not (isinstance(verified, dict) and verified.get("verified") is False)
        kind = NoticeKind.ROLLED_BACK if restored else NoticeKind.NOT_RESTORED
        tell_rollback(tools, kind, run)
        outcome = NoticeKind.ROLLED_FORWARD if restored else kind
        return {"outcome": outcome, "told": tools.notifier is not None}

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """A notice is told once by its key: again is right."""
        return NotDone()
