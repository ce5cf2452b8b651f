"""Reads a history with its marks: what decides the traffic, which versions are good or bad; pure (rule 15).

Every machine reads the same marks from the provider, with an empty journal too. What is asked here is the `remark` of
a deployment, which only `analysis.history.marks` hands on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.model.hold import UNSIGNED_S, Hold
from backout.model.remark import CODE_DIGITS, VERSION_DIGITS, Doubt, RemarkKind
from backout.model.version import Mark, VersionId, VersionMark, is_commit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backout.model.deployment import Deployment
    from backout.model.remark import Remark
    from backout.model.version import Version


_SAID: Final = {RemarkKind.ROLLBACK: "rolled back", RemarkKind.MAINTENANCE: "maintenance"}


def get_text(deployment: Deployment) -> str:
    """Return the text that a person reads: the message without the remark in front of it, when that is one."""
    remark = deployment.remark
    if remark is None:
        return deployment.message
    return f"{_SAID[remark.kind]}: {remark.text}" if remark.kind in _SAID else remark.text


def is_remark(deployment: Deployment) -> bool:
    """Whether a deployment only says something: the versions with traffic are those of the deployment before it.

    The oldest that the provider lists is none: it stands for the deployment that it pushed out of the list.
    """
    said = find_remark(deployment)
    return said is not None and not said.kind.moves_traffic


def find_remark(deployment: Deployment) -> Remark | None:
    """Return what a deployment's message says and its shares bear out, whether it is signed or not."""
    return deployment.claim if deployment.doubt in (None, Doubt.UNSIGNED) else None


def is_made_by(deployment: Deployment, kind: RemarkKind) -> bool:
    """Whether a deployment is one of backout's own, of that kind."""
    return deployment.remark is not None and deployment.remark.kind is kind


def list_serving(deployment: Deployment) -> set[tuple[str, float]]:
    """Return (version, percentage) of what gets traffic in a deployment."""
    return {(share.version, share.percentage) for share in deployment.shares if share.percentage > 0}


def is_served_alike(one: Deployment, other: Deployment) -> bool:
    """Whether the same versions get the same traffic in two deployments, of each cohort too."""

    def list_cohorts(deployment: Deployment) -> set[tuple[str, str, float]]:
        every = ((cohort.name, each) for cohort in deployment.cohorts for each in cohort.shares)
        return {(name, str(each.version), each.percentage) for name, each in every if each.percentage > 0}

    return list_serving(one) == list_serving(other) and list_cohorts(one) == list_cohorts(other)


def find_underneath(history: Sequence[Deployment]) -> Deployment:
    """Return the deployment that decides what has traffic: the newest that is more than a remark."""
    return next(iter(drop_remarks(history)))


def drop_remarks(history: Sequence[Deployment]) -> tuple[Deployment, ...]:
    """Return the history without the deployments that only say something, newest first."""
    return tuple(deployment for deployment in history if not is_remark(deployment))


def list_of_application(history: Sequence[Deployment]) -> tuple[Deployment, ...]:
    """Return the deployments of the application's own versions, newest first: neither remarks nor maintenance."""
    return tuple(deployment for deployment in drop_remarks(history) if not deployment.is_maintenance)


def is_deciding(history: Sequence[Deployment], expected: str, version: str = "") -> bool:
    """Whether that deployment still decides what has traffic.

    So it does when remarks upon remarks have pushed it out of the provider's list, and nothing else is listed. They
    may be remarks on a hotfix that they pushed out as well: so `version`, which it served, must have traffic.
    """
    live = find_underneath(history)
    if live.id == expected:
        return True
    is_oldest = live is history[-1] and live.doubt is Doubt.PUSHED_OUT
    pushed_out = is_oldest and all(deployment.id != expected for deployment in history)
    return pushed_out and (not version or live.serves(version))


def is_half_made(history: Sequence[Deployment], expected: str, run: str) -> bool:
    """Whether hosts differ only because a run's own switch has not reached all of them yet.

    Args:
        expected: the deployment that the run was planned on.
    """
    live = history[0]
    planned = next((each for each in history if each.id == expected), None)
    known = {each.id: each for each in history}
    shown = [known.get(each.deployment) for each in live.hosts if each.deployment is not None]
    if not live.hosts or planned is None:
        return False
    ours = [each is not None and each.claim is not None and each.claim.run == run for each in shown]
    return any(ours) and all(
        own or (each is not None and is_served_alike(each, planned)) for own, each in zip(ours, shown, strict=True)
    )


def find_told_stable(history: Iterable[Deployment], version: str) -> Deployment | None:
    """Return the deployment whose remark says that a version is stable, when that is the newest word on the version."""
    return _find_newest_remark(history, version, RemarkKind.STABLE)


def find_told_questioned(history: Iterable[Deployment], version: str) -> Deployment | None:
    """Return the deployment whose remark questions that a version is stable, when that is the newest word on it."""
    return _find_newest_remark(history, version, RemarkKind.QUESTIONED)


def _find_newest_remark(history: Iterable[Deployment], version: str, kind: RemarkKind) -> Deployment | None:
    for deployment in history:
        remark = deployment.remark
        if remark is None or remark.code is None or remark.kind not in _MARKS:
            continue
        if is_same_version(remark.code.version, version):
            return deployment if remark.kind is kind else None
    return None


