"""What the bindings of a version are wired to."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol, TypeVar

from backout.errors import BackoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.twin.control.worker import WorkerVersion
    from backout.twin.database.d1 import D1Databases
    from backout.twin.dataplane.capnp import HyperdriveTarget

_LOG = logging.getLogger(__name__)
_Wire = TypeVar("_Wire")


class Services(Protocol):
    """The twin's real services as bindings use them."""

    @property
    def email_api_url(self) -> str:
        """Base URL of the outbox."""
        ...

    @property
    def d1(self) -> D1Databases:
        """The D1 databases."""
        ...

    def r2_gateway_address(self, bucket: str) -> str:
        """Return "host:port" or "unix:/path" of the gateway that speaks workerd's R2 protocol for this bucket."""
        ...

    def hyperdrive(self, hyperdrive_id: str) -> HyperdriveTarget:
        """Return the target of a Hyperdrive binding."""
        ...


def wire(version: WorkerVersion, kind: str, ask: Callable[[str], _Wire] | None) -> dict[str, _Wire]:
    """Return what each binding of a kind is wired to, by its value; `ask` is None where there is nothing to wire."""
    if ask is None:
        return {}
    found: dict[str, _Wire] = {}
    for binding in version.bindings:
        if binding.type == kind:
            try:
                found[binding.value] = ask(binding.value)
            except BackoutError as error:  # the version starts all the same, and the binding says what is missing
                _LOG.warning("%s, binding %s: %s", version.script, binding.name, error)
    return found
