"""Remarks: backout's statements in deployment messages, their format, and why a message may not count.

A message is free text: a pipeline puts the subject of a commit there. So a text becomes a remark that counts in
one place only, `analysis.history.marks.read_marks`, which compares it with what the deployment did.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from backout.model.clock import to_utc
from backout.model.value import Value
from backout.model.version import is_commit
from backout.model.witness import Witness  # noqa: TC001 - the tests' generators read the types

if TYPE_CHECKING:
    from backout.model.version import Version, VersionMark

VERSION_DIGITS, CODE_DIGITS, SHA_DIGITS = 8, 12, 7
_MOVES_NOTHING: Final = re.compile(r"\[backout (?:hold|release|[^ \]]+ (?:prove|pair|stable=|questioned=))")


class RemarkKind(StrEnum):
    """The purpose of a deployment of ours."""

    ROLLBACK = "rollback"  # this one and the next three move traffic
    RAMP = "ramp"
    SECRETS = "secrets"  # the same code with other secrets
    MAINTENANCE = "maintenance"  # a version that answers 503 to everything
    PROVE = "prove"
    PAIR = "pair"  # the version before stands at 0 %, to be asked beside the new one
    STABLE = "stable"
    QUESTIONED = "questioned"  # it was stable, and a later look contradicts that
    HOLD = "hold"
    RELEASE = "release"

    @property
    def moves_traffic(self) -> bool:
        """Whether such a deployment is more than a remark."""
        return self in (RemarkKind.ROLLBACK, RemarkKind.RAMP, RemarkKind.SECRETS, RemarkKind.MAINTENANCE)


class Doubt(StrEnum):
    """Why a message that reads like a remark does not count."""

    SHARES = "it gave traffic to other versions than such a mark's deployment does"
    OTHER_CODE = "the code that it made live is not the code that it speaks of"
    NOT_BEFORE = "what it made live had no traffic before the version that it calls bad, so it is no rollback"
    UNSIGNED = "it is not signed with the key of this environment's marks"
    PUSHED_OUT = "the deployment that it was written on is not listed any more"


class Code(Value, frozen=True):
    """The code that a remark refers to: first digits of version id, code hash and commit; "" where unknown."""

    version: str
    code_hash: str = ""
    git_sha: str = ""

    @classmethod
    def of(cls, version: Version) -> Code:
        """Return the code of a version."""
        return cls(version.id[:VERSION_DIGITS], (version.code_hash or "")[:CODE_DIGITS], _cut_commit(version.git_sha))

    @classmethod
    def of_mark(cls, mark: VersionMark) -> Code:
        """Return the code that a mark refers to."""
        return cls(mark.version[:VERSION_DIGITS], (mark.code_hash or "")[:CODE_DIGITS], _cut_commit(mark.git_sha))

    def __str__(self) -> str:
        return f"{self.version[:VERSION_DIGITS]}/{self.code_hash[:CODE_DIGITS]}/{self.git_sha[:SHA_DIGITS]}"


def _cut_commit(git_sha: str) -> str:
    """Return the first digits of a commit; "" for a name, whose beginning tells nothing."""
    return git_sha[:SHA_DIGITS] if is_commit(git_sha) else ""


_NAMES = {
    RemarkKind.ROLLBACK: "bad",
    RemarkKind.STABLE: "stable",
    RemarkKind.QUESTIONED: "questioned",
    RemarkKind.RELEASE: "ok",
}
"""What the code that a remark speaks of is."""


NAMED_BY_KIND = (
    RemarkKind.PROVE,
    RemarkKind.PAIR,
    RemarkKind.RAMP,
    RemarkKind.SECRETS,
    RemarkKind.MAINTENANCE,
)
"""Remarks that say nothing but what they are."""


class Remark(Value, frozen=True):
    """One remark.

    Args:
        run: the run that made it, "" for a person's hold or release.
        auto: no person typed it.
        hop: which rollback in a row it is, counted from 1.
        code: the code that was left, proven, questioned or released.
        until: of a hold, Unix seconds (0: lifted).
        incident: the run that began the incident in which a hold was set, or "".
        signature: see `analysis.history.seal`.
        witness: of the journal of who made it, None where none could be read; no signature covers it.
    """

    kind: RemarkKind
    run: str = ""
    auto: bool = False
    hop: int = 1
    code: Code | None = None
    until: float = 0.0
    incident: str = ""
    signature: str = ""
    text: str = ""
    witness: Witness | None = None

    @property
    def head(self) -> str:
        """The part in brackets, in front of the reason."""
        words = [self.run or str(self.kind)]
        if self.kind is RemarkKind.ROLLBACK:
            words += (["auto"] if self.auto else []) + ([f"hop={self.hop}"] if self.hop > 1 else [])
        if self.kind in NAMED_BY_KIND:
            words.append(str(self.kind))
        if self.kind is RemarkKind.HOLD:
            until = f"{to_utc(self.until):%Y-%m-%dT%H:%M:%SZ}" if self.until else "0"
            words += [f"until={until}", *([f"in={self.incident}"] if self.incident else [])]
        name = _NAMES.get(self.kind)
        if self.code is not None and name:
            words.append(f"{name}={self.code}")
        if self.signature:
            words.append(f"sig={self.signature}")
        return f"[backout {' '.join(words)}]"

    def __str__(self) -> str:
        witness = f"journal={self.witness} " if self.witness is not None else ""
        return f"{self.head} {witness}{self.text}".rstrip()


def looks_like_mark(message: str) -> bool:
    """Whether a message looks like that of a remark that moves no traffic; whether it counts is not judged here."""
    return _MOVES_NOTHING.match(message) is not None
