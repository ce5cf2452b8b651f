"""The commits that a request for several means: by their ids, a time, or positions in the WAL."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from backout.errors import Refused
from backout.model.database.wal import show_lsn
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.analysis.recovery.recovery import Archive
    from backout.model.database.recovery import Commit
    from backout.model.database.wal import WalSpan
    from backout.plan.restore import Asked
    from backout.runbook.recovery.tools import RestoreTools

PREFLIGHT = SafetyRule.PREFLIGHT


def find_commits(
    tools: RestoreTools, archive: Archive, stretches: Sequence[Sequence[WalSpan]], asked: Asked
) -> tuple[tuple[Commit, ...], tuple[Commit, ...]]:
    """Return the commits that were asked for, and all from the first of them to the last; one pass over the WAL.

    Args:
        stretches: of unbroken WAL, the oldest one first.

    Raises:
        Refused: one of them is missing, they are not in one stretch, or WAL of the time is missing.
    """
    missing = set(asked.ids)
    for stretch in reversed(stretches):
        commits = list(tools.wal.commits(stretch))
        found = tuple(each for each in commits if _is_asked(asked, each))
        if not found:
            continue
        missing -= {xid for each in found for xid in each.xids}
        if missing:
            break
        _check_whole(tools, archive, stretches, asked, (stretch, commits))
        return found, tuple(each for each in commits if found[0].lsn <= each.lsn <= found[-1].lsn)
    if missing:
        raise make_not_there_error(tools.environment, min(missing), stretches)
    raise Refused(f"nothing was committed {asked.text}, as far as WAL is archived", rule=PREFLIGHT)


def make_not_there_error(environment: str, xid: int, stretches: Sequence[Sequence[WalSpan]]) -> Refused:
    """Return the message for a transaction that no WAL has.

    Args:
        stretches: the WAL that was searched, in its order.
    """
    ends = f" (it ends at {show_lsn(stretches[-1][-1].end_lsn)}{_describe_holes(stretches)})" if stretches else ""
    return Refused(
        f"the archived WAL has no commit of transaction {xid}: it was rolled back, or it lies outside{ends}",
        where=environment,
        rule=PREFLIGHT,
        options=(
            "If it was committed just now, its WAL is received in some seconds: type the same again.",
            f"What is received: `backout db wal status -e {environment}`.",
        ),
    )


def _describe_holes(stretches: Sequence[Sequence[WalSpan]]) -> str:
    """Return what lies between stretches of WAL, as the rest of a sentence: of several holes the last one."""
    holes = [(one[-1].end_lsn, other[0].begin_lsn) for one, other in pairwise(stretches)]
    if not holes:
        return ""
    more = f", and in {len(holes) - 1} more places" if len(holes) > 1 else ""
    return f"; WAL is missing from {show_lsn(holes[-1][0])} to {show_lsn(holes[-1][1])}{more}"


def _check_whole(
    tools: RestoreTools,
    archive: Archive,
    stretches: Sequence[Sequence[WalSpan]],
    asked: Asked,
    within: tuple[Sequence[WalSpan], Sequence[Commit]],
) -> None:
    """Raise Refused if a part of the requested time is in no WAL, or in a hole of it."""
    stretch, commits = within
    begin, end, is_last = stretch[0].begin_lsn, stretch[-1].end_lsn, stretch is stretches[-1]
    has_begin = has_end = True
    if asked.window is not None:
        since, until = asked.window
        bases = [base for base in archive.backups if begin <= base.begin_lsn < end]
        has_begin = any(each.at < since for each in commits) or any(base.ended_at <= since for base in bases)
        has_end = is_last or any(each.at > until for each in commits)
    elif asked.places is not None:
        has_begin, has_end = begin <= asked.places[0], is_last or asked.places[1] <= end
    if not (has_begin and has_end):
        raise Refused(
            f"WAL is archived without a gap from {show_lsn(begin)} to {show_lsn(end)}, and that is not all of the time "
            f"{asked.text!r}: what else was committed then is not known",
            where=tools.environment,
            rule=PREFLIGHT,
            options=("Name the transactions: `backout db transactions` lists them.",),
        )


def _is_asked(asked: Asked, commit: Commit) -> bool:
    """Whether a commit is one of those that were asked for."""
    if asked.window is not None:
        return asked.window[0] <= commit.at <= asked.window[1]
    if asked.places is not None:
        return asked.places[0] <= commit.lsn < asked.places[1]
    return not asked.ids.isdisjoint(commit.xids)
