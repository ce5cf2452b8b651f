"""Functions that are replaced or overloaded: whether calls of old code still find theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backout.analysis.compatibility.known.schema import Routine

_WIDER: Final = frozenset(
    {("int2", "int4"), ("int2", "int8"), ("int4", "int8"), ("varchar", "text"), ("float4", "float8")}
    | {(whole, "numeric") for whole in ("int2", "int4", "int8")}
)
"""Types of arguments, and those to which every value is cast without being asked to."""


def explain_lost_calls(known: Routine, again: Iterable[Routine], shown: str) -> str | None:
    """Return why calls of a routine fail where only `again` are left of its name, None where one takes them all."""
    reasons = []
    for made in again:
        taken = len(known.arguments)
        extra = len(made.arguments) - taken
        pairs = list(zip(known.arguments, made.arguments, strict=False))
        if len(pairs) < taken or not _returns_alike(known, made) or extra > made.optional:
            continue
        if any(old != new and (old, new) not in _WIDER for old, new in pairs):
            continue
        if made.variadic != known.variadic:
            reasons.append(f"calls of old code to {shown} that name an argument fail: it is VARIADIC now, or no more")
            continue
        if len(made.arguments) - made.optional > taken - known.optional:
            reasons.append(f"calls of old code to {shown} that leave an argument out fail: it has no default any more")
            continue
        renamed = [old for old, new in zip(known.names, made.names, strict=False) if old and old != new]
        if not renamed:
            return None
        reasons.append(f"calls of old code to {shown} with {renamed[0]} => fail: the argument has another name")
    return reasons[0] if reasons else f"statements of old code that call {shown} fail"


def _returns_alike(known: Routine, made: Routine) -> bool:
    """Say whether both return the same; a name for the one value that is returned takes nothing away."""
    return made.returns == known.returns or (
        made.returns is not None and made.returns.rpartition(" ")[0] == known.returns and "record" not in made.returns
    )


def is_ambiguous(known: Routine, made: Routine) -> bool:
    """Say whether a call with the same arguments would fit both alike, which Postgres refuses."""
    least = max(len(r.arguments) - r.optional for r in (known, made))
    most = min(len(known.arguments), len(made.arguments))
    return any(known.arguments[:count] == made.arguments[:count] for count in range(least, most + 1))
