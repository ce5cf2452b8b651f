"""`backout release list`: the releases on the hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.support.options import Command, pass_shell

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.runbook.toolbox import Toolbox

_SHORT = 8


@click.command("list", cls=Command, short_help="List the releases, newest first.")
@pass_shell
def list_(shell: Shell) -> int:
    """List the releases on the hosts, newest first, with the share of the visitors that each gets."""
    from backout.cli.release.tools import make_release_record, open_releases
    from backout.escaping import shorten
    from backout.report.times import format_ago, format_time

    tools, releases = open_releases(shell)
    known = releases.list()
    history = tools.deployments.history() if known else ()
    shares = {str(share.version): share.percentage for share in history[0].shares} if history else {}
    jobs = _read_jobs(tools)
    records = [
        {**make_release_record(each), "share": shares.get(each.id, 0.0), "jobs": jobs and jobs.get(each.id, {})}
        for each in known
    ]
    now = tools.clock.now()
    rows = [
        (
            f"{shares[each.id]:g} %" if shares.get(each.id) else "",
            each.id[:_SHORT],
            str(each.number or "-"),
            f"{'runs' if each.answers else 'stopped'}{' (damaged)' if each.damage else ''}",
            *(() if jobs is None else (_describe_jobs(jobs.get(each.id, {})),)),
            format_ago(each.created_at, now),
            each.git_sha[:_SHORT] or shorten(each.tag),
            shorten(each.message),
        )
        for each in known
    ]
    head = ("LIVE", "RELEASE", "NO", "STATE", *(() if jobs is None else ("JOBS",)), "PUSHED", "FROM", "MESSAGE")
    text = shell.output.table(head, rows) if rows else "no release was pushed yet"
    text += "".join(
        f"\n{each.id} is no target, and only a person removes it: {each.damage}" for each in known if each.damage
    )
    others = releases.list_others()
    if others:
        shown = (f"{shorten(each.name)} ({each.git_sha[:_SHORT] or 'no commit'})" for each in others)
        names = ", ".join(dict.fromkeys(shown))
        text += f"\nof another tool, and left as they are: {names}\n`backout release push FOLDER` makes one a release"
    payload = {
        "environment": tools.environment,
        "releases": records,
        "others": [
            {
                "name": each.name,
                "host": each.host,
                "commit": each.git_sha or None,
                "created_at": None if each.created_at is None else format_time(each.created_at),
            }
            for each in others
        ],
    }
    shell.output.result("release", payload, text)
    return 0


def _read_jobs(tools: Toolbox) -> dict[str, dict[str, int]] | None:
    """Return the jobs in flight by release and host; None where no job workers are configured, or it is not known."""
    from backout.runbook.rollback.jobs import look_at_jobs

    look = look_at_jobs(tools)
    if look is not None and look.problem:
        tools.say(f"which job workers run is not known: {look.problem}")
    if look is None or look.problem:
        return None
    found: dict[str, dict[str, int]] = {}
    for each in look.running:
        found.setdefault(each.version, {})[each.host] = each.in_flight
    return found


def _describe_jobs(hosts: dict[str, int]) -> str:
    return f"{sum(hosts.values())} in flight" if hosts else ""
