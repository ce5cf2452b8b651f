"""A failed proof in later plans: until when it counts, and its wording; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.clock import to_utc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.situation import FailedProof


def find_failed_proof(
    failed: Mapping[str, FailedProof], version: str, *, stable_at: float, live_until: float = 0.0
) -> FailedProof | None:
    """Return the newest failed proof of a version, unless it was found stable or was live since then; else None.

    Args:
        stable_at, live_until: Unix seconds, 0 for never.
    """
    proof = failed.get(version)
    return None if proof is None or max(stable_at, live_until) > proof.at else proof


def describe_failed_proof(proof: FailedProof) -> str:
    """Return a failed proof in words, without a final stop."""
    return f"its last proof, at {to_utc(proof.at):%Y-%m-%d %H:%M:%SZ}, failed: {proof.why}"
