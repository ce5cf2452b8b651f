"""Side branches at the vendor: is the branch that the configuration names the database that the application uses?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import Refused
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from collections.abc import Collection

    from backout.ports import VendorBackups, VendorCutover

_POOLED = "-pooler"
_BINDING = "By hand: point the application's connection string (or its Hyperdrive configuration) at the side branch."


def check_identity(vendor: VendorCutover, hosts: Collection[str], branch: str) -> None:
    """Check that one of the connection strings' hosts is the live branch's (safety rule 1).

    A branch of another project, restored or rescued from, would put foreign rows into the application.

    Raises:
        Refused: none is, with both sides in the words.
        AuthError, ProviderUnavailable, ProviderRejected: the vendor.
    """
    theirs = vendor.hosts()
    if not theirs or {drop_pooler(host) for host in hosts} & {drop_pooler(host) for host in theirs}:
        return
    raise Refused(
        f"the connection string leads to {', '.join(sorted(hosts)) or 'this machine'}, but the vendor's live branch "
        f"{branch} answers at {', '.join(sorted(theirs))}",
        where="database.managed",
        hint="correct database.managed.project and branch; behind a proxy, name the direct address in admin_url_env",
        rule=SafetyRule.IDENTITY,
    )


def check_cutover(vendor: VendorBackups, environment: str, *options: str) -> None:
    """Check that a branch can be put in the live one's place, with the old state kept; a vendor that is down passes.

    Args:
        options: what to do instead, before what is always possible.

    Raises:
        Refused: the vendor has no such call, or not for this branch.
    """
    state = vendor.capabilities()
    ways = [way for way in state.ways if way.in_place and way.keeps_old]
    if state.problem or any(not way.missing for way in ways):
        return
    raise Refused(
        next((way.missing for way in ways), f"{state.vendor} has no call that puts a branch into the live one's place"),
        where=environment,
        rule=SafetyRule.PREFLIGHT,
        options=(*options, f"Make a side branch: `backout db branch create -e {environment}`.", _BINDING),
    )


def drop_pooler(host: str) -> str:
    """Return a host name without the suffix of the vendor's pooler.

    >>> drop_pooler("ep-cool-1234-pooler.eu.aws.neon.tech")
    'ep-cool-1234.eu.aws.neon.tech'
    """
    first, dot, rest = host.lower().partition(".")
    return first.removesuffix(_POOLED) + dot + rest
