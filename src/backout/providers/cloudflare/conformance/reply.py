"""One answer of the API, and the parts taken from it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from msgspec import field

from backout.decoding import Undecodable, decode_json
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.model.conformance import Fact

_WORD: Final = re.compile(r"[\w-]{1,64}", re.ASCII)


class Reply(Value, frozen=True):
    """One raw answer: HTTP status, the whole JSON (None: it was not JSON), why there is none, and its headers."""

    status: int
    json: object = None
    trouble: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def code(self) -> int | None:
        """The first error code of the envelope."""
        errors = look_up(self.json, "errors")
        first = errors[0] if isinstance(errors, list) and errors else None
        code = look_up(first, "code")
        return code if isinstance(code, int) else None

    @property
    def result(self) -> object:
        """The envelope's result."""
        return look_up(self.json, "result")


class Told(Value, frozen=True):
    """What a call found out: the answer, the facts that are compared, and what is only measured."""

    reply: Reply
    facts: Mapping[str, Fact] = field(default_factory=dict)
    measured: Mapping[str, Fact] = field(default_factory=dict)


class Call(Value, frozen=True):
    """One call.

    Args:
        name, asks: its short name and its question.
        ask: makes it.
        proves: how the rows of docs/providers.md begin that it settles.
        optional: the account-specific parts of its answer.
    """

    name: str
    asks: str
    ask: Callable[[], Told]
    proves: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


def parse_body(body: bytes) -> object:
    """Return a body as JSON, None where it is not JSON."""
    try:
        return decode_json(body)
    except Undecodable:
        return None


def look_up(value: object, key: str) -> object:
    """Return the value of a name in an object, None for nothing."""
    return value.get(key) if isinstance(value, dict) else None


def look_into(value: object, *keys: str) -> object:
    """Return what lies below these names, one within the other, None for nothing."""
    for key in keys:
        value = look_up(value, key)
    return value


def get_first(value: object) -> object:
    """Return the first of a list, None without one."""
    return value[0] if isinstance(value, list) and value else None


def list_items(value: object) -> list[object]:
    """Return a list, an empty one for anything else."""
    return value if isinstance(value, list) else []


def count_items(value: object) -> int | None:
    """Return how many a list holds."""
    return len(value) if isinstance(value, list) else None


def as_number(value: object) -> int | None:
    """Return a number, None for anything else."""
    return value if isinstance(value, int) else None


def as_text(value: object) -> str | None:
    """Return a text, None for anything else."""
    return value if isinstance(value, str) else None


def get_safe_id(value: object) -> str | None:
    """Return an id that may be put into a header, a path or a host name; anything else is not an id of this API."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None
