"""The channel webhook: JSON signed as Standard Webhooks 1.0 (webhook-id, webhook-timestamp, webhook-signature)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Final

from backout.model.clock import to_utc
from backout.providers.notify.channel import SendFailed
from backout.providers.notify.http_post import Post

if TYPE_CHECKING:
    from backout.model.incident.notice import Notice

PREFIX: Final = "whsec_"
FEWEST_KEY_BYTES: Final = 24
_LONGEST_TEXT, _LONGEST_FACT = 8_000, 1_000  # receivers expect less than 20 kB


class Webhook:
    """Posts each notice with a fresh timestamp and the same id every time.

    Args:
        secret: `whsec_` and base64 of at least 24 bytes; several, separated by spaces, all sign, so that a receiver
            can rotate from one to the next.

    Raises:
        SendFailed: the URL or the secret cannot be used.
    """

    def __init__(self, url: str, secret: str) -> None:
        self._post = Post(url)
        self._keys = tuple(_decode_key(part) for part in secret.split())

    def send(self, notice: Notice, now: float) -> None:
        """Send it once."""
        body, identity = make_payload(notice), make_message_id(notice.key)
        stamp = str(int(now))
        signed = f"{identity}.{stamp}.".encode() + body
        signatures = (hmac.new(key, signed, hashlib.sha256).digest() for key in self._keys)
        headers = {
            "webhook-id": identity,
            "webhook-timestamp": stamp,
            "webhook-signature": " ".join(f"v1,{base64.b64encode(each).decode()}" for each in signatures),
        }
        self._post.send(body, headers, now)


def make_message_id(key: str) -> str:
    """Return the id that receivers recognise a notice by; it is the same for every sender and every attempt."""
    return f"msg_{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def make_payload(notice: Notice) -> bytes:
    """Return the body: {type, timestamp, data}, `timestamp` being when it happened."""
    content = {
        "type": f"backout.{notice.kind}",
        "timestamp": to_utc(notice.at).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "data": {
            "environment": notice.environment,
            "title": notice.title[:_LONGEST_FACT],
            "text": notice.text[:_LONGEST_TEXT],
            "run_id": notice.run[:_LONGEST_FACT] or None,
            "next": [command[:_LONGEST_FACT] for command in notice.next],
            **{name: value[:_LONGEST_FACT] for name, value in notice.facts.items()},
        },
    }
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def _decode_key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True) if secret.startswith(PREFIX) else b""
    except binascii.Error:
        key = b""
    if len(key) < FEWEST_KEY_BYTES:
        what = f"its secret is not {PREFIX} followed by base64 of at least {FEWEST_KEY_BYTES} bytes"
        raise SendFailed(what, retry_after_s=300)
    return key
