"""The secrets of a configuration that no header may hold: a health endpoint is sent what it needs, and nothing else."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from backout.config.variables import HEADER, list_uses, recognise_names
from backout.config.written import to_plain
from backout.errors import BackoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backout.config.environment import Environment
    from backout.config.schema import Settings
    from backout.config.secret import Secret

_SHORTEST_SECRET: Final = 8


def reveals(sent: str, secret: str) -> bool:
    """Whether a text reveals a secret; a short one may be in it by chance."""
    return sent == secret or (len(secret) >= _SHORTEST_SECRET and secret in sent)


def list_other_secrets(
    settings: Settings, variables: Environment, readers: tuple[tuple[Callable[[], Secret | None], str], ...]
) -> Iterator[tuple[str, str]]:
    """Yield (kind, value) of the secrets that no header may hold: those of other keys, and well-known ones.

    Args:
        readers: what reads a secret, with the kind of that.
    """
    document = msgspec.to_builtins(settings, enc_hook=to_plain)
    named = [(use.variable, use.kind) for use in list_uses(document) if use.kind != HEADER]
    for variable, kind in (*named, *recognise_names(iter(variables.variables))):
        if value := variables.get(variable):
            yield kind, value
    for read, kind in readers:
        with contextlib.suppress(BackoutError, ValueError):  # not set up, not readable now, not a URL
            if found := read():
                yield kind, found.reveal()
                yield f"the password in {kind}", urlsplit(found.reveal()).password or ""
