"""`backout journal`: bring the journal from its file to a server that all machines of a team see."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from backout.cli.support.options import group, pass_shell
from backout.cli.support.style import Tone
from backout.errors import UsageError

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.config import Config
    from backout.journal.move import Move

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TELL_EVERY = 5000
_PATIENCE_S = 15.0


@group("journal", short_help="Move the journal to a server that a team shares.")
def journal() -> None:
    """The durable record of runs, marks and incidents: where it is kept."""


@journal.command(
    "move",
    short_help="Move the journal from its file to a server.",
    epilog="""
Examples:
  backout journal move --dry-run                     # what there is to move, to the server of journal.url_env
  backout journal move
  backout journal move --to BACKOUT_JOURNAL_URL      # before backout.toml names it
""",
)
@click.option("--to", "variable", metavar="VARIABLE", help="The variable that holds the server's connection string.")
@click.option("-n", "--dry-run", is_flag=True, help="Look at both, and change nothing.")
@pass_shell
def move(shell: Shell, *, variable: str | None, dry_run: bool) -> int:
    """Copy every event of the file at journal.path to the server, checked one by one, with the same hashes.

    Interrupted, the same command goes on where it was. While it moves, nobody else can use the journal of the server;
    afterwards the file is kept and closed: a command that is set to it is refused.
    """
    from backout.wiring.journal_server import make_move

    if variable is not None and not _VARIABLE.fullmatch(variable):
        raise UsageError(
            "--to takes the name of a variable: what is typed here can be seen by others",
            where="--to",
            hint="export BACKOUT_JOURNAL_URL=postgresql://..., then: backout journal move --to BACKOUT_JOURNAL_URL",
        )
    config = shell.config()
    run = make_move(config, variable)
    told = 0

    def tell(done: int, every: int) -> None:
        nonlocal told
        if done - told >= _TELL_EVERY:
            told = done
            shell.output.say(f"{done:,} of {every:,} events are there")

    before = run(None)
    after = before if dry_run else run(tell)
    to = variable or config.settings.journal.url_env
    record = {
        "from": str(config.places.journal),
        "to": to,
        "events": after.events,
        "copied": after.there - before.there,
        "there": after.there,
        "closed": after.closed,
        "dry_run": dry_run,
    }
    shell.output.result("journal", record, _describe(shell, config, before, after, dry_run=dry_run))
    if not dry_run and config.settings.journal.url_env is None:
        shell.output.next(f'journal.url_env = "{to}"  # in backout.toml, on every machine')
    return 0


@journal.command("merge", short_help="Merge what was done while the journal's server was away.")
@pass_shell
def merge(shell: Shell) -> int:
    """Append to the server's journal what a person's commands recorded in a file while it was away; each event once.

    Every command that uses the journal does so first; this one says how it went. Exit code 6: a run is under way.
    """
    from backout.wiring.journal_server import open_store
    from backout.wiring.journal_spool import merge_now
    from backout.wiring.records import find_actor

    config = shell.config()
    path = config.places.spool
    if config.settings.journal.url_env is None or not path.exists():
        shell.output.result("journal", {"events": 0, "environments": []}, "there is nothing to merge")
        return 0
    found = merge_now(config, open_store(config, _PATIENCE_S), find_actor())
    record = {"events": found.events, "environments": list(found.environments)}
    shell.output.result("journal", record, f"{found.events:,} events of {path} are merged")
    return 0


def _describe(shell: Shell, config: Config, before: Move, after: Move, *, dry_run: bool) -> str:
    style, path = shell.output.style, config.places.journal
    if dry_run:
        left = before.events - before.there
        return f"would move {left:,} of {before.events:,} events of {path}" if left else f"all of {path} is there"
    copied = f", {after.there - before.there:,} of them copied now" if before.there else ""
    done = style.badge(f"{after.events:,} events are on the server, each as it was written{copied}", Tone.GOOD)
    return f"{done}\n{path} is kept, and closed: nothing is recorded in it any more"
