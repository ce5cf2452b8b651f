"""The people of `[contacts]`: free keys, each a text or a table with `name`, `role`, `reach` and `helps`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.incident.contact import Contact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_KNOWN = ("name", "role", "reach", "helps")


def list_contacts(contacts: Mapping[str, object]) -> tuple[Contact, ...]:
    """Return the contacts in the order of the file; an entry that says nothing is left out.

    >>> [each.label for each in list_contacts({"on_call": "+49 30 0", "db": {"name": "Ada", "reach": "ada@x"}})]
    ['on_call', 'Ada']
    """
    return tuple(found for key, value in contacts.items() for found in _read(key, value))


def _read(key: str, value: object) -> Iterator[Contact]:
    if isinstance(value, list):
        for number, each in enumerate(value, 1):
            yield from _read(f"{key}[{number}]", each)
    elif isinstance(value, dict):
        texts = {name: str(value.get(name) or "") for name in ("name", "role", "reach")}
        more = [f"{name}: {said}" for name, said in value.items() if name not in _KNOWN]  # free keys are shown
        texts["reach"] = ", ".join(part for part in (texts["reach"], *more) if part)
        helps = value.get("helps") or ()
        subjects = tuple(map(str, helps)) if isinstance(helps, list) else (str(helps),) if helps else ()
        if texts["name"] or texts["reach"]:
            yield Contact(key, helps=subjects, **texts)
    elif str(value).strip():
        yield Contact(key, str(value))
