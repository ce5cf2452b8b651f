"""The steps that change what is live: activate, read back, quarantine. Each is re-checked against the provider."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.remarks import still_decides, underneath
from backout.errors import ProviderUnavailable, Refused, SecretsChanged, WorldMoved
from backout.model.deployment import Mark, VersionId, VersionMark
from backout.model.remark import Code, Remark, RemarkKind
from backout.ports import Done, NotDone, Unknown
from backout.report.times import duration
from backout.runbook.checks import (
    as_read,
    check_not_held,
    check_undisturbed,
    check_unmoved,
    listed_after,
    listed_with_own,
    look_after_trouble,
    own,
    still_listed,
)
from backout.runbook.identity import check_identity
from backout.runbook.marked import message_of
from backout.runbook.points import BEFORE_DEPLOYMENT, mark_meanwhile
from backout.runbook.prove import chosen, judged_again, report_held, secrets_decision
from backout.runbook.question import tell_questions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.deployment import Deployment
    from backout.model.plan import Json
    from backout.ports import Probe, StepContext
    from backout.runbook.toolbox import Toolbox


FRESH_S = 60.0
"""A plan that is younger than this is carried out as it was judged."""


class Activate:
    """Step `activate` {version, leaving, expected, message, force, carry}: make a version live, if all is as planned.

    `expected` is the id of the deployment that the plan rests on: whatever else decides about the traffic (a hotfix,
    another operator's work) makes it raise WorldMoved, and nothing is changed (safety rule 8).
    """

    effect = True

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002 the Action protocol
        """Return {deployment, version, at} as the provider answered."""
        tools = self._tools
        check_identity(tools)
        self._check_still_allowed(context.run, args)
        history = listed_after(tools, str(args["expected"]))
        check_unmoved(tools, history, str(args["expected"]), context.run, str(args["leaving"]))
        version = chosen(tools, context.run, args)
        remark = Remark(
            RemarkKind.ROLLBACK,
            context.run,
            auto=bool(args.get("detected")),
            hop=int(str(args.get("hop") or 1)),
            code=_code(args.get("left")),
            text=str(args["message"]),
        )
        mark_meanwhile(tools, BEFORE_DEPLOYMENT, version, context.run)
        try:
            check_not_held(tools, history, args)  # last: until the switch itself a hold stops it
            made = self._switched(version, message_of(tools, remark, history[0]), args, context.run)
        except Refused as error:
            report_held(tools, context.run, error, args)
            raise
        except ProviderUnavailable:
            found = look_after_trouble(tools, str(args["expected"]), context.run, RemarkKind.ROLLBACK)
            if found is None or not self._meant(context.run, args, found.main):
                raise
            made = found
        return _described(made)

    def _check_still_allowed(self, run: str, args: Mapping[str, Json]) -> None:
        """Judge the target again when the plan is not fresh: a run may be resumed hours after it was planned.

        Raises:
            Refused: by now a rule forbids it, such as a migration applied meanwhile (safety rules 4, 5 and 7).
        """
        tools, found = self._tools, self._tools.runs.find(run)
        age_s = abs(tools.clock.now() - found.started_at) if found is not None else 0.0
        if found is None or age_s < FRESH_S:
            return
        proof = tools.runs.result(run, "prove")
        carried_from = proof.get("carried_from") if isinstance(proof, dict) else None
        version = str(carried_from or chosen(tools, run, args))
        wanted = found.plan.step("prove").args
        judged = judged_again(tools, version, wanted, accept_unproven=True)
        if judged is not None and not judged.eligible:
            error = Refused(
                f"this was planned {duration(age_s)} ago, and by now version {version[:8]} may not be returned to: "
                f"{judged.reason}",
                where=tools.environment,
                rule=judged.rule,
                options=(f"plan anew: `backout rollback -e {tools.environment} -m WHY`",),
            )
            report_held(tools, run, error, args)
            raise error

    def _switched(self, version: str, message: str, args: Mapping[str, Json], run: str) -> Deployment:
        """Switch; a target that was not proved may only now show that a secret changed since (safety rule 7)."""
        tools = self._tools
        try:
            return tools.deployments.activate(version, message=message, force=bool(args.get("force")))
        except SecretsChanged as error:
            if not args.get("carry"):
                raise secrets_decision(tools, error, version) from error
        from backout.runbook.carry import upload_again  # noqa: PLC0415 - few rollbacks need it

        return tools.deployments.activate(upload_again(tools, run, version).id, message=message)

    def _meant(self, run: str, args: Mapping[str, Json], version: str) -> bool:
        """Whether this run made that version live, and nobody who copied its message."""
        planned = chosen(self._tools, run, args)
        if version == planned:
            return True
        from backout.runbook.carry import uploaded_again  # noqa: PLC0415 - few rollbacks need it

        made = uploaded_again(self._tools, run, planned)
        return made is not None and made.id == version

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Look for our remark among the deployments; without it, the expected deployment listed means not done."""
        history = listed_with_own(self._tools, context.run, RemarkKind.ROLLBACK)
        ours = own(history, context.run, RemarkKind.ROLLBACK)
        if ours is not None and self._meant(context.run, args, ours.main):
            return Done(_described(ours))
        expected = str(args["expected"])
        decides = bool(history) and still_decides(history, expected, str(args["leaving"]))
        if decides or any(d.id == expected for d in history):
            return NotDone()  # the list reaches back to before this run, and has no switch of it
        return Unknown("another deployment is live, and none carries this run's marker")


def _code(value: Json) -> Code | None:
    return Code(**{name: str(text) for name, text in value.items()}) if isinstance(value, dict) else None


def _described(deployment: Deployment) -> Json:
    return {"deployment": deployment.id, "version": deployment.main, "at": deployment.created_at}


class StillLive:
    """Step `still_live` {expected, leaving}: the world is as planned, looked at before what a switch cannot take back.

    A database that went back beneath a hotfix would be an outage of our own making (safety rule 8).
    """

    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002 the Action protocol
        """Return {live}, as read. Raises WorldMoved, or Refused when it is another environment."""
        check_identity(self._tools)
        history = listed_after(self._tools, str(args["expected"]))
        check_unmoved(self._tools, history, str(args["expected"]), context.run, str(args["leaving"]))
        return {"live": history[0].id if history else None}

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """It only looks; looking again is right."""
        return NotDone()


class ReadBack:
    """Step `read_back` {version}: what the provider says is live now; only that is ever reported (safety rule 14)."""

    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002 the Action protocol
        """Return {deployment, version, since, read_at}; raises WorldMoved when another version is live."""
        tools, run = self._tools, context.run
        switched = tools.runs.result(run, "activate")
        made = str(switched["deployment"]) if isinstance(switched, dict) else ""
        history = still_listed(tools, made)
        found = tools.runs.find(run)
        if made and found is not None:
            planned = str(found.plan.step("activate").args["expected"])
            check_undisturbed(tools, history, made, expected=planned, run=run)
        live, expected = underneath(history), chosen(tools, run, args)
        if live.sole != expected:
            shares = ", ".join(f"{share.version} at {share.percentage:g} %" for share in live.shares)
            raise WorldMoved(
                f"after the switch the provider says that {shares} is live, not {expected}",
                where=tools.environment,
                hint=f"backout status -e {tools.environment}",
            )
        return as_read(tools, live)

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Reading again is right."""
        return NotDone()


class SetMark:
    """Step `mark` {mark, version, code_hash, why, migration_head}: a judgement on a version that outlives the run."""

    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002 the Action protocol
        """Record the mark, once per run and version; tell the provider which targets the proof questioned."""
        set_mark(self._tools, context.run, args)
        made = self._tools.runs.result(context.run, "activate")
        if isinstance(made, dict) and made.get("deployment"):
            tell_questions(self._tools, context.run, str(made["deployment"]))
        return {"mark": args["mark"], "version": args["version"]}

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """The journal records a run's mark once, so doing it again is right."""
        return NotDone()


def set_mark(tools: Toolbox, run: str, args: Mapping[str, Json]) -> None:
    """Record one mark from its JSON form."""
    head = args.get("migration_head")
    code_hash = args.get("code_hash")
    tools.marks.mark(
        tools.environment,
        VersionMark(
            mark=Mark(str(args["mark"])),
            version=VersionId(str(args["version"])),
            code_hash=None if code_hash is None else str(code_hash),
            at=tools.clock.now(),
            run=run,
            why=str(args["why"]),
            migration_head=None if head is None else str(head),
            git_sha=str(args.get("git_sha") or ""),
            by=tools.actor,
        ),
        actor=tools.actor,
    )
