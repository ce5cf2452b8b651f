"""`backout runbook`: the runbook of this very configuration, and what of the written one is no longer so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.support.options import command, pass_shell
from backout.errors import Unmeasured, UsageError

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.config import Config
    from backout.model.incident.runbook import RunbookSetup
    from backout.report.incident.facts import Block


@command(
    "runbook",
    short_help="The runbook with real names; what of it is no longer so.",
    epilog="""
Examples:
  backout runbook -e production            # read it
  backout runbook --write -e production    # to [incidents] runbook of backout.toml; commit it
  backout runbook --check -e production    # in a pipeline, after an incident, after a drill
""",
)
@click.option("--write", is_flag=True, help="Write it, or new facts into the one that is there.")
@click.option("--check", is_flag=True, help="Show what would change as a diff; exit code 1 if anything would.")
@pass_shell
def runbook(shell: Shell, *, write: bool, check: bool) -> int:
    """Print the runbook of an environment: real commands and names, the last stable version, who helps, the last drill.

    Its facts stand between markers, as in incident reports; what people wrote around them, or into them, stays byte
    for byte. Nothing is read as "not so" because it could not be read: then the exit code is 7.
    """
    from backout.report.incident.facts import merge
    from backout.report.incident.runbook import compare_pages, list_stale, render_runbook
    from backout.wiring.runbook import make_runbook_setup, open_runbook

    if write and check:
        raise UsageError("--write and --check exclude each other", hint="backout runbook --check")
    config = shell.config()
    page = open_runbook(config)
    setup = make_runbook_setup(config)
    blocks = _read_blocks(shell, config, setup, must=write or check)
    before = page.read()
    now = render_runbook(setup, blocks) if before is None else merge(before, blocks)
    stale = [] if before is None else list_stale(before, blocks)
    state = "missing" if before is None else "stale" if stale else "current"
    diff = compare_pages(before, now, page.path.name) if before is not None else ""
    payload = {
        "environment": config.name,
        "path": str(page.path) if before is not None or write else None,
        "state": state,
        "stale": stale,
        "diff": diff or None,
        "markdown": None if check else now,
    }
    if write:
        page.write(now, lambda text: merge(text, blocks))
        shell.output.result("runbook", {**payload, "state": "current"}, str(page.path))
        return 0
    if not check:
        shell.output.result("runbook", payload, now.rstrip())
        return 0
    said = {"missing": f"no runbook is written yet: {page.path}", "current": "it is current"}
    shell.output.result("runbook", payload, said.get(state) or diff)
    if state == "current":
        return 0
    if stale:
        shell.output.say(f"no longer so: {', '.join(stale)}")
    shell.output.next("backout runbook --write")
    return 1


def _read_blocks(shell: Shell, config: Config, setup: RunbookSetup, *, must: bool) -> list[Block]:
    """Return the facts of each section. Raises Unmeasured: one that is set up could not be read, and it `must` be."""
    from msgspec.structs import replace

    from backout.report.incident.runbook import list_sections
    from backout.runbook.incident.runbook import read_runbook
    from backout.wiring.incidents import make_incident_records

    facts = read_runbook(shell.toolbox(config), make_incident_records(config))
    if facts.unread and must:
        what = f"the head of the migrations could not be read: {facts.unread}"
        raise Unmeasured(what, where=f"environment {config.name}", hint="backout doctor")
    return [replace(block, text=shell.redactor.redact(block.text)) for block in list_sections(setup, facts)]
