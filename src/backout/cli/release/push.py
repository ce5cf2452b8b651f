"""`backout release push`: a folder as a new release."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from backout.cli.support.options import REASON, Amount, Command, FolderName, pass_shell
from backout.errors import UsageError

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell

_LONGEST_TAG = 100


@click.command(
    "push",
    cls=Command,
    short_help="Push a folder as a new release, prove it, make it live.",
    epilog="""
Examples:
  backout release push build -e production -m "faster search"
  backout release push build -e production --traffic 0    # only started and proved
  backout release push build -e production --traffic 10   # for a tenth of the visitors
  backout release push build -e production --env-file .env.production   # the first one, or with new variables
""",
)
@click.argument("folder", metavar="DIR", type=FolderName())
@click.option("--traffic", type=Amount(0, 100), default=100.0, show_default=True, help="Percent it gets.")
@click.option("--tag", default="", metavar="TAG", help="A name for it.")
@click.option("--commit", metavar="SHA", help="The commit that it was built from; default: that of DIR.")
@click.option(
    "--env-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Its variables, as NAME=value lines or a JSON object; default: those of the newest release.",
)
@click.option("-m", "--message", type=REASON, default="", metavar="TEXT", help="What is new, for the history.")
@pass_shell
def push(
    shell: Shell, *, folder: Path, traffic: float, tag: str, commit: str | None, env_file: Path | None, message: str
) -> int:
    """Copy DIR as a new release, start it, ask its health while no visitor gets it, and make it live.

    The release has the variables of the newest one, or those of --env-file. If it is not healthy it stays without
    visitors (exit 1).
    """
    from backout.cli.release.jobs import follow_jobs
    from backout.cli.release.tools import open_releases, show_pushed
    from backout.model.release import ReleaseNote
    from backout.model.version import is_commit
    from backout.runbook.release import push_release
    from backout.wiring.caddy import check_share, find_commit
    from backout.wiring.secrets import read_values

    tools, releases = open_releases(shell)
    check_share(traffic)
    if commit and not is_commit(commit):
        raise UsageError(
            "a commit is 7 to 64 hexadecimal digits",
            where=f"--commit {commit}",
            hint="backout release push DIR --tag TAG",
        )
    if len(tag) > _LONGEST_TAG or not tag.isprintable():
        raise UsageError(f"a tag has at most {_LONGEST_TAG} characters, all of them printable", where="--tag")
    folder = shell.folder / folder
    if not folder.is_dir():
        raise UsageError("there is no such folder", where=str(folder))
    note = ReleaseNote(find_commit(folder) if commit is None else commit, tag, shell.mask_reason(message))
    environment = None if env_file is None else read_values(shell.config(), shell.folder / env_file)
    pushed = push_release(tools, releases, folder, note, traffic, environment)
    return show_pushed(shell, tools, pushed, follow_jobs(shell, tools, pushed))
