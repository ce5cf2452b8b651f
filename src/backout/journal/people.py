"""Who stands behind a run: roles of the journal's database, one for each person; the rule: unknown is nobody.

Whoever types is the role that the server says. Whoever uses the pages is the role that the login is of, as the pages
say in what they write; the plan that a worker makes for such a request was asked for by both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.journal.rows import decode_event
from backout.model.action_request import MADE
from backout.model.approval import IN_A_FILE
from backout.model.person import choose_person, find_named, find_writer
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from backout.journal.approvals import Asker
    from backout.journal.history import RunRecord
    from backout.journal.store import Roles, Store
    from backout.model.person import Delegation
    from backout.ports.journal_link import Connection

_NO_ROLE: Final = "the login stands for no role of the journal's database"
_ELSEWHERE: Final = "which was recorded elsewhere and brought there later"
_REQUEST: Final = "SELECT * FROM event WHERE seq = ? AND kind = ? AND environment = ?"


class People(Value, frozen=True):
    """Who had to do with a run, each as a role of the journal's database, "" where nobody vouches for one.

    Args:
        own: who this process acts for; several where a worker does what was asked for on the pages.
        askers: who submitted the plan and drove it to where it waits.
        approver: who approved it, "" for nobody.
        is_nobody: this process is the pages, and the login that asks there is of no role.
        pages_role: with which the pages write, "" for none: it is no person.
        roles: what the journal's server says of all of them.
    """

    own: tuple[str, ...]
    askers: tuple[str, ...]
    approver: str
    is_nobody: bool
    pages_role: str
    roles: Roles

    def find_unprovable(self, names: Iterable[str]) -> str:
        """Return why the journal does not vouch for one of these, "" where it does for all."""
        if not self.roles.own:
            return IN_A_FILE
        if self.is_nobody:
            return _NO_ROLE
        unknown = next((name for name in names if not self.vouches_for(name)), None)
        if unknown is None:
            return ""
        if not unknown:
            return f"its server does not say who asked for the plan, {_ELSEWHERE}"
        if unknown == self.pages_role:
            return _NO_ROLE
        return f"the role {unknown} of the journal's database is gone, or may do more there than append"

    def vouches_for(self, name: str) -> bool:
        """Whether nobody else can have written in the name of a role."""
        return name != self.pages_role and name in self.roles.vouched


def read_people(
    store: Store,
    connection: Connection,
    environment: str,
    record: RunRecord | None,
    delegation: Delegation,
    on_behalf_of: str | None = None,
) -> People:
    """Return who had to do with a run, and who asks now.

    Args:
        connection: of an open transaction.
        environment: of the run, or of the plan that is to become one.
        record: None where there is no run yet.
        delegation: the pages' role speaks for others only as long as it may only append.
        on_behalf_of: the role of the login that asks, "" for none, where this process is the pages; None elsewhere.
    """
    pages_role = delegation.pages_role
    if pages_role and pages_role not in store.read_roles(connection, (pages_role,)).vouched:
        pages_role = ""
    lane = environment.partition("/")[0]
    asked = () if record is None else record.asked_by
    askers = tuple(name for asker in asked for name in _list_names(connection, asker, lane, pages_role))
    approval = None if record is None else record.approval
    approver = "" if approval is None else choose_person(approval.person, approval.on_behalf_of, pages_role)
    requesters = _list_requesters(connection, delegation.request, lane, pages_role)
    roles = store.read_roles(connection, (*askers, approver, *requesters, on_behalf_of or ""))
    person = choose_person(roles.own, on_behalf_of or "", pages_role)
    is_nobody = on_behalf_of is not None and (not on_behalf_of or roles.own != delegation.pages_role)
    return People((person, *requesters), askers, approver, is_nobody, pages_role, roles)


def _list_names(connection: Connection, asker: Asker, environment: str, pages_role: str) -> Iterator[str]:
    yield asker.role
    yield from _list_requesters(connection, asker.request, environment, pages_role)


def _list_requesters(connection: Connection, request: int, environment: str, pages_role: str) -> tuple[str, ...]:
    """Return who made a request, "" where there is no such one; () for none.

    Of a role that speaks for others and is not known here as the pages', both are counted: one too many asks for
    nothing but another approver, one too few would have approved what they asked for.
    """
    if not request:
        return ()
    row = connection.execute(_REQUEST, (request, MADE, environment)).fetchone()
    if row is None:
        return ("",)
    event = decode_event(row)
    person, writer = find_named(event), find_writer(event)
    return (person,) if person and writer == pages_role else tuple(dict.fromkeys((writer, person or writer)))
