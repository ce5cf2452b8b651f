"""The real answers of a provider's API, compared with what backout relies on."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - msgspec resolves it

from msgspec import field

from backout.model.value import Value

Fact = bool | int | str | None


class Observation(Value, frozen=True):
    """One call and its answer, without anything that differs between accounts.

    Args:
        name: the call's short name.
        asks: the question that the call answers, in words.
        status: HTTP, 0: no answer came.
        code: the API's own error code.
        facts: the values that later decisions use; None: not measured.
        shape: {path in the answer: its JSON types, joined by `|`}, as `result.deployments[].id`: `string`.
        trouble: why there was no answer, or "".
        measured: values that are told and not compared.
    """

    name: str
    asks: str
    status: int
    code: int | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)
    shape: Mapping[str, str] = field(default_factory=dict)
    trouble: str = ""
    measured: Mapping[str, Fact] = field(default_factory=dict)


class Difference(Value, frozen=True):
    """An answer that differs from the expected one; `matters` False: it only contains more than we know of."""

    call: str
    what: str
    expected: str
    found: str
    matters: bool


class Trial(Value, frozen=True):
    """One question to a platform of an environment, and what it showed.

    Args:
        name: its short name.
        asks: the question, in words.
        passed: None: not tried, because the platform does not have it, or an earlier one failed.
        found: what was seen, one sentence without a final stop.
        took_s: how long it took.
    """

    name: str
    asks: str
    passed: bool | None
    found: str
    took_s: float = 0.0
