"""What backout writes into a deployment's message, and what it reads out of it again; pure (safety rule 15).

A remark stands in brackets in front of the text, and its longest form has 75 bytes: providers cut messages, the
strictest known limit is 100. So every machine reads the same marks from the provider, with an empty journal too.

    [backout rollback-1a2b3c4d auto hop=1 bad=1a2b3c4d/0123456789ab/abcdef1] the reason
    [backout ramp-1a2b3c4d ramp] to 50 %: the reason
    [backout secrets-1a2b3c4d secrets] the reason
    [backout rollback-1a2b3c4d prove] at 0 %, to be asked before it gets traffic
    [backout guard-1a2b3c4d stable=1a2b3c4d/0123456789ab/abcdef1] the reason
    [backout hold until=2026-11-25T12:00:00Z] the reason
    [backout release ok=1a2b3c4d/0123456789ab/abcdef1] the reason
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from backout.model.clock import utc
from backout.model.deployment import Mark, VersionId, VersionMark
from backout.model.hold import Hold

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backout.model.deployment import Deployment, Version

VERSION_DIGITS, CODE_DIGITS, SHA_DIGITS = 8, 12, 7
_REMARK = re.compile(r"\[backout ([^\]\s]+)((?: [^\]\s]+)*)\] ?")
_CODE = re.compile(rf"([\w.-]{{1,{VERSION_DIGITS}}})/([\w.-]{{0,{CODE_DIGITS}}})/([\w.-]{{0,{SHA_DIGITS}}})", re.ASCII)
_HOP = re.compile(r"[1-9][0-9]?", re.ASCII)


class RemarkKind(StrEnum):
    """What a deployment of ours is for."""

    ROLLBACK = "rollback"  # this one and the next two move traffic
    RAMP = "ramp"
    SECRETS = "secrets"  # the same code with other secrets
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

    @classmethod
    def marked(cls, mark: VersionMark) -> Code:
        """Return the code that a mark speaks of."""
        return cls(mark.version[:VERSION_DIGITS], (mark.code_hash or "")[:CODE_DIGITS], mark.git_sha[:SHA_DIGITS])

    def __str__(self) -> str:
        return f"{self.version[:VERSION_DIGITS]}/{self.code_hash[:CODE_DIGITS]}/{self.git_sha[:SHA_DIGITS]}"


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
        if self.kind in (RemarkKind.PROVE, RemarkKind.RAMP, RemarkKind.SECRETS):
            words.append(str(self.kind))
        if self.kind is RemarkKind.HOLD:
            until = f"{utc(self.until):%Y-%m-%dT%H:%M:%SZ}" if self.until else "0"
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
    if "ramp" in words:
        return Remark(RemarkKind.RAMP, first, text=text)
    if "secrets" in words:
        return Remark(RemarkKind.SECRETS, first, text=text)
    if "stable" in values:
        return Remark(RemarkKind.STABLE, first, code=_code(values["stable"]), text=text)
    hop = values.get("hop", "1")
    return Remark(
        RemarkKind.ROLLBACK,
        first,
        auto="auto" in words,
        hop=int(hop) if _HOP.fullmatch(hop) else 1,
        code=_code(values.get("bad")),
        text=text,
    )


def _code(text: str | None) -> Code | None:
    found = _CODE.fullmatch(text or "")
    return Code(found[1], found[2], found[3]) if found else None


def _seconds(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def without_remark(message: str) -> str:
    """Return the text that a person reads: a message without the remark in front of it.

    >>> without_remark("[backout rollback-1a2b3c4d auto bad=1a2b3c4d/0123456789ab/] it fails")
    'rolled back: it fails'
    """
    remark = parse(message)
    if remark is None:
        return message
    return f"rolled back: {remark.text}" if remark.kind is RemarkKind.ROLLBACK else remark.text


def is_remark(deployment: Deployment, before: Deployment | None) -> bool:
    """Whether a deployment only says something: the versions with traffic are those of the deployment before it.

    The oldest that the provider lists is none: it stands for the deployment that it pushed out of the list.
    """
    return before is not None and _says(deployment) and serving(deployment) == serving(before)


def _says(deployment: Deployment) -> bool:
    remark = parse(deployment.message)
    return remark is not None and remark.kind not in (RemarkKind.ROLLBACK, RemarkKind.RAMP, RemarkKind.SECRETS)


def serving(deployment: Deployment) -> set[tuple[str, float]]:
    """Return (version, percentage) of what gets traffic in a deployment."""
    return {(share.version, share.percentage) for share in deployment.shares if share.percentage > 0}


def underneath(history: Sequence[Deployment]) -> Deployment:
    """Return the deployment that decides what has traffic: the newest that is more than a remark."""
    return next(iter(plain_history(history)))


def plain_history(history: Sequence[Deployment]) -> tuple[Deployment, ...]:
    """Return the history without the deployments that only say something, newest first."""
    pairs = zip(history, [*history[1:], None], strict=True) if history else ()
    return tuple(deployment for deployment, before in pairs if not is_remark(deployment, before))


def still_decides(history: Sequence[Deployment], expected: str, version: str = "") -> bool:
    """Whether that deployment still decides what has traffic.

    So it does when remarks upon remarks have pushed it out of the provider's list, and nothing else is listed. They
    may be remarks on a hotfix that they pushed out as well: so `version`, which it served, must have traffic.
    """
    live = underneath(history)
    if live.id == expected:
        return True
    pushed_out = live is history[-1] and _says(live) and all(deployment.id != expected for deployment in history)
    return pushed_out and (not version or live.serves(version))


def remark_of(history: Sequence[Deployment], deployment: Deployment) -> RemarkKind | None:
    """Return what a listed deployment says when it only says something, else None."""
    ids = [listed.id for listed in history]
    below = history[ids.index(deployment.id) + 1 :] if deployment.id in ids else ()
    said = parse(deployment.message) if below and is_remark(deployment, below[0]) else None
    return said.kind if said else None


def told_stable(history: Iterable[Deployment], version: str) -> Deployment | None:
    """Return the deployment whose remark says that a version is stable, when that is the newest word on the version."""
    for deployment in history:
        remark = parse(deployment.message)
        if remark is None or remark.code is None or remark.kind not in _MARKS:
            continue
        if same_version(remark.code.version, version):
            return deployment if remark.kind is RemarkKind.STABLE else None
    return None


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


def marks_in(history: Sequence[Deployment], versions: Iterable[Version]) -> tuple[VersionMark, ...]:
    """Return the marks that the provider's history tells, oldest first.

    Version ids are completed where the provider still names them, else they have their first 8 digits.
    """
    known = [*(v.id for v in versions), *(share.version for d in history for share in d.shares)]
    found = []
    for deployment in reversed(history):
        remark = parse(deployment.message)
        if remark is None or remark.code is None or remark.kind not in _MARKS:
            continue
        code = remark.code
        found.append(
            VersionMark(
                mark=_MARKS[remark.kind],
                version=next((v for v in known if v.startswith(code.version)), VersionId(code.version)),
                code_hash=code.code_hash or None,
                at=deployment.created_at,
                run=remark.run,
                why=remark.text,
                git_sha=code.git_sha,
                by=deployment.author,
            )
        )
    return tuple(found)


def merged(journal: Sequence[VersionMark], provider: Sequence[VersionMark]) -> tuple[VersionMark, ...]:
    """Return all marks, oldest first.

    What both tell is told once, with the journal's details, at the provider's time and in its order: so marks of
    several machines are ordered by one clock, whatever theirs say.
    """
    rest = list(journal)
    placed: list[tuple[float, int, VersionMark]] = []
    for place, told in enumerate(provider, start=1):
        same = next((mark for mark in rest if same_mark(told, mark)), None)
        if same is not None:
            rest.remove(same)
        placed.append((told.at, place, told if same is None else replace(same, at=told.at)))
    placed += [(mark.at, 0, mark) for mark in rest]
    return tuple(mark for _, _, mark in sorted(placed, key=lambda entry: entry[:2]))


def same_mark(provider: VersionMark, journal: VersionMark) -> bool:
    """Whether both tell the same act: a run makes each mark once; a person's release has the provider's own time."""
    return (
        provider.mark is journal.mark
        and provider.run == journal.run
        and (bool(provider.run) or provider.at == journal.at)
        and same_version(provider.version, journal.version)
    )


def same_version(one: str, other: str) -> bool:
    """Whether two ids mean the same version; one of which only the first 8 digits are known is a prefix."""
    short, long = sorted((one, other), key=len)
    return short == long or (len(short) == VERSION_DIGITS and long.startswith(short))


def same_hash(one: str | None, other: str | None) -> bool:
    """Whether two hashes mean the same code; one of which only the first 12 digits are known is a prefix."""
    short, long = sorted((one or "", other or ""), key=len)
    return bool(short) and (short == long or (len(short) == CODE_DIGITS and long.startswith(short)))


def same_commit(one: str, other: str) -> bool:
    """Whether two abbreviated commits are the same; fewer than 7 digits say nothing."""
    digits = min(len(one), len(other))
    return digits >= SHA_DIGITS and one[:digits].lower() == other[:digits].lower()
