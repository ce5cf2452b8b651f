"""Names that come from outside (records, object keys, journals, plans, arguments) and become paths, keys or arguments.

Whatever is joined to a path or an object's key, or handed to a program, has passed one of these functions; a test reads
the code for places that go around them.
"""

from __future__ import annotations

import re
from typing import Final

from backout.errors import Refused

_ID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,62}")
_CLUSTER: Final = re.compile(r"[0-9]{1,20}")
_SEGMENT: Final = re.compile(r"[0-9A-F]{24}")
_HISTORY: Final = re.compile(r"[0-9A-F]{8}\.history")
_PARTIAL: Final = ".partial"
_KEY_PART: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}")
_LONGEST_SHOWN: Final = 80


def parse_id(text: object, what: str = "a name") -> str:
    """Return the id of a backup, a dump, a side instance or a mark: letters, digits, `-` and `_`, 63 at most.

    Args:
        what: what it is the id of, for the error.

    Raises:
        Refused: it is something else, such as a path or an option.

    >>> parse_id("20261125-190203F_20261126-190203I")
    '20261125-190203F_20261126-190203I'
    >>> parse_id("../../home")
    Traceback (most recent call last):
    backout.errors.Refused: '../../home' is not a name
    """
    return _check_match(_ID, text, what)


def is_id(text: str) -> bool:
    """Whether `parse_id` takes it."""
    return _ID.fullmatch(text) is not None


def parse_cluster(text: object) -> str:
    """Return a cluster's system identifier: digits. Raises Refused."""
    return _check_match(_CLUSTER, text, "the system identifier of a cluster")


def parse_segment(text: object) -> str:
    """Return the name of a WAL segment, perhaps with `.partial` behind it. Raises Refused.

    >>> parse_segment("00000001000000010000002A.partial")
    '00000001000000010000002A.partial'
    """
    whole = text.removesuffix(_PARTIAL) if isinstance(text, str) else text
    _check_match(_SEGMENT, whole, "the name of a WAL segment")
    return str(text)


def is_segment(text: str) -> bool:
    """Whether this is the name of a whole segment, nothing behind it."""
    return _SEGMENT.fullmatch(text) is not None


def is_history(text: str) -> bool:
    """Whether this is the name of a timeline's history file."""
    return _HISTORY.fullmatch(text) is not None


def parse_wal_file(text: object) -> str:
    """Return the name of a segment, a partial one, or a history file. Raises Refused."""
    return text if isinstance(text, str) and is_history(text) else parse_segment(text)


def is_wal_file(text: str) -> bool:
    """Whether `parse_wal_file` takes it."""
    return is_history(text) or is_segment(text.removesuffix(_PARTIAL))


def parse_member(text: object) -> str:
    """Return the relative path of a file within a backup: no empty part, no `.` and no `..`, not absolute.

    Raises:
        Refused: it leads, or may lead, out of the backup.

    >>> parse_member("base/5/2619_fsm")
    'base/5/2619_fsm'
    >>> parse_member("base/../../x")
    Traceback (most recent call last):
    backout.errors.Refused: 'base/../../x' is not a file within a backup
    """
    if not isinstance(text, str) or "\0" in text or any(part in {"", ".", ".."} for part in text.split("/")):
        raise _make_refusal(text, "a file within a backup")
    return text


def parse_key(text: object) -> str:
    """Return the key of an object in a store: letters, digits, `.`, `_` and `-` between slashes. Raises Refused.

    >>> parse_key("base/20261125-190203/record.json")
    'base/20261125-190203/record.json'
    """
    if not isinstance(text, str) or not is_key(text):
        raise _make_refusal(text, "the key of an object")
    return text


def is_key(text: str) -> bool:
    """Whether `parse_key` takes it."""
    return all(_KEY_PART.fullmatch(part) for part in text.split("/"))


def _check_match(pattern: re.Pattern[str], text: object, what: str) -> str:
    if not isinstance(text, str) or pattern.fullmatch(text) is None:
        raise _make_refusal(text, what)
    return text


def _make_refusal(text: object, what: str) -> Refused:
    shown = repr(text)
    cut = shown if len(shown) <= _LONGEST_SHOWN else shown[: _LONGEST_SHOWN - 1] + "…"
    return Refused(f"{cut} is not {what}")