def list_rollbacks(history: Iterable[Deployment], *, since: float) -> tuple[tuple[Deployment, Remark], ...]:
    """Return the rollbacks that backout made on any machine since then, newest first; each as it was first made."""
    found: dict[str, tuple[Deployment, Remark]] = {}
    for deployment in history:
        remark = deployment.remark
        if remark is not None and remark.kind is RemarkKind.ROLLBACK:
            found[remark.run] = deployment, remark
    return tuple((deployment, remark) for deployment, remark in found.values() if deployment.created_at >= since)


def find_running_proof(
    history: Sequence[Deployment], *, apart_from: str, since: float
) -> tuple[Deployment, Remark] | None:
    """Return the proof that another run is currently making (its target stands at 0 %), or None."""
    if not history:
        return None
    remark = history[0].remark
    if remark is None or remark.kind is not RemarkKind.PROVE or remark.run == apart_from:
        return None
    return (history[0], remark) if history[0].created_at >= since else None


def find_hold(history: Iterable[Deployment]) -> Hold | None:
    """Return the newest hold that the provider's history tells (it may be over, or lifted), or None."""
    return next((_read_hold(d).limit() for d in history if is_made_by(d, RemarkKind.HOLD)), None)


def list_unsigned_holds(history: Iterable[Deployment]) -> tuple[Hold, ...]:
    """Return the holds, and their ends (`until` 0), that lack the signature which marks have here, newest first."""
    lacking = (d for d in history if d.doubt is Doubt.UNSIGNED)
    return tuple(
        replace(_read_hold(d).limit(UNSIGNED_S), incident="", unsigned=True)
        for d in lacking
        if d.claim is not None and d.claim.kind is RemarkKind.HOLD
    )


def _read_hold(deployment: Deployment) -> Hold:
    said = deployment.claim
    assert said is not None
    where, at = f"deployment {deployment.id}", deployment.created_at
    return Hold(said.until, said.text, deployment.author, at, where, said.incident)


_MARKS = {
    RemarkKind.ROLLBACK: Mark.QUARANTINED,
    RemarkKind.STABLE: Mark.STABLE,
    RemarkKind.QUESTIONED: Mark.QUESTIONED,
    RemarkKind.RELEASE: Mark.RELEASED,
}


def list_marks(history: Sequence[Deployment], versions: Iterable[Version]) -> tuple[VersionMark, ...]:
    """Return the marks that the provider's history tells, oldest first.

    Version ids are completed where the provider still names them, else they have their first 8 digits.
    """
    known = [*(v.id for v in versions), *(share.version for d in history for share in d.shares)]
    found = []
    for deployment in reversed(history):
        remark = _find_judgement(deployment)
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


def _find_judgement(deployment: Deployment) -> Remark | None:
    """Return the remark that counts; where marks are signed, an unsigned quarantine counts, too: it only forbids."""
    said = find_remark(deployment)
    return said if said is not None and said.kind is RemarkKind.ROLLBACK else deployment.remark


def merge_marks(journal: Sequence[VersionMark], provider: Sequence[VersionMark]) -> tuple[VersionMark, ...]:
    """Return all marks, oldest first.

    What both have is listed once, with the journal's details, at the provider's time and in its order: so marks of
    several machines are ordered by one clock, whatever theirs say.
    """
    rest = list(journal)
    placed: list[tuple[float, int, VersionMark]] = []
    for place, told in enumerate(provider, start=1):
        same = next((mark for mark in rest if is_same_mark(told, mark)), None)
        if same is not None:
            rest.remove(same)
        placed.append((told.at, place, told if same is None else replace(same, at=told.at)))
    placed += [(mark.at, 0, mark) for mark in rest]
    return tuple(mark for _, _, mark in sorted(placed, key=lambda entry: entry[:2]))


def is_same_mark(provider: VersionMark, journal: VersionMark) -> bool:
    """Whether both tell the same act: a run makes each mark once; a person's release has the provider's own time."""
    return (
        provider.mark is journal.mark
        and provider.run == journal.run
        and (bool(provider.run) or provider.at == journal.at)
        and is_same_version(provider.version, journal.version)
    )


def is_same_version(one: str, other: str) -> bool:
    """Whether two ids mean the same version; one of which only the first 8 digits are known is a prefix."""
    short, long = sorted((one, other), key=len)
    return short == long or (len(short) == VERSION_DIGITS and long.startswith(short))


def is_same_hash(one: str | None, other: str | None) -> bool:
    """Whether two hashes mean the same code; one of which only the first 12 digits are known is a prefix."""
    short, long = sorted((one or "", other or ""), key=len)
    return bool(short) and (short == long or (len(short) == CODE_DIGITS and long.startswith(short)))


def is_same_commit(one: str, other: str) -> bool:
    """Whether two abbreviated commits are the same.

    Fewer than 7 digits say nothing, nor does a name that is no commit: "release-12" and "release-13" begin alike.
    """
    digits = min(len(one), len(other))
    return is_commit(one) and is_commit(other) and one[:digits].lower() == other[:digits].lower()
