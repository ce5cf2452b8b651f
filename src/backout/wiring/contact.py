"""The first contact with a real account (`backout conformance`), which needs no configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backout.config.scalars import API_BASE_URL
from backout.config.schema.environment import TOKEN_ENV
from backout.errors import AuthError
from backout.providers.clock import SystemClock

if TYPE_CHECKING:
    from backout.config import Environment
    from backout.model.conformance import Observation
    from backout.providers.cloudflare.conformance import FirstContact


@dataclass(frozen=True, slots=True)
class Reach:
    """Which account a first contact asks, through which API, and where its Worker answers (None: workers.dev)."""

    account_id: str
    base_url: str = API_BASE_URL
    ingress_url: str | None = None


def first_contact(environment: Environment, reach: Reach) -> FirstContact:
    """Return the calls of `backout conformance`; it needs no configuration.

    Raises:
        AuthError: there is no token.
    """
    from backout.analysis.conformance import shape_of  # noqa: PLC0415 only that command needs it
    from backout.providers.cloudflare.conformance import FirstContact as Contact  # noqa: PLC0415

    token = environment.secret(TOKEN_ENV)
    if token is None:
        raise AuthError("the API token is missing", hint=f"set {TOKEN_ENV} or {TOKEN_ENV}_FILE")
    return Contact(
        base_url=reach.base_url,
        token=token.reveal,
        account_id=reach.account_id,
        ingress_url=reach.ingress_url,
        clock=SystemClock(),
        shape_of=shape_of,
    )


def expected_answers() -> tuple[Observation, ...]:
    """Return what the twin answers to the calls of a first contact, as it was recorded."""
    from importlib import resources  # noqa: PLC0415 - 10 ms that only conformance pays

    import msgspec  # noqa: PLC0415 only that command needs it

    from backout.model.conformance import Observation as Shape  # noqa: PLC0415

    recorded = (resources.files("backout") / "catalogue" / "conformance.json").read_bytes()
    return msgspec.json.decode(recorded, type=tuple[Shape, ...])
