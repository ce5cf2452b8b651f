"""People to reach in an incident, as `[contacts]` of backout.toml names them."""

from __future__ import annotations

from backout.model.value import Value


class Contact(Value, frozen=True):
    """One person, team or vendor.

    Args:
        key: the key in the file ("on_call"); of a list `people[2]`.
        name: who, "" where only the key says it.
        role: what they are there for, "" for none.
        reach: how to reach them.
        helps: the subjects they help with (code, database, objects, secrets, pipeline, ...), () for all.
    """

    key: str
    reach: str
    name: str = ""
    role: str = ""
    helps: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Who it is, with the role.

        >>> Contact("on_call", "+49 30 0", "Ada", "database").label, Contact("on_call", "+49 30 0").label
        ('Ada (database)', 'on_call')
        """
        who = self.name or self.key
        return f"{who} ({self.role})" if self.role else who


class Help(Value, frozen=True):
    """Who helps with one subject of an incident.

    Args:
        subject: code, database, objects, secrets or pipeline.
        vendor: its name, "" for none.
        links: (what, URL) of the vendor's dashboard, support and status.
        contacts: of the team.
    """

    subject: str
    vendor: str
    links: tuple[tuple[str, str], ...] = ()
    contacts: tuple[Contact, ...] = ()
