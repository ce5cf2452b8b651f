"""What a provider's API really answers, beside what we build on."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - msgspec resolves it
from dataclasses import dataclass, field

Fact = bool | int | str | None


@dataclass(frozen=True, slots=True)
class Observation:
    """One call and what came back, without anything that differs from account to account.

    Args:
        name: the call's short name. asks: the question that it answers, in words. status: HTTP, 0: no answer came.
        code: the API's own error code. facts: what the next decision rests on. shape: {path in the answer: its JSON
            types, joined by `|`}, as `result.deployments[].id`: `string`.
        trouble: why there was no answer, or "".
    """

    name: str
    asks: str
    status: int
    code: int | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)
    shape: Mapping[str, str] = field(default_factory=dict)
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is answered otherwise than expected; `matters` False: more is said than we know of."""

    call: str
    what: str
    expected: str
    found: str
    matters: bool
