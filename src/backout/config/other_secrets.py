"""The secrets of a configuration that no header may hold: a health endpoint is sent what it needs, and nothing else."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from backout.config.written import to_plain
from backout.errors import BackoutError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.config.effective import Config


def list_other_secrets(config: Config) -> Iterator[tuple[str, str]]:
    """Yield (kind, value) of the secrets that no header may hold: those of other keys, and well-known ones."""
    from backout.config.variables import DATABASE, HEADER, TOKEN, list_uses, recognise_names

    document = msgspec.to_builtins(config.settings, enc_hook=to_plain)
    named = [(use.variable, use.kind) for use in list_uses(document) if use.kind != HEADER]
    for variable, kind in (*named, *recognise_names(iter(config.variables.variables))):
        if value := config.variables.get(variable):
            yield kind, value
    for read, kind in (
        (config.token, TOKEN),
        (config.read_token, TOKEN),
        (config.secrets_token, TOKEN),
        (config.database_url, DATABASE),
        (config.database_admin_url, DATABASE),
    ):
        with contextlib.suppress(BackoutError, ValueError):  # not set up, not readable now, not a URL
            if found := read():
                yield kind, found.reveal()
                yield f"the password in {kind}", urlsplit(found.reveal()).password or ""
