"""`backout audit`: whether the journal is as it was written, and whether it holds a secret; it changes nothing."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from backout.analysis.history.witnesses import compare_witnesses
from backout.cli.support.options import group, pass_shell
from backout.cli.support.style import Tone
from backout.errors import BackoutError, UsageError
from backout.report.times import format_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.cli.support.shell import Shell
    from backout.config import Config
    from backout.journal.stored import StoredJournal

UNMEASURED = 7


@group("audit", short_help="Check that the journal is intact and holds no secret.")
def audit() -> None:
    """Inspect the journal itself; nothing is changed."""


@audit.command("verify", short_help="Check that every event is as it was written.")
@click.option("--archive", "file", type=click.Path(path_type=Path), metavar="FILE", help="Also check an archive of it.")
@pass_shell
def verify(shell: Shell, *, file: Path | None) -> int:
    """Check every event against the chain of hashes, and what deployments' messages say of it with its events.

    Exit code 1 names the first event that is not as it was written, and each message that speaks of one which the
    journal does not have: its history was written anew.
    """
    from backout.cli.audit_archive import check_archive, format_archive
    from backout.cli.audit_witnesses import format_witnesses, make_witness_record, read_told
    from backout.wiring.records import describe_journal, open_journal

    config = shell.config()
    book = open_journal(config)
    told, unread = read_told(shell, config) if book.read_witness() is not None else ([], {})
    found, append_only = book.verify_chain(), book.is_append_only()
    compared = compare_witnesses(told, book.events() if told else ())
    archived = check_archive(shell, config, book, file) if file is not None else None
    record: dict[str, object] = {"events": found.count, "whole": found.is_whole, "broken_at": found.broken_at}
    record |= {"why": found.why or None, "journal": describe_journal(config), "append_only": append_only}
    record |= {"witnesses": make_witness_record(compared, unread), "archive": archived}
    style = shell.output.style
    said = style.badge(f"{found.count:,} events, each as it was written", Tone.GOOD)
    said = said if found.is_whole else style.badge(f"BROKEN: {found.why}", Tone.BAD)
    shell.output.result(
        "audit", record, "\n".join([said, *format_witnesses(style, compared, unread), *format_archive(style, archived)])
    )
    if append_only is False and config.settings.journal.url_env is not None:
        shell.output.warn("this machine's role may change the tables: docs/team.md has one that may only append")
    if found.is_whole and not compared.differing and (archived is None or archived["same"]):
        return 0
    if config.settings.journal.url_env is not None:
        shell.output.next("backout runs list  # what is unfinished", "ALTER SCHEMA backout RENAME TO backout_changed")
        return 1
    path = str(config.places.journal)
    put_away = f"{shlex.join(('mv', path, f'{path}.changed'))}  # then keep it: the next command begins a new one"
    shell.output.next("backout runs list  # what is unfinished", put_away)
    return 1


@audit.command(
    "archive",
    short_help="Write old events into a signed file.",
    epilog="""
Examples:
  backout audit archive --before "90 days ago" --to journal-2026-q3.jsonl
  backout audit verify --archive journal-2026-q3.jsonl
""",
)
@click.option("--before", "before", metavar="TIME", required=True, help="Of runs that were over then.")
@click.option("--to", "to", type=click.Path(path_type=Path), metavar="FILE", required=True, help="A new file.")
@pass_shell
def archive(shell: Shell, *, before: str, to: Path) -> int:
    """Write the journal, from its beginning to where no run was open before TIME, into a file, and read that back.

    Its last line names the head of the chain there, signed with the key of the marks. Nothing is removed from the
    journal. Exit code 3: it is not as it was written, or there is no key to sign with.
    """
    from backout.cli.audit_archive import make_archive

    return make_archive(shell, shell.config(), before, to)


@audit.command(
    "log",
    short_help="List the events as they were written.",
    epilog="""
Examples:
  backout audit log                            # the newest hundred, of every environment
  backout audit log -e production --since 24h
  backout audit log --kind "request.*"         # what was asked for on the pages
