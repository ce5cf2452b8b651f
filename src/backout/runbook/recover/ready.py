"""The last look before anything is stopped: the deployment, the code, the secrets, the fence, the access key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import Refused
from backout.model.objects.checks import describe_permission
from backout.model.steps.objects import RestoreObjectsStep, UndoObjectsStep
from backout.model.steps.recovery import FenceStep, MaintenanceStep, ReadyResult, ReadyStep
from backout.plan.recovery import has_objects
from backout.ports import Action
from backout.rules import SafetyRule
from backout.runbook.objects.restore import foresee
from backout.runbook.recover.secrets import read_secrets
from backout.runbook.recover.tools import find_plan, get_fence, list_own_runs
from backout.runbook.rollback.reupload import read_bundle
from backout.runbook.safety.checks import await_listed, check_unmoved
from backout.runbook.safety.identity import check_identity

if TYPE_CHECKING:
    from backout.model.database.fence import FenceSurvey
    from backout.ports import StepContext
    from backout.runbook.objects.tools import ObjectTools
    from backout.runbook.recover.tools import RecoverTools


class LookReady(Action[ReadyStep, ReadyResult]):
    """Step `recover_ready` {expected, leaving, version, uploads, secrets, source}: what is needed is at hand."""

    arguments = ReadyStep
    effect = False

    def __init__(self, tools: RecoverTools) -> None:
        self._tools = tools

    def do(self, args: ReadyStep, context: StepContext) -> ReadyResult:
        """Return what was looked at. Raises WorldMoved, or Refused: what is missing."""
        tools, run = self._tools, context.run
        check_identity(tools.tools)
        history = await_listed(tools.tools, args.expected)
        check_unmoved(tools.tools, history, args.expected, run, args.leaving)
        plan, seen = find_plan(tools.tools.runs, run), ["the deployment is the one that was planned on"]
        if args.uploads:
            seen.append(self._look_at_code(args))
        page = tools.tools.platform.maintenance
        if plan.arguments(MaintenanceStep).shows and page is not None and (obstacle := page.find_obstacle()):
            raise Refused(f"no maintenance page can be shown: {obstacle}", where=tools.tools.environment)
        if plan.has(FenceStep):
            check_fence(tools, list_own_runs(tools.tools.runs, run))
            seen.append("the fence can go up")
        if tools.objects is not None and plan.has(RestoreObjectsStep):
            check_permissions(tools.objects)
            seen.append("the access key may change objects: tried on one of backout's own")
        return ReadyResult(looked_at=tuple(seen), objects=self._count_objects(run))

    def _look_at_code(self, args: ReadyStep) -> str:
        tools = self._tools.tools
        bundle = read_bundle(tools, args.version or args.leaving)
        read_secrets(tools, args.secrets, args.source)
        there = {*tools.versions.detail(args.leaving).secret_names, *args.secrets}
        if missing := sorted(set(bundle.version.secret_names) - there):
            raise Refused(
                f"version {bundle.version.id[:8]} needs secrets that are gone: {', '.join(missing)}",
                where=tools.environment,
                rule=SafetyRule.SECRETS,
                options=(f"Recover the secrets as well, and name a source for {', '.join(missing)} (secrets.source).",),
            )
        return "the code, and the values of the secrets that are set with it"

    def _count_objects(self, run: str) -> int | None:
        plan, tools = find_plan(self._tools.tools.runs, run), self._tools.objects
        if tools is None or not has_objects(plan) or plan.has(UndoObjectsStep):
            return None
        return foresee(tools, plan).changes


def check_permissions(tools: ObjectTools) -> None:
    """Try what a restore of objects needs. Raises Refused: the access key may not do it."""
    found = tools.look.try_permissions()
    if missing := [describe_permission(name) for name, is_allowed in found.allowed.items() if is_allowed is False]:
        why = "; ".join(f"{describe_permission(name)}: {text}" for name, text in found.why)
        raise Refused(
            f"the access key may not {', '.join(missing)} in the bucket ({why}), so no object could be brought back",
            where=tools.bucket,
            rule=SafetyRule.PREFLIGHT,
            options=(f"Give it these permissions, and look: `backout objects check -e {tools.environment}`.",),
        )


def check_fence(tools: RecoverTools, own: tuple[str, ...]) -> FenceSurvey:
    """Return what was seen. Raises Refused: a fence would not hold, or another run's stands."""
    fence = get_fence(tools)
    standing, survey = fence.read(), fence.survey()
    if standing is not None and standing.run in own:
        return survey
    if standing is not None:
        raise Refused(
            f"the fence of run {standing.run} stands, raised by {standing.actor}",
            where=tools.tools.environment,
            rule=SafetyRule.PREFLIGHT,
            options=(f"Take it away first: `backout unfence -e {tools.tools.environment}`.",),
        )
    if survey.refusals:
        raise Refused(
            f"the database cannot be fenced: {'; '.join(each.reason for each in survey.refusals)}",
            where=tools.tools.environment,
            rule=SafetyRule.PREFLIGHT,
            options=tuple(line for each in survey.refusals for line in each.script),
        )
    return survey
