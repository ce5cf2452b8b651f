"""What backout writes into a deployment's message, and what it reads out of it again; pure (safety rule 15).

A remark stands in brackets in front of the text, and its longest form has 75 bytes: providers cut messages, the
strictest known limit is 100. So every machine reads the same marks from the provider, with an empty journal too.

    [backout rollback-1a2b3c4d auto hop=1 bad=1a2b3c4d/0123456789ab/abcdef1] the reason
    [backout rollback-1a2b3c4d prove] at 0 %, to be asked before it gets traffic
    [backout guard-1a2b3c4d stable=1a2b3c4d/0123456789ab/abcdef1] the reason
    [backout hold until=2026-11-25T12:00:00Z] the reason
    [backout release ok=1a2b3c4d/0123456789ab/abcdef1] the reason
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from backout.model.deployment import Mark, VersionId, VersionMark
from backout.model.hold import Hold

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backout.model.deployment import Deployment, Version

VERSION_DIGITS, CODE_DIGITS, SHA_DIGITS = 8, 12, 7
_REMARK = re.compile(r"^\[backout ([^\]\s]+)((?: [^\]\s]+)*)\] ?")


class RemarkKind(StrEnum):
    """What a deployment of ours is for."""

    ROLLBACK = "rollback"  # the one kind that moves traffic
    PROVE = "prove"
    STABLE = "stable"
    HOLD = "hold"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Code:
    """Which code a remark speaks of: first digits of version id, code hash and commit; "" where unknown."""

    version: str
    code_hash: str = ""
    git_sha: str = ""

    @classmethod
    def of(cls, version: Version) -> Code:
        """Return the code of a version."""
        return cls(version.id[:VERSION_DIGITS], (version.code_hash or "")[:CODE_DIGITS], version.git_sha[:SHA_DIGITS])

    def __str__(self) -> str:
        return f"{self.version}/{self.code_hash}/{self.git_sha}"


@dataclass(frozen=True, slots=True)
class Remark:
    """One remark.

    Args:
        run: the run that made it, "" for a person's hold or release. auto: nobody typed it. hop: the how-manieth
            rollback in a row. code: what was left, proven or released. until: of a hold, Unix seconds (0: lifted).
    """

    kind: RemarkKind
    run: str = ""
    auto: bool = False
    hop: int = 1
    code: Code | None = None
    until: float = 0.0
    text: str = ""

    def __str__(self) -> str:
        words = [self.run or str(self.kind)]
        if self.kind is RemarkKind.ROLLBACK:
            words += (["auto"] if self.auto else []) + ([f"hop={self.hop}"] if self.hop > 1 else [])
        if self.kind is RemarkKind.PROVE:
            words.append("prove")
        if self.kind is RemarkKind.HOLD:
            until = f"{datetime.fromtimestamp(self.until, UTC):%Y-%m-%dT%H:%M:%SZ}" if self.until else "0"
            words.append(f"until={until}")
        name = {RemarkKind.ROLLBACK: "bad", RemarkKind.STABLE: "stable", RemarkKind.RELEASE: "ok"}.get(self.kind)
        if self.code is not None and name:
            words.append(f"{name}={self.code}")
        return f"[backout {' '.join(words)}] {self.text}".rstrip()


def parse(message: str) -> Remark | None:
    """Return the remark in front of a message, or None when there is none that can be read.

    >>> parse("[backout rollback-1a2b3c4d auto bad=1a2b3c4d/0123456789ab/] it fails").auto
    True
    >>> parse("deploy of main")
    """
    found = _REMARK.match(message)
    if found is None:
        return None
    first, text = found[1], message[found.end() :]
    words = found[2].split()
    values = dict(word.split("=", 1) for word in words if "=" in word)
    if first == "hold":
        return Remark(RemarkKind.HOLD, until=_seconds(values.get("until", "")), text=text)
    if first == "release":
        return Remark(RemarkKind.RELEASE, code=_code(values.get("ok")), text=text)
    if "prove" in words:
        return Remark(RemarkKind.PROVE, first, text=text)
    if "stable" in values:
        return Remark(RemarkKind.STABLE, first, code=_code(values["stable"]), text=text)
    hop = values.get("hop", "1")
    return Remark(
        RemarkKind.ROLLBACK,
        first,
        auto="auto" in words,
        hop=int(hop) if hop.isdecimal() else 1,
        code=_code(values.get("bad")),
        text=text,
    )


def _code(text: str | None) -> Code | None:
    parts = (text or "").split("/")
    return Code(*parts) if len(parts) == 3 and parts[0] else None  # noqa: PLR2004 the three parts of `Code`


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp() if text not in ("", "0") else 0.0
    except ValueError:
        return 0.0


def is_remark(deployment: Deployment, before: Deployment | None) -> bool:
    """Whether a deployment only says something: the versions with traffic are those of the deployment before it."""
    remark = parse(deployment.message)
    if remark is None or remark.kind is RemarkKind.ROLLBACK:
        return False
    return before is None or _serving(deployment) == _serving(before)


def _serving(deployment: Deployment) -> set[tuple[str, float]]:
    return {(share.version, share.percentage) for share in deployment.shares if share.percentage > 0}


def underneath(history: Sequence[Deployment]) -> Deployment:
    """Return the deployment that decides what has traffic: the newest that is more than a remark.

    When the provider lists nothing but remarks, the oldest of them stands for it.
    """
    for number, deployment in enumerate(history):
        before = history[number + 1] if number + 1 < len(history) else None
        if not is_remark(deployment, before):
            return deployment
    return history[-1]


def plain_history(history: Sequence[Deployment]) -> tuple[Deployment, ...]:
    """Return the history without the deployments that only say something, newest first."""
    if not history:
        return ()
    pairs = zip(history, [*history[1:], None], strict=True)
    kept = tuple(deployment for deployment, before in pairs if not is_remark(deployment, before))
    return kept or (history[-1],)


def rollbacks(history: Iterable[Deployment], *, since: float) -> tuple[tuple[Deployment, Remark], ...]:
    """Return the rollbacks that backout made on any machine since then, newest first."""
    found = ((deployment, parse(deployment.message)) for deployment in history if deployment.created_at >= since)
    return tuple((d, remark) for d, remark in found if remark is not None and remark.kind is RemarkKind.ROLLBACK)


def proving(history: Sequence[Deployment], *, apart_from: str, since: float) -> tuple[Deployment, Remark] | None:
    """Return the proof that another run is making just now (its target stands at 0 %), or None."""
    if not history:
        return None
    remark = parse(history[0].message)
    if remark is None or remark.kind is not RemarkKind.PROVE or remark.run == apart_from:
        return None
    return (history[0], remark) if history[0].created_at >= since else None


def hold_in(history: Iterable[Deployment]) -> Hold | None:
    """Return the newest hold that the provider's history tells (it may be over, or lifted), or None."""
    for deployment in history:
        remark = parse(deployment.message)
        if remark is not None and remark.kind is RemarkKind.HOLD:
            return Hold(
                remark.until, remark.text, deployment.author, deployment.created_at, f"deployment {deployment.id}"
            )
    return None


