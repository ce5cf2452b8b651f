"""The steps that change what is live: activate, read back, quarantine. Each is re-checked against the provider."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import Refused, WorldMoved
from backout.model.deployment import Mark, VersionId, VersionMark
from backout.ports import Done, NotDone, Unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.deployment import Deployment
    from backout.model.plan import Json
    from backout.ports import Probe, StepContext
    from backout.runbook.toolbox import Toolbox


def marker(run: str) -> str:
    """Return the text that recognises a run's own deployment among all others.

    >>> marker("rollback-1a2b3c4d")
    '[backout rollback-1a2b3c4d]'
    """
    return f"[backout {run}]"


def live_deployment(tools: Toolbox) -> Deployment:
    """Return the deployment that the provider says is live; raises WorldMoved when there is none any more."""
    history = tools.deployments.history()
    if not history:
        raise WorldMoved("nothing is deployed any more", where=tools.environment)
    return history[0]


class Activate:
    """Step `activate` {version, expected, message, force}: make a version live, if the world is still as planned.

    `expected` is the id of the deployment that the plan rests on: whatever else is live (a hotfix, another
    operator's work) makes it raise WorldMoved, and nothing is changed (safety rule 8).
    """

    effect = True

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002 the Action protocol
        """Return {deployment, version, at} as the provider answered."""
        live = live_deployment(self._tools)
        if live.id != args["expected"]:
            raise WorldMoved(
                f"deployment {live.id} (version {live.main}) is live, not {args['expected']} on which this plan rests",
                where=self._tools.environment,
                hint=f"backout status -e {self._tools.environment}",
            )
        try:
            made = self._tools.deployments.activate(
                str(args["version"]),
                message=f"{marker(context.run)} {args['message']}",
                force=bool(args.get("force")),
            )
        except Refused as error:
            if args.get("detected"):  # nobody is at the terminal: the report says what is to be decided
                from backout.runbook.incident import write_report  # noqa: PLC0415

                write_report(self._tools, context.run, held=str(error))
            raise
        return _described(made)

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Look for our marker among the deployments; without it, the expected deployment still live means not done."""
        history = self._tools.deployments.history()
        ours = next((d for d in history if d.message.startswith(marker(context.run))), None)
        if ours is not None:
            return Done(_described(ours))
        if history and history[0].id == args["expected"]:
            return NotDone()
        return Unknown("another deployment is live, and none carries this run's marker")


def _described(deployment: Deployment) -> Json:
    return {"deployment": deployment.id, "version": deployment.main, "at": deployment.created_at}


class ReadBack:
    """Step `read_back` {version}: what the provider says is live now; only that is ever reported (safety rule 14)."""

    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002 the Action protocol
        """Return {deployment, version, since, read_at}; raises WorldMoved when another version is live."""
        live = live_deployment(self._tools)
        if live.sole != args["version"]:
            shares = ", ".join(f"{share.version} at {share.percentage:g} %" for share in live.shares)
            raise WorldMoved(
                f"after the switch the provider says that {shares} is live, not {args['version']}",
                where=self._tools.environment,
                hint=f"backout status -e {self._tools.environment}",
            )
        return {
            "deployment": live.id,
            "version": live.main,
            "since": live.created_at,
            "read_at": self._tools.clock.now(),
        }

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Reading again is right."""
        return NotDone()


class SetMark:
    """Step `mark` {mark, version, code_hash, why, migration_head}: a judgement on a version that outlives the run."""

    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002 the Action protocol
        """Record the mark, once per run and version."""
        set_mark(self._tools, context.run, args)
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
        ),
        actor=tools.actor,
    )
