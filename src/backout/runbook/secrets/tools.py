"""The tools that set secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import field

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.model.plan import Json
    from backout.model.secrets import ExpectedSecrets
    from backout.ports import Fingerprints, SecretSource, SecretWriter


class PushTools(Value, frozen=True):
    """What sets secrets.

    Args:
        expected: reads the names that the application needs.
        opened: returns the source that a plan names; raises BackoutError when it cannot be asked again.
        configured: the source of backout.toml as a plan names it, or None.
        on_live: they are set on the code that is live, whichever version is the newest.
        own: names that backout itself, or the deployment, needs: never the application's.
    """

    writer: SecretWriter
    fingerprints: Fingerprints
    expected: Callable[[], ExpectedSecrets]
    opened: Callable[[Mapping[str, Json]], SecretSource]
    configured: Mapping[str, Json] | None = None
    on_live: bool = False
    own: frozenset[str] = field(default_factory=frozenset)