_MARKS = {
    RemarkKind.ROLLBACK: Mark.QUARANTINED,
    RemarkKind.STABLE: Mark.STABLE,
    RemarkKind.RELEASE: Mark.RELEASED,
}


def marks_in(history: Iterable[Deployment], versions: Iterable[Version]) -> tuple[VersionMark, ...]:
    """Return the marks that the provider's history tells, oldest first; ids are completed where they are known."""
    known = list(versions)
    found = []
    for deployment in history:
        remark = parse(deployment.message)
        if remark is None or remark.code is None or remark.kind not in _MARKS:
            continue
        code = remark.code
        version = next((v for v in known if v.id.startswith(code.version)), None)
        found.append(
            VersionMark(
                mark=_MARKS[remark.kind],
                version=version.id if version else VersionId(code.version),
                code_hash=code.code_hash or None,
                at=deployment.created_at,
                run=remark.run,
                why=remark.text,
                git_sha=code.git_sha,
            )
        )
    return tuple(reversed(found))


def merged(journal: Sequence[VersionMark], provider: Iterable[VersionMark]) -> tuple[VersionMark, ...]:
    """Return all marks, oldest first; what both the journal and the provider tell is the journal's, told in full."""
    told = [mark for mark in provider if not any(_same_mark(mark, known) for known in journal)]
    return tuple(sorted([*journal, *told], key=lambda mark: mark.at)) if told else tuple(journal)


def _same_mark(provider: VersionMark, journal: VersionMark) -> bool:
    return (
        provider.mark is journal.mark
        and provider.run == journal.run
        and bool(provider.run)
        and journal.version.startswith(provider.version[:VERSION_DIGITS])
    )
