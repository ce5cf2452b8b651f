"""Parses what the recorder stored: an object's name and bytes in, signed batches out; pure.

An object is `backout/SCRIPT/SECOND-INSTANCE-WINDOW-SEQ`. It holds every batch that this isolate (INSTANCE) made since
WINDOW, so that the highest SEQ of a window stands for all objects of it, however often one was sent. Its first line is
a timestamp and a signature of its name, that timestamp and its body, as in Standard Webhooks 1.0.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from backout.decoding import Undecodable, decode_json
from backout.model.guard.signals import BUCKETS
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFIX: Final = "backout"
UNNAMED: Final = "*"
"""The route of all that the recorder does not tell apart."""
REPLAY_WINDOW_S: Final = 300.0
FEWEST_KEY_BYTES: Final = 24
_WHSEC: Final = "whsec_"
_NAME = re.compile(r"(?P<second>\d{10})-(?P<instance>[0-9a-f]{8})-(?P<window>\d{13})-(?P<seq>\d{1,10})")
_HEAD = re.compile(rb"(\d{1,10}) v1,([A-Za-z0-9+/=]{1,100})\n")

Seconds = Annotated[int, msgspec.Meta(ge=0, le=120)]
Number = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
Bucket = Annotated[int, msgspec.Meta(ge=0, lt=BUCKETS)]


class Unusable(Exception):
    """An object that is not a batch of ours; the text says why."""


class Name(Value, frozen=True):
    """An object's name, taken apart; `group` is what its batches belong to, `seq` which of its objects this is."""

    second: int
    group: tuple[str, int]
    seq: int


class Row(msgspec.Struct, frozen=True):
    """What one version answered in one second on one route; `requests` has no canceled ones and no probes.

    Args:
        triggers: {schedule or queue: (runs, failed)}.
        left: {bucket: count} of the canceled ones by how long they had waited; an earlier recorder tells of none.
        chosen: answers that count nowhere else, as their sender named the version.
        keyed: a row of its own for answers whose version a key chose.
    """

    version: str
    second: Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]
    route: str = UNNAMED
    requests: Number = 0
    errors: Number = 0
    canceled: Number = 0
    probes: Number = 0
    statuses: dict[int, Number] = {}
    latency: dict[Bucket, Number] = {}
    triggers: dict[str, tuple[Number, Number]] = {}
    left: dict[Bucket, Number] = {}
    chosen: Number = 0
    keyed: bool = False


class Held(msgspec.Struct, frozen=True):
    """How long an isolate had held the rows, in seconds, as it had said that it might until then, of that version."""

    version: str
    s: Seconds
    until: Annotated[int, msgspec.Meta(ge=0, le=1 << 40)] = 1 << 40


class Next(msgspec.Struct, frozen=True):
    """The word of an isolate: for how many seconds it may hold counts after this store, of which version alone."""

    version: str
    s: Seconds


class Batch(msgspec.Struct, frozen=True):
    """Rows that were first sent together, in the object `seq`; `lost` answers found no room in the isolate.

    Args:
        stored: when, in Unix milliseconds by the bucket's clock; None while the recorder was not told.
        v: what the recorder knows; from 2 on routes have their method, and schedules and queues are counted; from 3 on
            requests whose sender chose the version are told apart; from 4 on it stores rarely in quiet times.
        templates: whether its routes are templates rather than configured prefixes.
        held: None where the isolate stored at once, or later than it had said.
        next: None where it goes on to store at once.
        gaps: flushes before it that never came.
    """

    rows: tuple[Row, ...]
    seq: Number = 0
    stored: float | None = None
    lost: Number = 0
    v: Number = 1
    templates: bool = False
    held: Held | None = None
    next: Next | None = None
    gaps: Number = 0


class _Body(msgspec.Struct, frozen=True):
    batches: Annotated[tuple[Batch, ...], msgspec.Meta(min_length=1)]


def parse_name(key: str, script: str) -> Name | None:
    """Return the parts of an object's key, None when it is not a batch of this Worker.

    >>> parse_name("backout/shop/1800000000-0badcafe-1799999990000-7", "shop")
    Name(second=1800000000, group=('0badcafe', 1799999990000), seq=7)
    """
    found = _NAME.fullmatch(key.removeprefix(f"{PREFIX}/{script}/"))
    if found is None:
        return None
    return Name(int(found["second"]), (found["instance"], int(found["window"])), int(found["seq"]))


def parse_keys(secret: str) -> tuple[bytes, ...]:
    """Return the signing keys of a secret, `whsec_` and base64; several, parted by white space, while one is replaced.

    Raises:
        ValueError: it is no such secret.
    """
    keys = []
    for part in secret.split():
        try:
            key = base64.b64decode(part.removeprefix(_WHSEC), validate=True)
        except binascii.Error:
            key = b""
        if not part.startswith(_WHSEC) or len(key) < FEWEST_KEY_BYTES:
            raise ValueError(f"it is not {_WHSEC} followed by base64 of at least {FEWEST_KEY_BYTES} bytes")
        keys.append(key)
    if not keys:
        raise ValueError("it is empty")
    return tuple(keys)


def compute_signature(name: str, stamp: int, body: bytes, key: bytes) -> str:
    """Return the signature of an object, base64."""
    return base64.b64encode(hmac.new(key, f"{name}.{stamp}.".encode() + body, hashlib.sha256).digest()).decode()


def open_batches(name: str, stored: float, content: bytes, keys: Sequence[bytes]) -> tuple[Batch, ...]:
    """Return the batches of an object.

    Args:
        stored: when the bucket took it, Unix seconds.

    Raises:
        Unusable: it was not signed by one of the keys under this name within five minutes, or cannot be read.
    """
    body = open_signed(name, stored, content, keys)
    try:
        return decode_json(body, _Body).batches
    except Undecodable as error:
        raise Unusable("unreadable") from error


def open_signed(name: str, at: float, content: bytes, keys: Sequence[bytes]) -> bytes:
    """Return the body of what was signed under a name within five minutes of that time (Unix seconds).

    Raises:
        Unusable: it was not.
    """
    head = _HEAD.match(content)
    if head is None:
        raise Unusable("not signed")
    stamp, body = int(head[1]), content[head.end() :]
    if not any(hmac.compare_digest(compute_signature(name, stamp, body, key), head[2].decode()) for key in keys):
        raise Unusable("badly signed")
    if abs(at - stamp) > REPLAY_WINDOW_S:
        raise Unusable("stored more than five minutes after it was signed")
    return body
