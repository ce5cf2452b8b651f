"""Decides who changed a row that differs: by the transaction that wrote it, and by the notes from before the rescue.

A value that is neither the old one nor the damage's, in a row that the rescue wrote, may have been written by others
just before: only in rows whose version was theirs when the rescue locked it.
"""

from __future__ import annotations

import heapq
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from backout.model.database.comparison import Evidence

_SHOWN: Final = 5
_HALF: Final = 1 << 31
_COUNTED: Final = frozenset({"equal", "newer", "left", "missing", "wrong"})


class Row(NamedTuple):
    """One row at one end: the transaction id that wrote it, and its columns' hashes as COPY writes an array."""

    xmin: int
    hashes: str


Rows = dict[str, Row]


class Verdicts:
    """The verdicts on the rows of one table, counted, with some of their keys.

    Args:
        noted: rows that others had written when the rescue began; None where it is not known.
        oid: the table's.
        begin: the id from which on what others wrote was not noted; None where nothing was.
    """

    def __init__(self, evidence: Evidence, noted: Mapping[str, str] | None, oid: int, *, begin: int | None) -> None:
        self._evidence = evidence
        self._noted = noted
        self._between = evidence.between.get(oid, frozenset())
        self._over = evidence.over.get(oid, {})
        self._begin = begin
        self._removed = evidence.removed.get(oid, frozenset())
        self._told_all = evidence.deleted.get(oid, 0) == len(self._removed)
        self.counts: Counter[str] = Counter()
        self._keys: list[str] = []
        self._vanished: list[str] = []
        self._absent: list[str] = []

    @property
    def has_noted(self) -> bool:
        """Whether others had written rows of the table before."""
        return bool(self._noted)

    @property
    def vanished(self) -> list[str]:
        """The keys of rows that the damage changed and that are gone for an unknown reason."""
        return self._vanished

    @property
    def absent(self) -> list[str]:
        """The keys of rows that the damage deleted and that are not there, though the rescue has removed none of them.

        Where the server counted more rows that the rescue removed than it names, there are none: it may be any.
        """
        return self._absent if self._told_all else []

    def was_put_back(self, keys: Collection[str]) -> None:
        """Say which of them the rescue had put back: others removed them since."""
        self.counts["newer"] += len(keys)
        self._absent = [key for key in self._absent if key not in keys]

    def was_gone(self, keys: Collection[str]) -> None:
        """Say which of them had been removed by others before the rescue began."""
        self.counts["newer"] += len(keys)
        self._vanished = [key for key in self._vanished if key not in keys]

    def judge(self, key: str, before: Row | None, after: Row | None, now: Row | None) -> None:
        """Count one row; `after` is the one that the damage left."""
        kind = "newer" if key in self._between else self._kind(key, before, after, now)
        if kind == "unclear":
            kind = "newer" if self._is_over_unknown(key) else "wrong"
        if kind == "vanished":
            kind = self._gone(key)
        if kind == "absent":
            self._absent.append(key)
        if kind in _COUNTED:
            self.counts[kind] += 1
        if kind in ("left", "missing", "wrong"):
            self._keys.append(key)

    def finish(self) -> tuple[Counter[str], tuple[str, ...]]:
        """Return the counts and some keys; what has vanished or is absent without an explanation is missing."""
        unexplained = [*self._vanished, *self._absent]
        self.counts["missing"] += len(unexplained)
        self._keys += unexplained
        return self.counts, tuple(map(format_key, heapq.nsmallest(_SHOWN, self._keys, key=lambda k: (len(k), k))))

    def _is_over_unknown(self, key: str) -> bool:
        """Whether the rescue replaced a newer version whose content was not noted."""
        xid = self._over.get(key)
        if xid is None:
            return False
        known = self._noted is not None and key in self._noted
        return not known or self._begin is None or (xid - self._begin) % (_HALF * 2) < _HALF

    def _gone(self, key: str) -> str:
        """Judge a row that the damage changed, and that is not there any more.

        Where the server counted as many rows that the rescue removed as the rescue names, and this is none of these,
        it was removed by others.
        """
        if key in self._removed:
            return "missing"
        if self._told_all:
            return "newer"
        self._vanished.append(key)
        return ""

    def _kind(self, key: str, before: Row | None, after: Row | None, now: Row | None) -> str:
        evidence = self._evidence
        if now is None:
            if before is None:
                return ""
            noted = None if self._noted is None else self._noted.get(key)
            if after is None:
                return "newer" if noted else "missing" if key in self._removed else "absent"
            return "vanished" if after.hashes != before.hashes else "newer"
        noted_row = (self._noted or {}).get(key) or None
        if before is not None and before.hashes == now.hashes:
            rewritten = now.xmin in evidence.ours and noted_row not in (None, now.hashes)
            return self._judge_by_column(before, after, now, noted_row) if rewritten else "equal"
        if now.xmin in evidence.damage:
            return "left"
        if before is not None and before.xmin == now.xmin and now.xmin not in evidence.ours:
            return "wrong"  # it was not written, and it holds something else
        if now.xmin not in evidence.ours:
            return "newer"
        if before is None:
            if noted_row is not None:
                return "newer" if noted_row == now.hashes else "unclear"
            return "left" if after is not None and after.hashes == now.hashes else "unclear"
        return self._judge_by_column(before, after, now, noted_row)

    def _judge_by_column(self, before: Row, after: Row | None, now: Row, noted: str | None) -> str:
        """Judge a row that the rescue wrote, by column: one may be a newer value of others, and then has to stay."""
        good, here = _split(before.hashes), _split(now.hashes)
        bad = _split(after.hashes) if after else None
        newer = _split(noted) if noted is not None else None
        found = "equal" if before.hashes == now.hashes else "newer"
        for number, value in enumerate(here):
            harmed = bad is None or bad[number] != good[number]
            if value == good[number]:
                # The damage had not touched it, it was written since, and that is gone.
                lost = newer is not None and newer[number] != value
                if lost and (not harmed or (bad is None and not self._evidence.overwrites)):
                    found = "unclear"
                continue
            if newer is not None and value == newer[number] and not (harmed and self._evidence.overwrites):
                continue
            if bad is not None and value == bad[number]:
                return "left"
            found = "unclear"
        return found