""",
)
@click.option("--since", metavar="TIME", help="Start of the period (24h, 7d, or a time).")
@click.option("--kind", metavar="KIND", help='Of this kind only ("login.started"), or of a family ("token.*").')
@click.option(
    "--limit", default=100, show_default=True, type=click.IntRange(min=1), help="At most this many, the newest."
)
@pass_shell
def log(shell: Shell, *, since: str | None, kind: str | None, limit: int) -> int:
    """List the newest events of the journal, oldest first: runs and their steps, approvals, notes, logins, requests.

    BY is who did it, as that process says; with a journal on Postgres `--json` also has the role that wrote it, as its
    server says. What a step records on its way is listed only with its kind, `step.progress`.
    """
    from backout.cli.audit_log import show_log

    return show_log(shell, since=since, kind=kind, limit=limit)


@audit.command("scrub", short_help="List the events that hold a secret known now.")
@click.option("-n", "--dry-run", is_flag=True, help="Only look: it can do nothing else.")
@click.option("--ask-source", is_flag=True, help="Also ask the configured source of secrets when that is a program.")
@pass_shell
def scrub(shell: Shell, *, dry_run: bool, ask_source: bool) -> int:
    """List the events and checkpoints of the journal that hold a secret backout knows now, in any spelling.

    An older backout wrote an application's output unmasked. What is in the chain cannot be removed from it; the output
    says how to retire the whole file. Exit code 1 when something was found, 7 when no secret is known.
    """
    config = shell.config()
    from backout.wiring.records import describe_journal, open_journal

    if not dry_run:
        raise UsageError(
            "an event cannot be taken out of the journal: each one's hash covers the one before it",
            where=describe_journal(config),
            hint="backout audit scrub --dry-run",
        )
    _learn_the_applications(shell, config, ask_source=ask_source)
    book = open_journal(config)
    found = list(_find_known_values(shell, book))
    events = sum(1 for _ in book.events())
    known = shell.redactor.knows
    record = {"known": known, "events": events, "found": found, "journal": describe_journal(config)}
    shell.output.result("audit", record, _format_text(shell, found, events, known))
    if found:
        _say_how_to_retire(shell, config)
        return 1
    return 0 if known else UNMEASURED


def _learn_the_applications(shell: Shell, config: Config, *, ask_source: bool) -> None:
    """Read the values of the application's own secrets, if that runs no program or was asked for."""
    from backout.config.known import SAFE_SOURCES
    from backout.wiring.secrets import describe_source, make_source, read_expected_secrets

    named = describe_source(config)
    if named is None or not (ask_source or named["from"] in SAFE_SOURCES):
        return
    try:
        kept = make_source(config, named)
        wanted = read_expected_secrets(config)
        kept.read(kept.names() or {*wanted.example, *wanted.required})
    except BackoutError as error:
        shell.output.warn(f"the source of secrets was not read: {error}")


def _find_known_values(shell: Shell, book: StoredJournal) -> Iterator[dict[str, object]]:
    """Yield each event and each checkpoint that holds a known value, with the places in it."""
    for event in book.events():
        if places := list(shell.redactor.places({"data": event.data, "actor": event.actor})):
            yield {
                "seq": event.seq,
                "at": format_time(event.at),
                "run_id": event.run or None,
                "environment": event.environment,
                "kind": event.kind,
                "where": places,
            }
    for run, name, at, data in book.list_checkpoints():
        if places := list(shell.redactor.places({"data": data})):
            yield {
                "seq": None,
                "at": format_time(at),
                "run_id": run,
                "environment": None,
                "kind": f"checkpoint {name}",
                "where": places,
            }


def _format_text(shell: Shell, found: list[dict[str, object]], events: int, known: int) -> str:
    style = shell.output.style
    if not known:
        return style.badge("no secret is known here, so there was nothing to look for", Tone.WARN)
    if not found:
        return style.badge(f"none of {known} known values is in {events:,} events", Tone.GOOD)
    rows = [
        (
            "-" if each["seq"] is None else str(each["seq"]),
            str(each["at"]),
            str(each["run_id"] or "-"),
            str(each["kind"]),
            ", ".join(map(str, each["where"])) if isinstance(each["where"], list) else "",
        )
        for each in found
    ]
    head = style.badge(f"{len(found)} of {events:,} events and checkpoints hold a secret", Tone.BAD)
    return f"{head}\n\n{shell.output.table(('EVENT', 'AT', 'RUN', 'KIND', 'WHERE'), rows, whole=True)}"


def _say_how_to_retire(shell: Shell, config: Config) -> None:
    if config.settings.journal.url_env is not None:
        put_away = ["have the owner of its tables run: ALTER SCHEMA backout RENAME TO backout_retired"]
    else:
        put_away = _list_moves(config)
    shell.output.say("\nThe chain cannot be edited. To retire this journal:")
    shell.output.say("  1. change each secret that was found: anyone who could read the journal has it")
    shell.output.say("  2. finish or abort what is unfinished: backout runs list")
    shell.output.say("\n     ".join(["  3. put it away, closed to others:", *put_away]))
    shell.output.say("  4. delete it, and its copies and backups, when the record is no longer needed")
    shell.output.say(
        "The next command begins a new one. Marks and holds are also kept at the provider and are read from"
    )
    shell.output.say("there; past counts are gone, so the first watch knows only the requests of its own time.")


def _list_moves(config: Config) -> list[str]:
    """Return the lines that put the file away, and what belongs to it where it is there."""
    path = config.places.journal
    kept = path.with_name(f"{path.stem}.retired{path.suffix}")
    files = [shlex.join(("mv", f"{path}{end}", f"{kept}{end}")) for end in ("", "-wal")]
    return [f"  {files[0]}", "and, where it is there, what belongs to it:", f"  {files[1]}"]
