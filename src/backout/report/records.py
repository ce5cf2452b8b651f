"""The versioned JSON envelope: every `--json` answer is one object whose `schema` names its shape; docs/json.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 1


def make_envelope(name: str, payload: Mapping[str, object], *, version: int = VERSION) -> dict[str, object]:
    """Return the payload as JSON values (dataclasses, enums and paths resolved) with its `schema` in front.

    >>> make_envelope("status", {"live": None})
    {'schema': 'backout.status/1', 'live': None}
    """
    values = msgspec.to_builtins(dict(payload), enc_hook=str, str_keys=True)
    return {"schema": f"backout.{name}/{version}", **values}


def encode(record: Mapping[str, object]) -> str:
    """Return one line of JSON; what is not a number in JSON (NaN, infinity) is null."""
    return msgspec.json.encode(record).decode()
