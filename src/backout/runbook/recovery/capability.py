"""What can be recovered from here: every source is asked, and one that does not answer is part of the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import BackoutError
from backout.model.database.backups import Protection
from backout.model.database.capability import Surroundings, Tools, VendorState, Window
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.ports import Connections, ServerCheck


class Looks(Value, frozen=True):
    """The sources to ask; each of the windows, and the vendor, may be missing.

    Args:
        is_here: whether the server is on this machine, as known without asking it.
        wal, slot: as in `Surroundings`.
    """

    environment: str
    server: ServerCheck
    connections: Connections
    tools: Callable[[], Tools]
    is_here: bool = False
    own: Callable[[], Window] | None = None
    dumps: Callable[[], Window] | None = None
    pgbackrest: Callable[[], Window] | None = None
    vendor: Callable[[], VendorState] | None = None
    wal: str = ""
    slot: str = ""
    protection: Callable[[], Protection] | None = None
    proof_alarm: Callable[[], str] = str


def survey(looks: Looks) -> Surroundings:
    """Ask the server, the programs, the repositories and the vendor; never raises if one does not answer."""
    facts, problem, code, use = None, "", 0, None
    try:
        facts = looks.server.read()
    except BackoutError as error:
        problem, code = str(error), error.exit_code
    else:
        try:
            use = looks.connections.read()
        except BackoutError:  # a catalog that the role may not see
            use = None
    try:
        tools = looks.tools()
    except BackoutError:
        tools = Tools("")
    return Surroundings(
        environment=looks.environment,
        facts=facts,
        problem=problem,
        problem_code=code,
        tools=tools,
        is_here=looks.is_here,
        connections=use,
        own=_find_window(looks.own) or Window(),
        dumps=_find_window(looks.dumps) or Window(),
        pgbackrest=_find_window(looks.pgbackrest),
        vendor=_read_vendor(looks.vendor),
        wal=looks.wal,
        slot=looks.slot,
        protection=_find_protection(looks.protection) if facts is not None else None,
        proof_alarm=looks.proof_alarm(),
    )


def _find_window(look: Callable[[], Window] | None) -> Window | None:
    if look is None:
        return None
    try:
        return look()
    except BackoutError as error:
        return Window(problem=str(error))


def _find_protection(look: Callable[[], Protection] | None) -> Protection | None:
    if look is None:
        return None
    try:
        return look()
    except BackoutError as error:
        return Protection(protected=False, why=f"the backups cannot be looked at: {error.what}")


def _read_vendor(look: Callable[[], VendorState] | None) -> VendorState | None:
    if look is None:
        return None
    try:
        return look()
    except BackoutError as error:  # no token
        return VendorState("the vendor", answers=False, problem=str(error))
