"""Secrets by name: which are needed, which were set, and values that cannot be shown by accident."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


class SecretValues:
    """Values of secrets by name, on their way from a source to the provider; only `reveal` shows one.

    It is no mapping, is never serialised, and prints names alone.

    >>> SecretValues({"JWT_SECRET": "hunter2-hunter2"})
    SecretValues(JWT_SECRET)
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    @property
    def names(self) -> tuple[str, ...]:
        """The names, sorted."""
        return tuple(sorted(self._values))

    def reveal(self, name: str) -> str:
        """Return a value; the caller is responsible for where it goes. KeyError for a name that is not held."""
        return self._values[name]

    def only(self, names: Collection[str]) -> SecretValues:
        """Return those of these names that are held."""
        return SecretValues({name: value for name, value in self._values.items() if name in names})

    def __repr__(self) -> str:
        return f"SecretValues({', '.join(self.names)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("the values of secrets are never serialised")


class ExpectedSecrets(Value, frozen=True):
    """The names that an application needs, as its team declared them.

    Args:
        example: the names in the sample file; where: that file, "" without one.
        required: as configured.
    """

    example: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    where: str = ""


class PushedSecret(Value, frozen=True):
    """One value that backout set: its keyed fingerprint, never the value.

    Args:
        version: the version that has it.
        at: when the provider made that version, Unix seconds by the provider's clock.
    """

    name: str
    fingerprint: str
    version: str
    at: float
    run: str
    by: str = ""


class Since(StrEnum):
    """Whether a value has changed since an earlier moment."""

    SAME = "same"  # the same value, by its fingerprint, or nothing was set since
    CHANGED = "changed"
    ADDED = "added"  # there was none then
    GONE = "gone"  # there is none now
    MAYBE = "maybe"  # another tool changed a secret since, and the provider does not say which


class SecretState(Value, frozen=True):
    """The state of one name.

    Args:
        expected_by: "example", "required", "live", "target": who needs it.
        live: how the live version binds it ("secret_text", "plain_text"), "" when it does not.
        target: the same of the version to return to.
        pushed: the last value that backout set, None: none.
        since_push: since that one, None without it.
        since_target: since the version to return to was made, None without such a version.
        source: whether the configured source holds another value than was pushed: same | changed | MAYBE when nothing
            was pushed that could be compared | GONE when the source has none; None: not asked.
    """

    name: str
    expected_by: tuple[str, ...]
    live: str
    target: str = ""
    pushed: PushedSecret | None = None
    since_push: Since | None = None
    since_target: Since | None = None
    source: Since | None = None


class SecretsLook(Value, frozen=True):
    """One look at the secrets of an environment.

    Args:
        target: the version that is compared with, "" when there is none; target_why: why that one.
        returns: whether a rollback would go there; else `target_why` says why not.
        states: by name, sorted.
        missing: expected and not bound in the live version.
        missing_in_target: required in the configuration and not bound in the version to return to.
        source: the configured source in words, "" without one.
        example: the sample file, "" without one.
    """

    environment: str
    live: str
    target: str
    target_why: str
    states: tuple[SecretState, ...]
    missing: tuple[str, ...]
    missing_in_target: tuple[str, ...]
    source: str = ""
    example: str = ""
    returns: bool = False


class OnHand(Value, frozen=True):
    """The names that a source has values for.

    Args:
        held, lacking: the names asked for, in two parts.
        source: in words, "" when none is configured.
        problem: why the source could not be read, "" when it could.
    """

    held: tuple[str, ...]
    lacking: tuple[str, ...]
    source: str = ""
    problem: str = ""
