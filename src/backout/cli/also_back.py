"""A yes of its own for what goes back, or is not kept, together with a database whose whole cluster is exchanged."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from backout.errors import DecisionNeeded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.cli.shell import Shell
    from backout.model.also_back import AlsoBack
    from backout.model.incident import Run
    from backout.model.plan import Json, Plan
    from backout.ports import Runs

ALSO_BACK = click.option(
    "--also-back",
    "also_back",
    multiple=True,
    metavar="NAME",
    help="With the whole: this goes back too, or is not kept (a database, roles, slot:NAME, unlogged, file:NAME; "
    "`=ROWS`: so many at most); repeatable. --dry-run prints the words.",
)


def agree(shell: Shell, plan: Plan, words: Sequence[str], command: str, other: str) -> Plan:
    """Return the plan with what else goes back agreed to, by words beforehand or by a person at the terminal.

    `--yes` is no word for it.

    Args:
        command: what was typed, without words of `--also-back`. other: how one database alone is taken back.

    Raises:
        UsageError: a word names nothing. DecisionNeeded: something was not agreed to; nothing was changed.
    """
    from backout.model.also_back import uncovered  # noqa: PLC0415 only what exchanges a cluster pays for it
    from backout.plan.whole import agreed, to_agree  # noqa: PLC0415 same

    things = to_agree(plan)
    left = uncovered(things, words)
    if left and not shell.interactive:
        names = ", ".join(thing.title for thing in left)
        raise DecisionNeeded(
            f"more than this database goes back, or is not kept, and nobody agreed to it: {names}; nothing was changed",
            where=plan.environment,
            options=(
                *(f"{thing.text}." for thing in left),
                f"Agree to it by name: `{whole_command(command, things, words)}`.",
                f"{other[:1].upper()}{other[1:]}.",
            ),
        )
    for thing in left:
        answer = _typed(shell, thing)
        if answer != thing.title:
            raise DecisionNeeded(
                f"not agreed to: {answer!r} is not {thing.title!r}; nothing was changed",
                where=plan.environment,
                options=(f"{other[:1].upper()}{other[1:]}.",),
            )
    return agreed(plan, (*words, *(thing.word for thing in left)))


def whole_command(command: str, things: Sequence[AlsoBack], words: Sequence[str]) -> str:
    """Return the whole command that agrees to these things: what was typed as it is, the rest as it is shown."""
    from backout.model.also_back import flags, uncovered  # noqa: PLC0415 only what exchanges a cluster pays for it

    typed = " ".join(f"--also-back {shlex.quote(word)}" for word in words)
    return " ".join(filter(None, (command, flags(things) if uncovered(things, words) else typed)))


def asked_lines(plan: Plan, command: str, words: Sequence[str]) -> list[str]:
    """Return what a dry run says of the yes that is wanted, and the command that gives it."""
    from backout.plan.whole import to_agree  # noqa: PLC0415 only what exchanges a cluster pays for it

    things = to_agree(plan)
    if not things:
        return []
    names = ", ".join(thing.title for thing in things)
    return ["", f"wants a yes by name for {names}:", f"  $ {whole_command(command, things, words)}"]


def asked_record(plan: Plan, command: str, words: Sequence[str]) -> dict[str, Json]:
    """Return the same as JSON values."""
    from backout.plan.whole import to_agree  # noqa: PLC0415 only what exchanges a cluster pays for it

    things = to_agree(plan)
    shown: list[Json] = [thing.record() for thing in things]
    return {"also_back": shown, "command": whole_command(command, things, words) if things else None}


def went_back_lines(runs: Runs, run: Run) -> list[str]:
    """Return what else went back with a database, what became of sequences, and where the old cluster is kept."""
    from backout.report.sequences import sequence_lines  # noqa: PLC0415 only where a database went back
    from backout.runbook.whole_cluster import ALSO, LOST  # noqa: PLC0415 same

    exchanged = runs.result(run.id, "db_exchange")
    lines = [note for note in run.plan.notes if note.startswith((ALSO, LOST))]
    lines += sequence_lines(runs.result(run.id, "db_sequences"))
    if isinstance(exchanged, dict):
        command = f"backout db restore --release -e {run.environment}"
        lines.append(f"the data directory of before is kept: {exchanged['kept']}; `{command}` removes it")
    return lines


def command_of(shell: Shell, environment: str, *words: str, message: str | None, typed: str | None) -> str:
    """Return a command line as it was typed, in one order of its flags."""
    more = [*words, "-e", environment]
    more += ["-m", message] if message else []
    more += ["--confirm", typed] if typed else []
    more += ["--yes"] if shell.flags.yes else []
    return shlex.join(["backout", *more])


def _typed(shell: Shell, thing: AlsoBack) -> str:
    shell.output.say(thing.text)
    shell.output.prompt(f"Type {shell.output.talk.strong(thing.title)} to agree: ")
    return shell.stdin.readline().strip()
