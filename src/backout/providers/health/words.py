"""The words that applications use for states, and their names for the same service."""

from __future__ import annotations

from typing import Final

from backout.model.guard.signals import ServiceState

_WORDS: Final[dict[ServiceState, str]] = {
    ServiceState.OK: "ok okay up pass passed passing healthy working operational available alive green true success "
    "succeeded ready online running connected good active",
    ServiceState.DEGRADED: "degraded warn warning yellow partial slow limited impaired",
    ServiceState.DOWN: "down fail failed failing failure error unhealthy critical red out_of_service outofservice "
    "outage offline disconnected unavailable unreachable dead false timeout timed_out broken not_working inactive "
    "unexpected_result unknown_error",
}
_STATES: Final = {word: state for state, words in _WORDS.items() for word in words.split()}
_SEVERITY: Final = (ServiceState.OK, ServiceState.UNKNOWN, ServiceState.DEGRADED, ServiceState.DOWN)
_ALIASES: Final[dict[str, str]] = {
    alias: name
    for name, aliases in {
        "database": "db postgres postgresql pg mysql sql hyperdrive databasebackend databaseheartbeat datasource",
        "storage": "r2 s3 bucket objectstorage objectstore blob blobs files s3botostoragehealthcheck "
        "defaultfilestoragehealthcheck",
        "email": "mail smtp mailer resend sendgrid",
    }.items()
    for alias in (name, *aliases.split())
}


def parse_state(word: object) -> ServiceState:
    """Return the state that an application's word means; UNKNOWN for a word that is not in the list.

    Of a sentence the first word before a colon counts ("unavailable: cannot connect").

    >>> [parse_state(word).value for word in ("UP", "Out of Service", True, "unavailable: no route", "fine-ish", 7)]
    ['ok', 'down', 'ok', 'down', 'unknown', 'unknown']
    """
    if isinstance(word, bool):
        return ServiceState.OK if word else ServiceState.DOWN
    if not isinstance(word, str):
        return ServiceState.UNKNOWN
    head = word.partition(":")[0].strip().lower().replace(" ", "_").replace("-", "_")
    return _STATES.get(head, ServiceState.UNKNOWN)


def find_worst(states: tuple[ServiceState, ...]) -> ServiceState:
    """Return the worst state; UNKNOWN for none at all, and when there is an UNKNOWN and nothing worse than OK.

    >>> find_worst((ServiceState.OK, ServiceState.UNKNOWN)).value, find_worst(()).value
    ('unknown', 'unknown')
    """
    return max(states, key=_SEVERITY.index, default=ServiceState.UNKNOWN)


def find_canonical(name: str) -> str | None:
    """Return `database`, `storage` or `email` for one of their usual other names, None for any other name.

    >>> find_canonical("Postgres"), find_canonical("DatabaseBackend"), find_canonical("redis")
    ('database', 'database', None)
    """
    letters = "".join(c for c in name.lower() if c.isalnum())
    return _ALIASES.get(letters)
