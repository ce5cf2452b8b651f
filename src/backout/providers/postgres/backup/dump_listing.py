"""The table of contents of a dump, as `pg_restore --list` writes it, and the entries that only a superuser may create.

Source: PostgreSQL 18, pg_restore (`--list`, `--use-list`), src/bin/pg_dump/pg_backup_archiver.c (PrintTOCSummary).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_ENTRY: Final = re.compile(r"^\d+; \d+ \d+ (?P<what>[A-Z].*)$")
_POWERFUL: Final = ("EVENT TRIGGER", "PUBLICATION", "PUBLICATION TABLE", "PUBLICATION TABLES IN SCHEMA", "SUBSCRIPTION")
"""They run code in every session, or reach out of the database."""
_NAMED: Final = re.compile(r"(?P<kind>EVENT TRIGGER|PUBLICATION|SUBSCRIPTION) - (?P<name>.*) \S*$")
_ABOUT: Final = re.compile(rf"(?:COMMENT|SECURITY LABEL|ACL) \S+ (?:EXTENSION|{'|'.join(_POWERFUL)}) ")
_EXTENSION: Final = re.compile(r"EXTENSION - (?P<name>\S+)")


class Listing(Value, frozen=True):
    """The content of a dump, one entry a line."""

    lines: tuple[str, ...]

    @property
    def extensions(self) -> tuple[str, ...]:
        """The names of its extensions."""
        return tuple(found["name"] for line in self.lines if (found := _EXTENSION.match(_describe_line(line))))

    @property
    def of_extensions(self) -> str:
        """The entries of the extensions themselves, for `--use-list`."""
        return _join_lines(line for line in self.lines if _EXTENSION.match(_describe_line(line)))

    @property
    def powerful(self) -> tuple[str, ...]:
        """What `for_a_plain_role` leaves out, in words."""
        named = (_NAMED.match(_describe_line(line)) for line in self.lines)
        return tuple(f"{found['kind'].lower()} {found['name']}" for found in named if found)

    def for_a_plain_role(self, made: Collection[str] | None = None) -> str:
        """Return the entries for `--use-list` that a role without any power may restore.

        Args:
            made: the schemas in which the extensions lie already; None: the role makes the extensions itself.
        """
        there = tuple(f"SCHEMA - {' '.join(name.splitlines())} " for name in made or ())
        there = there if made is None else (*there, "EXTENSION ")
        whats = ((line, _describe_line(line)) for line in self.lines)
        return _join_lines(line for line, what in whats if not _is_powerful(what) and not what.startswith(there))


def parse_listing(text: str) -> Listing:
    r"""Return what pg_restore wrote, without its comments.

    >>> found = parse_listing("; no entry\n2; 3079 16 EXTENSION - hstore \n5; 3466 9 EVENT TRIGGER - watch it me\n")
    >>> found.extensions, found.powerful
    (('hstore',), ('event trigger watch it',))
    """
    return Listing(tuple(line for line in text.split("\n") if _ENTRY.match(line)))


def _describe_line(line: str) -> str:
    found = _ENTRY.match(line)
    return found["what"] if found else ""


def _is_powerful(what: str) -> bool:
    return bool(_ABOUT.match(what)) or what.startswith(tuple(f"{kind} " for kind in _POWERFUL))


def _join_lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
