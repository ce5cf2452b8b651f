"""Marks on versions as events; the rule: a mark is never changed, and a later one takes precedence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from backout.journal.rows import decode_columns, decode_json_object
from backout.journal.store import Entry
from backout.model.version import Mark, VersionId, VersionMark

if TYPE_CHECKING:
    from backout.ports.journal_link import Connection

_QUERY = "SELECT data FROM event WHERE kind = 'mark' AND environment = ? ORDER BY seq"


class _Mark(msgspec.Struct):
    mark: Mark
    version: str
    code_hash: str | None
    at: float
    run: str
    why: str
    migration_head: str | None
    git_sha: str = ""  # marks of the first releases have neither
    by: str = ""


def make_entry(mark: VersionMark) -> Entry:
    """Return the event that records the mark."""
    data = {
        "mark": str(mark.mark),
        "version": mark.version,
        "code_hash": mark.code_hash,
        "at": mark.at,
        "run": mark.run,
        "why": mark.why,
        "migration_head": mark.migration_head,
        "git_sha": mark.git_sha,
        "by": mark.by,
    }
    return Entry("mark", mark.run, data=data)


def read(connection: Connection, environment: str) -> tuple[VersionMark, ...]:
    """Return all marks of the environment, oldest first."""
    return tuple(_parse_mark(text) for (text,) in connection.execute(_QUERY, (environment,)))


def _parse_mark(text: str) -> VersionMark:
    found = decode_columns(decode_json_object(text, "a mark"), _Mark, "a mark")
    return VersionMark(
        found.mark,
        VersionId(found.version),
        found.code_hash,
        found.at,
        found.run,
        found.why,
        found.migration_head,
        found.git_sha,
        found.by,
    )
