"""Signatures of remarks: proof that the key's holder made the mark, for this environment and deployment; pure.

A signature is the first 80 bits of an HMAC-SHA256 (14 characters), so that a remark still fits into the strictest known
limit of messages. Without the key signatures can only be guessed, each by a deployment in plain sight: a thousand a
second find one of 2^80 in 38 million million years.

It covers everything that the remark does, the account and the Worker, and the id of the deployment beneath it: a copy
of it in another place, or later, is not signed. It does not cover the reason, which a provider may cut.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec.structs import replace

if TYPE_CHECKING:
    from backout.model.remark import Remark

_BYTES = 10
_WHAT = "backout mark 1"


@dataclass(frozen=True, slots=True)
class Seal:
    """The keys that the marks of one environment are signed with.

    Args:
        place: account and Worker.
        keys: the first one signs, each is good; none: nothing can be signed or checked here, although marks are signed.
        variable: the variable that should hold them, for a message.
    """

    place: str
    keys: tuple[bytes, ...] = field(default=(), repr=False)
    variable: str = "the variable that [marks] key_env names"

    def sign(self, remark: Remark, beneath: str) -> Remark:
        """Return the remark with its signature; as it is without a key.

        Args:
            beneath: the id of the newest deployment, on which it will lie.
        """
        return (
            replace(remark, signature=_make_signature(self.keys[0], self.place, remark, beneath))
            if self.keys
            else remark
        )

    def is_good(self, remark: Remark, beneath: str) -> bool:
        """Whether a remark was signed with one of the keys, for the place where it is."""
        told = remark.signature.encode()
        return any(
            hmac.compare_digest(_make_signature(key, self.place, remark, beneath).encode(), told) for key in self.keys
        )


def _make_signature(key: bytes, place: str, remark: Remark, beneath: str) -> str:
    text = f"{_WHAT}\n{place}\n{beneath}\n{replace(remark, signature='').head}"
    digest = hmac.digest(key, text.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest[:_BYTES]).decode().rstrip("=")
