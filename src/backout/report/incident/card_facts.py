"""The facts on an earlier card, read again when the journal or the provider is lost; pure."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Final

from backout.decoding import Undecodable, parse_moment
from backout.model.incident.card import CardFacts
from backout.model.situation import FailedProof
from backout.model.version import Mark, VersionId, VersionMark
from backout.report.incident.card import KNOWN, NOT_PROVED

if TYPE_CHECKING:
    from collections.abc import Iterator

_READ_AT: Final = re.compile(r"Every\s+id\s+was\s+read\s+from\s+the\s+provider\s+at\s+(\S+Z)\.")
_LIVE: Final = re.compile(r"^- version (\S+) at (?!0 %)", re.MULTILINE)
_STABLE: Final = re.compile(r"^- last stable: (\S+)$", re.MULTILINE)
_TARGET: Final = re.compile(r"^## Roll back to (\S+)$", re.MULTILINE)
_WHY: Final = re.compile(r"^## Roll back\n\n(.+?)(?:\n\n|\Z)", re.MULTILINE | re.DOTALL)
_SECTION: Final = re.compile(rf"^### {KNOWN}\n\n(.+?)(?:\n\n|\Z)", re.MULTILINE | re.DOTALL)
_ENTRY: Final = re.compile(r"^- (?P<at>\S+Z) (?P<word>[a-z-]+) (?P<version>[0-9a-f-]{8,36})$")
_SOURCE: Final = re.compile(r"^  (?:run|code|commit) \S+(?:, (?:code|commit) \S+)*$")
_ESCAPED: Final = re.compile(r"\\([!-/:-@\[-`{-~])")
_MARKS: Final = {mark.value: mark for mark in Mark}


def read_facts(text: str) -> CardFacts:
    """Return the facts on an earlier page, as far as it can be read."""
    read_at, stable, target = _READ_AT.search(text), _STABLE.search(text), _TARGET.search(text)
    why = None if target else _WHY.search(text)
    marks: list[VersionMark] = []
    failed: dict[str, FailedProof] = {}
    for entry in _read_entries(text):
        if isinstance(entry, VersionMark):
            marks.append(entry)
        else:
            failed[entry[0]] = entry[1]
    return CardFacts(
        read_at=_parse_moment(read_at[1]) if read_at else 0.0,
        live=tuple(_LIVE.findall(text)),
        stable=stable[1] if stable else "",
        target=target[1] if target else "",
        why=_read_plain(why[1]) if why else "",
        marks=tuple(sorted(marks, key=lambda mark: mark.at)),
        failed_proofs=failed,
    )


def _read_entries(text: str) -> Iterator[VersionMark | tuple[str, FailedProof]]:
    section = _SECTION.search(text)
    for item in re.split(r"\n(?=- )", section[1]) if section else ():
        first, *more = item.split("\n")
        entry = _ENTRY.match(first)
        if entry is None:
            continue
        source = dict(part.split() for part in more[0].split(", ")) if more and _SOURCE.match(more[0]) else {}
        at, word, version = _parse_moment(entry["at"]), entry["word"], entry["version"]
        why = _read_plain("\n".join(more[1:] if source else more))
        if word == NOT_PROVED:
            yield version, FailedProof(at, why)
        elif word in _MARKS:
            code, run, commit = (source.get(name, "") for name in ("code", "run", "commit"))
            yield VersionMark(_MARKS[word], VersionId(version), code or None, at, run, why, git_sha=commit)


def _parse_moment(text: str) -> float:
    with contextlib.suppress(Undecodable):
        return parse_moment(text)
    return 0.0


def _read_plain(markdown: str) -> str:
    return " ".join(_ESCAPED.sub(r"\1", markdown).split())
