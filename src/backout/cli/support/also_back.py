"""Explicit consent for what else goes back, or is not kept, when a database's whole cluster is exchanged."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from backout.errors import DecisionNeeded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.cli.support.shell import Shell
    from backout.model.database.also_back import AlsoBack
    from backout.model.incident.incident import Run
    from backout.model.plan import Json, Plan
    from backout.ports import Runs
    from backout.report.database.comparison import SecondCheck

ALSO_BACK = click.option(
    "--also-back",
    "also_back",
    multiple=True,
    metavar="NAME",
    help="With --swap: accept that this is rolled back or lost too (a database, roles, slot:NAME, unlogged, file:NAME; "
    "`=ROWS`: so many at most); repeatable. --dry-run prints the words.",
)


def agree(shell: Shell, plan: Plan, words: Sequence[str], command: str, other: str) -> Plan:
    """Return the plan with agreement to what else goes back, by words given beforehand or by a person at the terminal.

    `--yes` does not count.

    Args:
        command: what was typed, without words of `--also-back`.
        other: how one database alone is taken back.

    Raises:
        UsageError: a word names nothing.
        DecisionNeeded: something was not agreed to; nothing was changed.
    """
    from backout.model.database.also_back import find_uncovered
    from backout.plan.whole import add_agreed, list_to_agree

    things = list_to_agree(plan)
    left = find_uncovered(things, words)
    if left and not shell.interactive:
        names = ", ".join(thing.title for thing in left)
        raise DecisionNeeded(
            f"more than this database goes back, or is not kept, without an agreement: {names}; nothing was changed",
            where=plan.environment,
            options=(
                *(f"{thing.text}." for thing in left),
                f"Agree to it by name: `{format_whole_command(command, things, words)}`.",
                f"{other[:1].upper()}{other[1:]}.",
            ),
        )
    for thing in left:
        answer = _ask_for_title(shell, thing)
        if answer != thing.title:
            raise DecisionNeeded(
                f"not agreed to: {answer!r} is not {thing.title!r}; nothing was changed",
                where=plan.environment,
                options=(f"{other[:1].upper()}{other[1:]}.",),
            )
    return add_agreed(plan, (*words, *(thing.word for thing in left)))


def format_whole_command(command: str, things: Sequence[AlsoBack], words: Sequence[str]) -> str:
    """Return the whole command that agrees to these things: what was typed as it is, the rest as it is shown."""
    from backout.model.database.also_back import find_uncovered, format_flags

    typed = " ".join(f"--also-back {shlex.quote(word)}" for word in words)
    return " ".join(filter(None, (command, format_flags(things) if find_uncovered(things, words) else typed)))


def list_agreement_lines(plan: Plan, command: str, words: Sequence[str]) -> list[str]:
    """Return what a dry run says of the consent needed, and the command that gives it."""
    from backout.plan.whole import list_to_agree

    things = list_to_agree(plan)
    if not things:
        return []
    names = ", ".join(thing.title for thing in things)
    return ["", f"needs a yes by name for {names}:", f"  $ {format_whole_command(command, things, words)}"]


def make_agreement_record(plan: Plan, command: str, words: Sequence[str]) -> dict[str, Json]:
    """Return the same as JSON values."""
    from backout.plan.whole import list_to_agree

    things = list_to_agree(plan)
    shown: list[Json] = [thing.record() for thing in things]
    return {"also_back": shown, "command": format_whole_command(command, things, words) if things else None}


def went_back_lines(runs: Runs, run: Run) -> list[str]:
    """Return what else went back with a database, what became of sequences, and where the old cluster is kept."""
    from backout.model.steps.restore import ExchangeStep, SequencesStep
    from backout.ports import find_result
    from backout.report.database.sequences import format_sequences
    from backout.runbook.recovery.whole_cluster import ALSO, LOST

    exchanged = find_result(runs, run.id, ExchangeStep)
    lines = [note for note in run.plan.notes if note.startswith((ALSO, LOST))]
    lines += format_sequences(find_result(runs, run.id, SequencesStep))
    if exchanged is not None:
        command = f"backout db restore --release -e {run.environment}"
        lines.append(f"the data directory of before is kept: {exchanged.kept}; `{command}` removes it")
    return lines


def make_second_check(runs: Runs, run: Run) -> SecondCheck:
    """Return the second check of the database that a run took back."""
    from backout.model.steps.branches import BranchNoteCopiesStep
    from backout.model.steps.restore import NoteCopiesStep
    from backout.ports import find_result
    from backout.report.database.comparison import SECOND_CHECKS, SecondCheck

    compared = next((find_result(runs, run.id, kind) for kind in SECOND_CHECKS if run.plan.has(kind)), None)
    before = find_result(runs, run.id, BranchNoteCopiesStep if run.plan.has(BranchNoteCopiesStep) else NoteCopiesStep)
    return SecondCheck(compared, before)


def format_command(shell: Shell, environment: str, *words: str, message: str | None, typed: str | None) -> str:
    """Return a command line as it was typed, in one order of its flags."""
    more = [*words, "-e", environment]
    more += ["-m", message] if message else []
    more += ["--confirm", typed] if typed else []
    more += ["--yes"] if shell.flags.yes else []
    return shlex.join(["backout", *more])


def _ask_for_title(shell: Shell, thing: AlsoBack) -> str:
    shell.output.say(thing.text)
    shell.output.prompt(f"Type {shell.output.talk.strong(thing.title)} to agree: ")
    return shell.stdin.readline().strip()
