"""`backout unfence`: opens the database that a recovery has fenced; it needs no journal."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import click

from backout.cli.support.options import REASON, command, pass_shell
from backout.errors import BackoutError
from backout.report.times import format_duration, format_time

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.config import Config
    from backout.model.database.fence import FenceMark, FenceSurvey
    from backout.model.plan import Json

OPENED = "fence.opened"


@command(
    "unfence",
    short_help="Open the database that a recovery has fenced.",
    epilog="""
Examples:
  backout unfence -e production --dry-run             # who stands outside, since when, and the psql line
  backout unfence -e production -m "the data is right"
""",
)
@click.option("--dry-run", is_flag=True, help="Show the fence and change nothing.")
@click.option("-m", "--message", type=REASON, metavar="WHY", help="The reason.")
@click.option("--confirm", "typed", metavar="ENV", help="The environment's name, where it is protected.")
@pass_shell
def unfence(shell: Shell, *, dry_run: bool, message: str | None, typed: str | None) -> int:
    """Give the application's roles back exactly what they had before the fence, and read it back.

    With --dry-run and no fence it says whether one could be raised. The fence is a state of the database, so neither
    the journal nor the machine that raised it is needed. Look first whether the recovery is still going on: what the
    application writes from now on, its restore may overwrite.
    """
    from backout.cli.support.confirm import confirm
    from backout.wiring.db.fence import check_pinned, make_fence

    config = shell.config()
    with closing(make_fence(config)) as fence:
        check_pinned(config)
        mark = fence.read()
        survey = fence.survey() if dry_run and mark is None else None
        if mark is None or dry_run:
            payload = {**_make_record(config, mark, survey), "dry_run": dry_run, "opened": False}
            human = _describe_none(config, survey) if mark is None else _describe_fence(config, mark)
            shell.output.result("unfence", payload, human)
            if dry_run:
                shell.output.say("\nnothing was changed (dry run)")
            return 0
        if state := _find_run(shell, config, mark):
            shell.output.warn(state)
        shell.output.say(_describe_fence(config, mark))
        why = confirm(shell, config, "open the database to the application", message=message, typed=typed)
        fence.open(mark)
        _record(shell, config, mark, why)
    payload = {**_make_record(config, mark, None), "dry_run": False, "opened": True}
    roles = ", ".join(role.name for role in mark.roles)
    shell.output.result("unfence", payload, f"{config.name}: {roles} can log in as before the fence; read back")
    shell.output.next(f"backout status -e {config.name}")
    return 0


def _find_run(shell: Shell, config: Config, mark: FenceMark) -> str:
    """Return what to know about the run that raised the fence, "" where it has ended or no journal tells."""
    from backout.wiring.records import open_journal

    try:
        run = open_journal(config, hurried=True).find(mark.run)
    except BackoutError as error:
        shell.output.warn(f"whether run {mark.run} still goes on is not known: {error.what}")
        return ""
    if run is None or run.state.is_over:
        return ""
    return f"run {mark.run} has not ended: what is written from now on, it may overwrite (backout runs show {mark.run})"


def _record(shell: Shell, config: Config, mark: FenceMark, why: str) -> None:
    """Note it where there is a journal; the fence is open already."""
    from backout.wiring.records import find_actor, open_journal

    note: dict[str, Json] = {"run": mark.run, "why": why, "roles": [role.name for role in mark.roles]}
    try:
        journal = open_journal(config, hurried=True)
        journal.note(config.name, OPENED, f"{OPENED}:{mark.run}:{mark.raised_at:.6f}", note, actor=find_actor())
    except BackoutError as error:
        shell.output.warn(f"the fence is open, and that is not in the journal: {error.what}")


def _make_record(config: Config, mark: FenceMark | None, survey: FenceSurvey | None) -> dict[str, object]:
    fence = mark and {
        "run": mark.run,
        "actor": mark.actor,
        "database": mark.database,
        "raised_at": format_time(mark.raised_at),
        "deadline": format_time(mark.deadline),
        "roles": [
            {"name": role.name, "login": role.login, "connection_limit": role.connection_limit} for role in mark.roles
        ],
        "jobs": list(mark.jobs),
        "subscriptions": list(mark.subscriptions),
        "by_hand": mark.by_hand,
    }
    possible = survey and {
        "planned": list(survey.planned),
        "refusals": [{"reason": each.reason, "script": list(each.script)} for each in survey.refusals],
        "by_hand": survey.by_hand,
    }
    return {"environment": config.name, "fence": fence, "possible": possible}


def _describe_none(config: Config, survey: FenceSurvey | None) -> str:
    lines = [f"no fence stands around the database of {config.name}"]
    if survey is None:
        return lines[0]
    for refusal in survey.refusals:
        lines += ["", f"one would not hold: {refusal.reason}", *(f"  {line}" for line in refusal.script)]
    if not survey.refusals:
        lines += [f"one would keep out {', '.join(survey.planned)}, and is opened by hand with:", f"  {survey.by_hand}"]
    return "\n".join(lines)


def _describe_fence(config: Config, mark: FenceMark) -> str:
    from backout.wiring import clock

    past = round(clock.now() - mark.raised_at)
    fenced = (
        f"database {mark.database} of {config.name} is fenced since {format_time(mark.raised_at)} "
        f"({format_duration(max(past, 0))}), by run {mark.run} of {mark.actor}, until {format_time(mark.deadline)}"
    )
    words = {True: "LOGIN", False: "NOLOGIN"}
    lines = [fenced]
    lines += [
        f"  role {role.name}: gets {words[role.login]} back, connection limit {role.connection_limit}"
        for role in mark.roles
    ]
    lines += [f"  subscription {name}: is enabled again" for name in mark.subscriptions]
    lines += [f"  job {number} of pg_cron: is active again" for number in mark.jobs]
    return "\n".join(
        [*lines, "by hand:", f"  {mark.by_hand}" if mark.by_hand else "  the comments on the roles tell how"]
    )
