"""Releases on hosts of the team's own: push one, prove it before visitors get it, make it live, remove old ones."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from backout.analysis.history.remarks import drop_remarks, list_marks, merge_marks
from backout.analysis.history.stability import find_quarantine_in, list_in_force
from backout.errors import BackoutError, PartlyDone, Refused, Unmeasured, UsageError
from backout.escaping import shorten
from backout.model.deployment import Share
from backout.model.value import Value
from backout.model.version import Mark, VersionId
from backout.rules import SafetyRule
from backout.runbook.guard.standby import find_standby
from backout.runbook.safety.aside import find_keeper
from backout.runbook.safety.identity import check_identity

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.deployment import Deployment
    from backout.model.release import Release, ReleaseNote
    from backout.model.secrets import SecretValues
    from backout.ports import Releases
    from backout.runbook.toolbox import Toolbox

WHOLE: Final = 100.0
_LOOKS: Final = 3
_STABLE_KEPT: Final = 3
"""What a rollback would return to, and what after that one if it fails."""
_MIN_PREFIX: Final = 4


class PushedRelease(Value, frozen=True):
    """What became of a push.

    Args:
        release: the new one.
        live: the deployment that was read back; None where nothing is live.
        share: the percentage of the visitors that the new one gets.
        unproved: why it gets none although it was to, "" where nothing spoke against it.
        is_proved: whether it answered well itself, before any visitor got it; without a health endpoint that says which
            release answers nobody knows.
        missing: which hosts have not switched to it, "" where all have.
    """

    release: Release
    live: Deployment | None
    share: float
    unproved: str = ""
    is_proved: bool = False
    missing: str = ""


def push_release(
    tools: Toolbox,
    releases: Releases,
    folder: Path,
    note: ReleaseNote,
    share: float,
    environment: SecretValues | None = None,
) -> PushedRelease:
    """Push a folder, start it, prove it while no visitor gets it, and give it its share of the traffic.

    Args:
        share: a percentage; at 0 it is only started and proved.
        environment: its variables; None: those of the newest release.

    Raises:
        Refused: it is another environment than pinned, its code is quarantined, or it does not start.
        WorldMoved: something else was deployed meanwhile.
        BackoutError: as the ports.
    """
    check_identity(tools)
    made = releases.push(folder, note, environment)
    history = _read_history(tools)
    if share:
        try:
            _refuse_quarantined(tools, history, made)
        except Refused:
            releases.remove(made.id)
            raise
    pushed = _make_live(tools, releases, made, history, share, note.message)
    with suppress(BackoutError):  # whatever keeps it from being removed keeps nobody from pushing
        _clear(tools, releases, dry_run=False)
    return pushed


def _clear(tools: Toolbox, releases: Releases, *, dry_run: bool) -> None:
    """Remove what pushes and removals that were killed left behind, which may hold secrets, and say it."""
    for each in releases.clear(dry_run=dry_run):
        done = "was removed" if each.is_gone else "would be removed" if dry_run else "could not be removed"
        tools.say(f"what a push or a removal that was killed had left {done}: {each.where}")


def make_release_live(tools: Toolbox, releases: Releases, release: str) -> PushedRelease:
    """Start a release that is there, prove it while no visitor gets it, and make it live on every host.

    Raises:
        BackoutError: as `push_release`.
    """
    check_identity(tools)
    history = _read_history(tools)
    known = find_release(releases, release)
    _refuse_quarantined(tools, history, known)
    return _make_live(tools, releases, known, history, WHOLE, known.message)


def _make_live(
    tools: Toolbox, releases: Releases, made: Release, history: tuple[Deployment, ...], share: float, message: str
) -> PushedRelease:
    made = releases.start(made.id)
    why, is_proved = _prove(tools, made.id)
    if why or not share:
        return PushedRelease(made, history[0] if history else None, 0.0, why, is_proved)
    others = _list_others(history, share)
    shares = (Share(VersionId(made.id), share if others else WHOLE), *others)
    missing = ""
    try:
        tools.deployments.deploy(shares, message=message or f"release {made.id}")
    except PartlyDone as error:
        missing = error.what
    live = tools.deployments.history()[0]
    got = next((each.percentage for each in live.shares if each.version == made.id), 0.0)
    return PushedRelease(made, live, got, "", is_proved, missing)


def _read_history(tools: Toolbox) -> tuple[Deployment, ...]:
    return tuple(drop_remarks(tools.deployments.history()))


def _list_others(history: tuple[Deployment, ...], share: float) -> tuple[Share, ...]:
    """Return what is live with what is left of the traffic; () where nothing is, or nothing is left."""
    if not history or share >= WHOLE:
        return ()
    total = sum(each.percentage for each in history[0].shares) or 1.0
    left = (WHOLE - share) / total
    return tuple(Share(each.version, each.percentage * left) for each in history[0].shares if each.percentage > 0)


def _refuse_quarantined(tools: Toolbox, history: tuple[Deployment, ...], made: Release) -> None:
    """Raise Refused where this code was rolled back before and nobody released it (safety rule 17)."""
    marks = merge_marks(tools.marks.marks(tools.environment), list_marks(history, tools.versions.recent()))
    mark = find_quarantine_in(marks, made.id, made.code_hash, made.git_sha)
    if mark is None:
        return
    raise Refused(
        f"this code was rolled back before: {shorten(mark.why)}",
        where=made.id,
        rule=SafetyRule.QUARANTINED,
        options=(
            f"look at it without visitors: `backout release push DIR --traffic 0 -e {tools.environment}`",
            f"if it was not at fault: `backout deployments release {mark.version} -m WHY -e {tools.environment}`",
        ),
    )


def _prove(tools: Toolbox, release: str) -> tuple[str, bool]:
    """Return what speaks against a release, "" for nothing, and whether it has said itself that it is well."""
    if tools.health is None:
        return "", False
    report = tools.health.look(release)
    for _ in range(_LOOKS - 1):
        if not report.is_down:
            break
        tools.clock.sleep(1.0)
        report = tools.health.look(release)
    if report.is_down:
        return shorten("; ".join(report.findings)) or "its health endpoint is down", False
    if report.version is not None and report.version != release:
        return f"it was asked for, and {shorten(report.version)} answered: compare Caddy's route", False
    return "", report.version == release


def prune_releases(tools: Toolbox, releases: Releases, keep: int, *, dry_run: bool) -> tuple[Release, ...]:
    """Remove all but the newest releases, and return them; live, last, the last stable, and damaged ones always stay.

    So is what pushes and removals that were killed left behind.

    Args:
        keep: how many of the newest stay in any case.

    Raises:
        Unmeasured: which job workers run is not known; nothing was removed.
        BackoutError: as the ports; what was removed before stays removed.
    """
    history, known = _read_history(tools), releases.list()
    kept = {each.id for each in known[:keep]} | _list_needed(tools, history, known) | _list_working(tools)
    gone = tuple(each for each in known if each.id not in kept and not each.damage)
    _clear(tools, releases, dry_run=dry_run)
    for each in () if dry_run else gone:
        releases.remove(each.id)
    return gone


def _list_needed(tools: Toolbox, history: tuple[Deployment, ...], there: tuple[Release, ...]) -> set[str]:
    """Return what is live, was live before that (maintenance pages apart), would be returned to, or a watch keeps.

    Each healthy release is stable for ever, and each has a port: so only the last stable ones stay.
    """
    known = tools.versions.recent()
    pages = {version.id for version in known if version.is_maintenance}
    live = [share.version for deployment in history[:1] for share in deployment.shares]
    passed_over = {*live, *pages}
    last = next((each for each in history if any(share.version not in passed_over for share in each.shares)), None)
    served = [*live, *(share.version for share in (last.shares if last is not None else ()))]
    marks = merge_marks(tools.marks.marks(tools.environment), list_marks(history, known))
    bad = {mark.version for mark in list_in_force(marks)}
    watch = find_keeper(tools.runs, tools.environment)
    kept = "" if watch is None else find_standby(watch.plan)
    proven = dict.fromkeys(mark.version for mark in reversed(marks) if mark.mark is Mark.STABLE)
    targets = {each.id for each in there}.difference(live, bad)
    return {*served, kept, *[version for version in proven if version in targets][:_STABLE_KEPT]}


def _list_working(tools: Toolbox) -> set[str]:
    """Return the releases whose job workers run. Raises BackoutError: that is not known, so nothing is removed."""
    if tools.rollback.jobs is None:
        return set()
    look = tools.rollback.jobs.read()
    if look.problem:
        what = f"which job workers run is not known, so nothing is removed: {look.problem}"
        raise Unmeasured(what, where=tools.environment)
    return {each.version for each in look.running}


def stop_release(tools: Toolbox, releases: Releases, release: str) -> None:
    """Have a release end.

    Raises:
        Refused: visitors get it, or a watch keeps it warm for a rollback.
        BackoutError: it does not end.
    """
    history = _read_history(tools)
    if history and history[0].serves(release):
        raise Refused(
            "visitors get this release",
            where=release,
            rule=SafetyRule.TARGET,
            options=(f"make another one live first: `backout rollback -e {tools.environment}`",),
        )
    watch = find_keeper(tools.runs, tools.environment)
    if watch is not None and find_standby(watch.plan) == release:
        raise Refused(
            f"run {watch.id} watches the release after it, and would return to this one",
            where=release,
            rule=SafetyRule.TARGET,
            options=("stop it when the watch has ended", f"end the watch: `backout runs abort {watch.id}`"),
        )
    releases.stop(release)


def find_release(releases: Releases, text: str) -> Release:
    """Return the release whose id begins so, or that has this number or tag. Raises UsageError: none, or several."""
    known = releases.list()
    found = [each for each in known if text and text in (each.id, each.tag, str(each.number or ""))]
    if len(text) >= _MIN_PREFIX:
        found = found or [each for each in known if each.id.startswith(text)]
    if len(found) != 1:
        what = "no release is called so" if not found else f"{len(found)} releases are called so"
        raise UsageError(what, where=shorten(repr(text)), hint="backout release list")
    return found[0]
