"""`[contacts]` takes a text, a table or a list of tables for each key, and loses nothing that stands there."""

from __future__ import annotations

import tomllib

from backout.config.contacts import list_contacts
from backout.model.incident.contact import Contact

FILE = """
on_call = "+49 30 0000000"
database = { name = "Ada", role = "administrator", reach = "ada@example.com", helps = ["database", "objects"] }
nobody = {}
number = 112
[[people]]
name = "Grace"
reach = "grace@example.com"
[[people]]
pager = "0123"
"""


def test_every_form_is_read() -> None:
    """In the order of the file; free keys of a table stand beside how to reach them, an empty one is left out."""
    assert list_contacts(tomllib.loads(FILE)) == (
        Contact("on_call", "+49 30 0000000"),
        Contact("database", "ada@example.com", "Ada", "administrator", ("database", "objects")),
        Contact("number", "112"),
        Contact("people[1]", "grace@example.com", "Grace"),
        Contact("people[2]", "pager: 0123"),
    )
    assert list_contacts({}) == ()


def test_one_subject_may_stand_alone() -> None:
    """`helps` is a list, or one word."""
    assert list_contacts({"db": {"name": "Ada", "helps": "database"}})[0].helps == ("database",)
