"""The judgement on one change: its class, the verdict, whether it can be reversed, the reason, the condition."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.database.compatibility import Compatibility, Reversible
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable

_SEVERITY = (Compatibility.SAFE, Compatibility.SAFE_IF, Compatibility.BREAKING)
_LOSS = (Reversible.YES, Reversible.IF, Reversible.NO)


class Finding(Value, frozen=True):
    """One change, judged; `condition` is a query that returns rows where the change breaks old code."""

    kind: str
    verdict: Compatibility
    reversible: Reversible
    reason: str
    condition: str | None = None


def safe(kind: str, reason: str, reversible: Reversible = Reversible.YES) -> Finding:
    """Old code notices nothing."""
    return Finding(kind, Compatibility.SAFE, reversible, reason)


def safe_if(
    kind: str, reason: str, condition: str | None = None, *, reversible: Reversible = Reversible.YES
) -> Finding:
    """It depends on the data, or on what old code writes."""
    return Finding(kind, Compatibility.SAFE_IF, reversible, reason, condition)


def breaking(
    kind: str, reason: str, condition: str | None = None, *, reversible: Reversible = Reversible.YES
) -> Finding:
    """Some statement of old code fails, or reads something else."""
    return Finding(kind, Compatibility.BREAKING, reversible, reason, condition)


def join_findings(findings: Iterable[Finding]) -> Finding:
    """Return one finding for several changes of one statement; needs one at least.

    The condition answers for all that depend on data, or there is none.
    """
    every = list(findings)
    leading = max(every, key=lambda f: (_SEVERITY.index(f.verdict), _LOSS.index(f.reversible)))
    reversible = max((f.reversible for f in every), key=_LOSS.index)
    asked = [f.condition for f in every if f.verdict is leading.verdict]
    conditions = list(dict.fromkeys(condition for condition in asked if condition))
    condition = None
    if conditions and len([c for c in asked if c]) == len(asked):
        condition = conditions[0] if len(conditions) == 1 else " UNION ALL ".join(f"({c})" for c in conditions)
    alike = [f.reason for f in every if f.verdict is leading.verdict and f.reason != leading.reason]
    more = f" (and {len(alike)} more like it)" if alike else ""
    return Finding(leading.kind, leading.verdict, reversible, f"{leading.reason}{more}", condition)
