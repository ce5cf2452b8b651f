"""Prove the target first: at 0 % of the traffic, through the provider's override, before it gets any (rule 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.ports import NotDone

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.plan import Json
    from backout.ports import Probe, StepContext
    from backout.runbook.toolbox import Toolbox


def chosen(tools: Toolbox, run: str, args: Mapping[str, Json]) -> str:
    """Return the version that this run's later steps are about: the one that was proven, else the planned one."""
    proof = tools.runs.result(run, "prove")
    return str(proof["version"]) if isinstance(proof, dict) and proof.get("version") else str(args["version"])


class Prove:
    """Step `prove` {version, expected, ...}: find the first target that answers well; nothing gets traffic yet."""

    effect = False  # it moves no traffic

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002 the Action protocol
        """Return {version, proved, why}."""
        return {"version": args["version"], "proved": None, "why": "not measured"}

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Proving moves no traffic; doing it again is right."""
        return NotDone()
