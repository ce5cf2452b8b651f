"""What `backout audit archive` writes, and how `audit verify` compares the journal with such a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.cli.support.style import Tone
from backout.errors import Refused, UsageError
from backout.model.setting import describe_setting
from backout.report.times import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from backout.cli.support.shell import Shell
    from backout.cli.support.style import Style
    from backout.config import Config
    from backout.journal.stored import StoredJournal


def make_archive(shell: Shell, config: Config, before: str, to: Path) -> int:
    """Write the events before a time into a file, check that by reading it, and show what is in it; return 0.

    Raises:
        Refused: the journal is not as it was written, or there is no key to sign with.
        UsageError: that is no time, or the file cannot be made.
    """
    from backout.journal.archive import find_end, read_archive, write_archive
    from backout.wiring.records import open_journal

    path, keys, until = shell.folder / to, _read_keys(config), _parse_time(before)
    book = open_journal(config)
    found = book.verify_chain()
    if not found.is_whole:
        raise Refused(f"the journal is not as it was written: {found.why}", hint="backout audit verify")
    end = find_end(book.events(), until)
    record: dict[str, object] = {"before": format_time(until), "events": end, "left": found.count - end}
    if not end:
        shell.output.result("audit", {**record, "head": None, "file": None}, "no event is older, of runs that are over")
        return 0
    try:
        write_archive(path, book.read_rows(), end, keys[0])
        made = read_archive(path, keys)
    except OSError as error:
        raise UsageError(f"the file cannot be written: {error.strerror}", where=str(path), hint="--to FILE") from error
    _compare(book, made.events, made.head, path)
    said = f"{end:,} events are in {path}, read back, with the head {made.head[:12]} signed; the journal keeps them"
    record |= {"head": made.head, "file": path}
    shell.output.result("audit", record, shell.output.style.badge(said, Tone.GOOD))
    shell.output.next(f"backout audit verify --archive {to}  # later: whether the journal is still that one")
    return 0


def check_archive(shell: Shell, config: Config, book: StoredJournal, file: Path) -> dict[str, object]:
    """Return what an archive holds, and whether the journal still has the event that its signed manifest names.

    Raises:
        Refused: the file is damaged, or none of the keys here signed it.
        UsageError: it cannot be read.
    """
    from backout.journal.archive import read_archive

    path = shell.folder / file
    try:
        found = read_archive(path, _read_keys(config))
    except OSError as error:
        raise UsageError(f"the archive cannot be read: {error.strerror}", where=str(path)) from error
    newest = next(book.events(after=found.events - 1), None)
    same = newest is not None and (newest.seq, newest.hash) == (found.events, found.head)
    return {"file": path, "events": found.events, "head": found.head, "same": same}


def format_archive(style: Style, found: Mapping[str, object] | None) -> list[str]:
    """Return the comparison with an archive as lines; none where there is no archive."""
    if found is None:
        return []
    if found["same"]:
        return [style.badge(f"the first {found['events']:,} events are those of {found['file']}, as signed", Tone.GOOD)]
    what = f"REWRITTEN: event {found['events']} is not the one of {found['file']}, whose head {found['head']} is signed"
    return [style.badge(what, Tone.BAD)]


def _compare(book: StoredJournal, events: int, head: str, path: Path) -> None:
    """Raise Refused when what was read back is not what the journal has."""
    newest = next(book.events(after=events - 1))
    if newest.hash != head:
        raise Refused("what was read back is not what the journal has", where=str(path), hint="backout audit verify")


def _read_keys(config: Config) -> tuple[bytes, ...]:
    keys = tuple(key.reveal().encode() for key in config.marks_keys())
    if not keys:
        raise Refused(
            "there is no key to sign or check an archive with",
            where="marks.key_env",
            hint=describe_setting("marks", key_env="BACKOUT_MARKS_KEY"),
        )
    return keys


def _parse_time(text: str) -> float:
    from backout.plan.target import parse_time
    from backout.wiring import clock

    at = parse_time(text, clock.now())
    if at is None:
        raise UsageError(f"--before: not a time: {text!r}", hint='such as 2026-11-25T10:00:00Z or "90 days ago"')
    return at
