"""`backout release start | stop | prune`: which releases run on this host, and which stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.support.options import Command, pass_shell

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell

_KEPT = 5


@click.command("start", cls=Command, short_help="Have a release run.")
@click.argument("release", metavar="RELEASE")
@pass_shell
def start(shell: Shell, *, release: str) -> int:
    """Start RELEASE (its id, number or tag), and wait until it accepts connections; no visitor gets it by that."""
    from backout.cli.release.tools import make_release_record, open_releases
    from backout.runbook.release import find_release

    tools, releases = open_releases(shell)
    running = releases.start(find_release(releases, release).id)
    payload = {"environment": tools.environment, "release": make_release_record(running)}
    shell.output.result("release", payload, f"release {running.id} runs at {running.address}")
    return 0


@click.command("stop", cls=Command, short_help="Have a release end that no visitor gets.")
@click.argument("release", metavar="RELEASE")
@pass_shell
def stop(shell: Shell, *, release: str) -> int:
    """Stop RELEASE (its id, number or tag); one that visitors get is refused."""
    from backout.cli.release.tools import make_release_record, open_releases
    from backout.runbook.release import find_release, stop_release

    tools, releases = open_releases(shell)
    found = find_release(releases, release)
    stop_release(tools, releases, found.id)
    after = find_release(releases, found.id)
    payload = {"environment": tools.environment, "release": make_release_record(after)}
    shell.output.result("release", payload, f"release {after.id} {'still answers' if after.answers else 'is stopped'}")
    return 1 if after.answers else 0


@click.command("prune", cls=Command, short_help="Remove old releases, but for live, stable and last ones.")
@click.option("--keep", type=click.IntRange(0), default=_KEPT, show_default=True, help="How many of the newest stay.")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be removed.")
@pass_shell
def prune(shell: Shell, *, keep: int, dry_run: bool) -> int:
    """Stop old releases and remove their folders.

    What is live or was live last always stays, and of the others the three that were marked stable last.
    """
    from backout.cli.release.tools import make_release_record, open_releases
    from backout.runbook.release import prune_releases

    tools, releases = open_releases(shell)
    gone = prune_releases(tools, releases, keep, dry_run=dry_run)
    payload = {
        "environment": tools.environment,
        "dry_run": dry_run,
        "removed": [make_release_record(each) for each in gone],
    }
    verb = "would be removed" if dry_run else "removed"
    lines = [f"{verb}: {each.id} (no. {each.number})" for each in gone] or ["nothing to remove"]
    shell.output.result("release", payload, "\n".join(lines))
    return 0
