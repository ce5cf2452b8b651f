"""Which person stands behind an event of the journal: a role of its database, as its server says.

The rule: a name in an event is nobody. The pages alone, which everybody uses with one role, say in their events on
whose behalf they write: the role that the login is of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.model.value import Value

if TYPE_CHECKING:
    from backout.model.incident.incident import Event

SPOOLED: Final = "spooled"
"""In the data of an event that was recorded elsewhere while the journal's server was away, and merged."""
ON_BEHALF_OF: Final = "on_behalf_of"
"""In the data of an event of the pages: the role of the journal's database that the login is of."""


class Delegation(Value, frozen=True):
    """Who acts for somebody else.

    Args:
        pages_role: the role of the journal's database with which the pages write, "" for none.
        request: the number of the request on the pages that this process does, 0 for none.
    """

    pages_role: str = ""
    request: int = 0


def find_writer(event: Event) -> str:
    """Return the role that wrote an event at first, as the server says; "" where it was merged by somebody later."""
    return "" if SPOOLED in event.data else event.writer


def find_person(event: Event, pages_role: str) -> str:
    """Return the role that stands behind an event: who wrote it, or for the pages' role whose login it was.

    Args:
        pages_role: with which the pages write, "" for none; no other role speaks for somebody else.
    """
    return choose_person(find_writer(event), find_named(event), pages_role)


def find_named(event: Event) -> str:
    """Return the role on whose behalf an event says that it was written, "" for none; whoever wrote it may say so.

    No role has a NUL in its name, and the server refuses to be asked for one.
    """
    named = event.data.get(ON_BEHALF_OF)
    return named if isinstance(named, str) and "\0" not in named else ""


def choose_person(writer: str, on_behalf_of: str, pages_role: str) -> str:
    """Return the role that stands behind what a role wrote, see `find_person`.

    >>> choose_person("pages", "ada", "pages"), choose_person("eve", "ada", "pages")
    ('ada', 'eve')
    """
    return on_behalf_of if pages_role and writer == pages_role and on_behalf_of else writer
