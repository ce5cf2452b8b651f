"""Rows of the journal's tables as values; the rule: a row that is not as it was written is an error that names it.

SQLite takes any value in any column, and any program may have written the file: no row is trusted unchecked.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from backout.decoding import UNDECODABLE, Undecodable, decode_own, decode_values, explain_error
from backout.errors import BackoutError
from backout.model.incident.incident import Event

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from backout.model.plan import Json

_Seq = Annotated[int, msgspec.Meta(ge=0)]
Name = Annotated[str, msgspec.Meta(max_length=500)]
"""A name that appears in messages."""
_EventRow = tuple[_Seq, float, Name, Name, _Seq | None, Name, str, Name, str, str]
_OWN = 10
_Writers = Annotated[tuple[Name | None, ...], msgspec.Meta(max_length=1)]


class JournalUnavailable(BackoutError):
    """The journal cannot be used now; what was to be recorded is not recorded.

    Attributes:
        is_away: a server keeps it, and does not answer; nothing is wrong with the journal itself.
    """

    without_journal = True
    is_away = False


class DamagedRow(JournalUnavailable):
    """A row is not as backout writes it; the store adds the file and what to type."""


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn any error that a row's values cause while it is read into DamagedRow.

    Args:
        what: names the row: "event 7".
    """
    try:
        yield
    except DamagedRow:
        raise
    except Undecodable as error:
        raise DamagedRow(f"{what} is not as it was written: {error.what}") from error
    except (*UNDECODABLE, TypeError, LookupError, AttributeError) as error:
        raise DamagedRow(f"{what} is not as it was written: it {explain_error(error)}") from error


def decode_columns(row: object, types: Any, what: str) -> Any:
    """Return a row (or several) as these types. Raises DamagedRow."""
    with reading(what):
        return decode_values(row, types, what="it")


def decode_event(row: Sequence[Any]) -> Event:
    """Return the event of a stored row; its content must not be changed. Raises DamagedRow.

    Args:
        row: the columns of `chain.COLUMNS`, and on a server `writer`.
    """
    return _decode_cached_event(tuple(row))


@lru_cache(maxsize=512)  # a run is read at each of its steps, and its events stay as they are
def _decode_cached_event(row: tuple[Any, ...]) -> Event:
    what = f"event {row[0]!r:.20}"
    seq, at, environment, run, step, kind, text, actor, _, own = decode_columns(row[:_OWN], _EventRow, what)
    writers = decode_columns(row[_OWN:], _Writers, what)
    data = decode_json_object(text, what)
    return Event(seq, at, environment, run, step, kind, data, actor, own, "".join(filter(None, writers)))


def decode_json_value(text: object, what: str) -> Json:
    """Return the JSON value in a column. Raises DamagedRow."""
    with reading(what):
        if not isinstance(text, str):
            raise TypeError
        found: Json = decode_own(text, what="its text")
        return found


def decode_json_object(text: object, what: str) -> Mapping[str, Json]:
    """Return the JSON object in a column. Raises DamagedRow."""
    found = decode_json_value(text, what)
    if not isinstance(found, dict):
        raise DamagedRow(f"{what} is not as it was written: its text is no object")
    return found


Number = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
"""A count of one second."""
