"""`backout release live`: a release that is there, live on every host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.support.options import Command, pass_shell

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell


@click.command("live", cls=Command, short_help="Make a release live on every host.")
@click.argument("release", metavar="RELEASE")
@pass_shell
def live(shell: Shell, *, release: str) -> int:
    """Start RELEASE (its id, number or tag), ask its health while no visitor gets it, and make it live.

    Where some hosts had switched and others were not reached, this ends the same everywhere.
    """
    from backout.cli.release.jobs import follow_jobs
    from backout.cli.release.tools import open_releases, show_pushed
    from backout.runbook.release import make_release_live

    tools, releases = open_releases(shell)
    pushed = make_release_live(tools, releases, release)
    return show_pushed(shell, tools, pushed, follow_jobs(shell, tools, pushed))
