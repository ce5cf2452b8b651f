"""What a plan says of static files, containers, workflows and builds, which no version moves with it; pure (rule 16).

Sources, read 2026-12-01: Cloudflare documentation, "Gradual rollouts" (static assets), "Rollouts" (Containers), "Rules
of Workflows", "Builds API reference".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.escaping import shorten
from backout.model.attached import AttachedKind
from backout.model.triggers import Coverage, Fate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backout.model.attached import Attached
    from backout.model.version import Version

BUILT: Final = "workersci"
"""Who uploaded a version, where the platform builds and deploys on each push."""
BUILDS: Final = "Workers Builds"
_OBJECTS, _WORKFLOW, _ASSETS = "durable_object_namespace:", "workflow:", "assets:"
ATTACHED: Final = {
    AttachedKind.CONTAINERS: "containers",
    AttachedKind.WORKFLOWS: "workflows",
    AttachedKind.BUILDS: BUILDS,
}
ASSETS: Final = (
    "static files: in a split a page of one version may ask for files that only the other has, and such a miss may "
    "reach no Worker, so no source of counts; send one Cloudflare-Workers-Version-Key for each visitor (guard.sticky)"
)


def choose_attached(versions: Iterable[Version | None]) -> tuple[AttachedKind, ...]:
    """Return what to look at: only what something of these versions tells that there may be."""
    known = [version for version in versions if version is not None]
    bindings = [name for version in known for name in version.bindings]
    wanted = {
        AttachedKind.CONTAINERS: any(name.startswith(_OBJECTS) for name in bindings),
        AttachedKind.WORKFLOWS: any(name.startswith(_WORKFLOW) for name in bindings),
        AttachedKind.BUILDS: any(version.source == BUILT for version in known),
    }
    return tuple(kind for kind, is_wanted in wanted.items() if is_wanted)


def has_assets(versions: Iterable[Version | None]) -> bool:
    """Whether one of these versions serves static files."""
    return any(name.startswith(_ASSETS) for version in versions if version for name in version.bindings)


def cover_attached(found: Attached | None) -> tuple[Coverage, ...]:
    """Return one line for each thing that a rollback leaves as it is, and for each kind that could not be read."""
    if found is None:
        return ()
    lines = [
        Coverage(ATTACHED[kind], Fate.STAYS, f"not measured: {found.unread[kind]}")
        for kind in AttachedKind
        if kind in found.unread
    ]
    for each in found.containers or ():
        rolling = "; a rollout of it is under way" if each.is_rolling else ""
        image = f" (image {shorten(each.image)})" if each.image else ""
        why = (
            f"its instances keep their image{image}{rolling}: images roll out apart from versions, so the older code "
            "talks to them as they are; a deployment of the older commit rolls its image out"
        )
        lines.append(Coverage(f"container {shorten(each.name)}", Fate.NOT_COVERED, why))
    for flow in found.workflows or ():
        if flow.in_flight:
            why = (
                f"{flow.in_flight:,} of its instances have begun: steps that are done keep their results, by their "
                "names; which version runs the others is not documented"
            )
            lines.append(Coverage(f"instances of workflow {shorten(flow.name)}", Fate.NOT_COVERED, why))
    for trigger in found.builds or ():
        source = f" of {shorten(trigger.repository)}" if trigger.repository else ""
        why = f"the next push to {_join_branches(trigger.branches)}{source} deploys over this"
        lines.append(Coverage(BUILDS, Fate.STAYS, f"{why} ({shorten(trigger.command)})" if trigger.command else why))
    return tuple(lines)


def list_warnings(found: Attached | None, versions: Iterable[Version | None], *, is_sticky: bool) -> tuple[str, ...]:
    """Return what to know before a deployment is moved in steps, or rolled back; whole sentences without a stop.

    Args:
        versions: those that are live.
        is_sticky: each visitor stays on one version of a split.
    """
    assets = (ASSETS,) if has_assets(versions) and not is_sticky else ()
    return (*assets, *(f"{line.what}: {line.why}" for line in cover_attached(found)))


def _join_branches(branches: tuple[str, ...]) -> str:
    return shorten(" or ".join(branches)) if branches else "its branch"
