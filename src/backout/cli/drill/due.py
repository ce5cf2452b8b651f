"""`backout drill due`: the drills that should be run again, a view of the one list of checks."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

import click

from backout.cli.drill.support import directory_option, drills_option, open_history, read_config, read_drills
from backout.cli.support.options import Command, pass_shell

if TYPE_CHECKING:
    from pathlib import Path

    from backout.cli.support.shell import Shell

_MOST_NAMES: Final = 3
"""So many are named in one command; of more, all are run."""


@click.command("due", cls=Command, short_help="Name the drills that should be run again.")
@drills_option
@directory_option
@pass_shell
def due(shell: Shell, *, own: Path | None, directory: Path) -> int:
    """Name the drills that were never run, did not pass, or passed too long ago. Exit code 1 when there is one.

    Of drills in staging and in production those count for which something in backout.toml is set up.
    """
    from backout.analysis.checkup.drills import check_drills
    from backout.analysis.drills import list_due
    from backout.report.checkup import make_check_record
    from backout.report.drills import format_due, make_due_record
    from backout.runbook.incident.drills import list_drills
    from backout.wiring.checkup.drills import list_wanted
    from backout.wiring.drills.records import read_clock

    config = read_config(shell)
    wanted = list_wanted(read_drills(shell, config, own), config)
    records, now = list_drills(open_history(shell, config, directory)), read_clock()
    checks = tuple(check_drills(wanted, records, now))
    found = list_due({each.name: each.counts_s for each in wanted if not each.lacks}, records, now)
    payload = {
        "due": [make_due_record(each) for each in found],
        "checks": [make_check_record(each) for each in checks],
    }
    lacking = {each.name: each.lacks for each in wanted if each.lacks}
    shell.output.result("drill-due", payload, format_due(found, len(wanted), lacking, shell.output.style.width))
    elsewhere = {each.name for each in wanted if each.environment}
    here = [each.name for each in found if each.name not in elsewhere]
    words = shlex.join(here) if len(here) <= _MOST_NAMES else "--all"
    lines = [f"backout drill run {words}"] if here else []
    lines += [line for check in checks if check.is_gap for line in check.next.lines if " -e " in line]
    shell.output.next(*lines)
    return 1 if found else 0
