"""`backout diagnose -e ENV`: what is wrong there now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.cli.support.paint import paint_for
from backout.config.scalars import parse_seconds
from backout.errors import UsageError
from backout.model.incident.diagnosis import Scenario
from backout.report.incident import diagnosis as words
from backout.runbook.incident.diagnose import diagnose_failed_build, diagnose_now, listen
from backout.runbook.observe import observe

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell

_INCONCLUSIVE = 7
LISTEN_S = 20.0
"""How long to listen to a tail before saying anything."""


def diagnose_live(shell: Shell, version: str, since: str) -> int:
    """Diagnose the chosen environment and return the exit code.

    Raises:
        UsageError: no deployment of the version is known, or `since` is no duration.
    """
    look_back_s = parse_seconds(since, "--since")
    tools = shell.toolbox(shell.config())
    situation = observe(tools)
    if tools.traffic is not None and tools.traffic.traits.name == "tail":
        shell.output.say(f"listening to the tail for {LISTEN_S:g} s, because a tail has no past")
        listen(tools, LISTEN_S)
    chosen = version
    if version:
        served = [each.main for each in situation.history if each.main.startswith(version)]
        if not served:
            hint = f"backout deployments list -e {tools.environment}"
            raise UsageError(f"no deployment of a version {version!r} is known", hint=hint)
        chosen = served[0]
    found = diagnose_now(tools, version=chosen, situation=situation, since=tools.clock.now() - look_back_s)
    built = None
    if found.scenario in (Scenario.NO_ACTION, None) and not version:
        built = diagnose_failed_build(tools)
    if built is not None and found.scenario is Scenario.NO_ACTION:
        found, built = built, found
    if found.scenario is Scenario.MIGRATION:
        from backout.runbook.rollback.remediation_options import list_data_lines

        found = replace(found, next=(*found.next, *list_data_lines(tools, situation)))
    typed, style = shell.output.complete_command, shell.output.style
    found = replace(found, confirm=typed(found.confirm), next=tuple(map(typed, found.next)))
    human = words.format_text(found, width=style.width, paint=paint_for(style))
    shell.output.result("diagnosis", {**words.make_record(found), "environment": tools.environment}, human)
    shell.output.next(*[step for step in found.next if step.startswith("backout ")])
    if found.scenario is None and not found.counts:
        return _INCONCLUSIVE
    return 0 if found.scenario is Scenario.NO_ACTION else 1
