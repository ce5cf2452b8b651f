"""The stable version that is to be named when only marks and failed proofs are known, and not what is live; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.proof import still_failed
from backout.analysis.stability import quarantine_in, questioned
from backout.model.deployment import Mark

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.model.deployment import VersionMark
    from backout.model.situation import FailedProof


def last_stable(
    marks: Sequence[VersionMark], failed: Mapping[str, FailedProof], *, apart_from: str = ""
) -> VersionMark | None:
    """Return the newest mark of a version that is stable, and is not quarantined, questioned, or not proved since.

    Args:
        marks: oldest first. failed: the newest failed proof of each version. apart_from: a version that is left out.
    """
    for mark in reversed(marks):
        if mark.mark is not Mark.STABLE or mark.version == apart_from:
            continue
        bad = quarantine_in(marks, mark.version, mark.code_hash, "") or questioned(marks, mark.version)
        if bad is None and still_failed(failed, mark.version, stable_at=mark.at) is None:
            return mark
    return None
