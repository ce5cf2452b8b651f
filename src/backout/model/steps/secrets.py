"""The steps that set secrets of what is live."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from backout.model.steps.base import Arguments, Result


class PushSecretsResult(Result, frozen=True, kw_only=True):
    """The secrets that were set, as the provider lists them.

    Args:
        secrets: the fingerprints by name.
        way: "newest" in one call, "apart" by uploading the live code again.
        source_version: the version that was live (`from` in JSON).
        version, deployment: with the new values.
        made_at, at: when these were made, in Unix seconds.
        problem: why nothing could be set in place of a rollback, "" when something was.
    """

    omitted: ClassVar[frozenset[str]] = frozenset({"problem", "at"})
    secrets: dict[str, str]
    way: str
    deployment: str
    version: str
    source_version: str = msgspec.field(name="from", default="")
    made_at: float = 0.0
    at: float = 0.0
    problem: str = ""


class PushSecretsStep(Arguments[PushSecretsResult], frozen=True, kw_only=True):
    """Set secrets on what is live.

    Args:
        secrets: fingerprints by name of what the source held when this was planned; never a value.
        source: the source as the journal keeps it, so that a resumed run asks it again.
        expected: id of the deployment that the plan rests on.
        version, code_hash: what that deployment serves.
        message: why.
        detected, detected_at: from guard; "" and None of a person's.
    """

    action: ClassVar[str] = "push_secrets"
    secrets: dict[str, str]
    source: dict[str, Any]
    expected: str
    version: str
    code_hash: str | None = None
    message: str = ""
    detected: str = ""
    detected_at: float | None = None


class ReadSecretsResult(Result, frozen=True, kw_only=True):
    """The names in the live version, and which version that is; times in Unix seconds."""

    names: tuple[str, ...]
    deployment: str
    version: str
    since: float
    read_at: float


class ReadSecretsStep(Arguments[ReadSecretsResult], frozen=True, kw_only=True):
    """Read back the names in the live version."""

    action: ClassVar[str] = "read_secrets"
    names: tuple[str, ...]


class FallBackResult(Result, frozen=True, kw_only=True):
    """Whether setting the secrets helped, why not, and the version gone back to, "" for none."""

    omitted: ClassVar[frozenset[str]] = frozenset({"target"})
    outcome: str
    why: str = ""
    target: str = ""


class FallBackStep(Arguments[FallBackResult], frozen=True, kw_only=True):
    """Roll back where setting secrets did not help."""

    action: ClassVar[str] = "fall_back"
