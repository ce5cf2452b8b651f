"""Secrets with parts: the access key of a bucket, as JSON (as `backout twin` writes it), and signing keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from backout.config.secret import Secret
from backout.decoding import Undecodable, decode_json
from backout.errors import AuthError
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable


class _Key(msgspec.Struct):
    access_key_id: str
    secret_access_key: str
    endpoint: str = ""


class BucketAccess(Value, frozen=True):
    """An access key; `endpoint` is "" if the JSON names none."""

    access_key_id: str
    secret_access_key: Secret
    endpoint: str = ""


def parse_access(found: Secret, on_secret: Callable[[str], None], where: str) -> BucketAccess:
    """Return the access key in a secret's JSON; the key's own secret is masked in the output from now on.

    Raises:
        AuthError: it is not such JSON.
    """
    try:
        key = decode_json(found.reveal(), _Key)
    except Undecodable:
        what = f"{found.name} is no JSON object with access_key_id and secret_access_key"
        raise AuthError(what, where=where, hint='{"access_key_id": "...", "secret_access_key": "..."}') from None
    on_secret(key.secret_access_key)
    return BucketAccess(key.access_key_id, Secret(key.secret_access_key, name=found.name), key.endpoint)


MOST_KEYS, KEY_CHARACTERS = 2, 16


def parse_keys(found: Secret, on_secret: Callable[[str], None], where: str) -> tuple[Secret, ...]:
    """Return the keys in a secret, one, or two during a change; each is masked in the output from now on.

    Raises:
        AuthError: there are more, or one is too short.
    """
    parts = [part.strip() for part in found.reveal().replace("\n", ",").split(",") if part.strip()]
    if len(parts) > MOST_KEYS:
        what = f"{found.name} holds {len(parts)} keys: one, or two while it is changed, the new one first"
        raise AuthError(what, where=where, hint="drop the oldest")
    if not parts or any(len(part) < KEY_CHARACTERS for part in parts):
        what = f"{found.name} holds no key of {KEY_CHARACTERS} or more characters (or two, while it is changed)"
        raise AuthError(what, where=where, hint="openssl rand -hex 32  # makes one")
    for part in parts:
        on_secret(part)
    return tuple(Secret(part, name=found.name) for part in parts)
