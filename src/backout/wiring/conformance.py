"""The trial of a real platform (`backout conformance`): an account without a configuration, or an environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.config.scalars import API_BASE_URL
from backout.config.schema.environment import TOKEN_ENV
from backout.decoding import decode_raw
from backout.errors import AuthError, ConfigError
from backout.model.value import Value
from backout.providers.clock import SystemClock
from backout.providers.cloudflare.conformance import FirstContact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.config import Config, Environment
    from backout.model.conformance import Observation

__all__ = [
    "FirstContact",
    "Reach",
    "find_fingerprint",
    "load_expected_answers",
    "plan_first_contact",
    "write_pin",
]


class Reach(Value, frozen=True):
    """The account of a first contact, its API, and what is used beside.

    Args:
        ingress_url: the address of its Worker; None: workers.dev.
        database_env: the variable with the URL of a database that Hyperdrive can reach; None: nothing is asked of it.
    """

    account_id: str
    base_url: str = API_BASE_URL
    ingress_url: str | None = None
    database_env: str | None = None


def plan_first_contact(environment: Environment, reach: Reach) -> FirstContact:
    """Return the calls of `backout conformance`; it needs no configuration.

    Raises:
        AuthError: there is no token.
        ConfigError: the database's URL is missing, or is none.
    """
    from backout.analysis.conformance import find_shape

    token = environment.secret(TOKEN_ENV)
    if token is None:
        raise AuthError("the API token is missing", hint=f"set {TOKEN_ENV} or {TOKEN_ENV}_FILE")
    return FirstContact(
        base_url=reach.base_url,
        token=token.reveal,
        account_id=reach.account_id,
        ingress_url=reach.ingress_url,
        database=_find_database(environment, reach.database_env) if reach.database_env else None,
        clock=SystemClock(),
        shape_of=find_shape,
    )


def _find_database(environment: Environment, name: str) -> Callable[[], Mapping[str, str]]:
    from backout.providers.postgres.tls.access import parse_dsn

    url = environment.secret(name)
    if url is None:
        raise ConfigError((f"{name} is not set: it is to hold the URL of a database that Hyperdrive can reach",))
    parse_dsn(url.reveal())
    return lambda: parse_dsn(url.reveal())


def load_expected_answers() -> tuple[Observation, ...]:
    """Return what the twin answers to the calls of a first contact, as it was recorded."""
    from importlib import resources

    from backout.model.conformance import Observation as Shape

    recorded = (resources.files("backout") / "catalogue" / "conformance.json").read_bytes()
    return decode_raw(recorded, tuple[Shape, ...])


def find_fingerprint(config: Config) -> str:
    """Return which commands speak for the platform, "" where none do."""
    if config.environment.platform.provider != "command":
        return ""
    from backout.wiring.command import open_commands

    return open_commands(config).fingerprint()


def write_pin(config: Config, fingerprint: str, at: float) -> str:
    """Write into the configuration which commands passed, and return that.

    Args:
        at: Unix seconds.

    Raises:
        DecisionNeeded: the file is written in a way that backout does not edit; it says what to add.
        BackoutError: the file cannot be written.
    """
    from backout.config.init.pinning import format_table, set_pin
    from backout.errors import BackoutError, DecisionNeeded
    from backout.private import rewrite
    from backout.report.times import format_time

    passed = f"{format_time(at)[:10]}/{fingerprint}"
    try:
        with config.path.open(encoding="utf-8", newline="") as file:
            text = set_pin(file.read(), config.name, {"conformance": passed})
        if text is not None:
            rewrite(config.path, text)
            return passed
    except OSError as error:
        raise BackoutError(f"cannot be written: {error.strerror}", where=str(config.path)) from error
    raise DecisionNeeded(
        f"{config.path.name} is written in a way that backout does not edit; add this by hand: "
        + ", ".join(format_table(config.name, {"conformance": passed})[1:]),
        where=f"environments.{config.name}.pin",
    )