def judge_written(verdicts: Verdicts, evidence: Evidence, was: Rows, then: Rows, now: Rows) -> None:
    """Judge rows where only the written ones were read; one whose xmax is set may only have been locked."""
    for key in was.keys() | then.keys():
        if key not in was or key not in then or was[key].hashes != then[key].hashes:
            verdicts.judge(key, was.get(key), then.get(key), now.get(key))
        elif key in now:
            verdicts.judge(key, was[key], then[key], now[key])
    for key in now.keys() - was.keys() - then.keys():
        if now[key].xmin in evidence.ours:  # nothing of the damage, and written all the same
            verdicts.judge(key, None, None, now[key])


def format_key(key: str) -> str:
    """Return a key as a person reads it: `7`, or `7,a` of two columns; the hash of a row that has none."""
    text = bytes.fromhex(key).decode(errors="replace")
    return text[1:-1] if text.startswith("(") and text.endswith(")") else f"a row without a key ({text[:12]})"


def _split(hashes: str) -> list[str]:
    return hashes[1:-1].split(",")


def parse_rows(lines: Iterable[str]) -> Rows:
    """Return the rows of a COPY: key, xmin, hashes."""
    found: Rows = {}
    for line in lines:
        key, xmin, hashes = line.rstrip("\n").split("\t")
        found[key] = Row(int(xmin), hashes)
    return found


def select_hashes(noted: dict[str, str], every: tuple[str, ...], wanted: tuple[str, ...]) -> dict[str, str]:
    """Return the hashes of these columns alone: what others wrote was noted of every column that there had been."""
    if every == wanted:
        return noted
    places = [every.index(name) for name in wanted]
    split = ((key, hashes[1:-1].split(",")) for key, hashes in noted.items() if hashes)
    found = {key: f"{{{','.join(each[place] for place in places)}}}" for key, each in split}
    return {**noted, **found}
