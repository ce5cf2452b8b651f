"""What Neon's API answers, as far as backout reads it; and what a project's history reaches."""

from __future__ import annotations

from typing import Final

import msgspec

from backout.model.clock import format_duration
from backout.providers.clock import parse_unix_s

_FREE: Final = "free"
"""What the names of free plans begin with (`free_v2`, `free_v3`)."""
_FREE_HISTORY_S: Final = 6 * 3600.0


class Owner(msgspec.Struct):
    """Who pays for a project, and by which plan."""

    subscription_type: str = ""


class Project(msgspec.Struct):
    """A project; times are RFC 3339."""

    id: str
    history_retention_seconds: float = 0
    created_at: str = ""
    owner: Owner | None = None


class Branch(msgspec.Struct):
    """A branch; one without a parent is a root branch."""

    id: str
    name: str
    parent_id: str | None = None
    parent_lsn: str | None = None
    parent_timestamp: str | None = None
    current_state: str = "ready"
    created_at: str = ""
    restored_from: str | None = None
    restore_status: str | None = None


class Operation(msgspec.Struct):
    """Something that runs behind a change."""

    id: str
    status: str = ""
    action: str = ""
    error: object = None


class Snapshot(msgspec.Struct):
    """A snapshot of a branch."""

    id: str
    name: str = ""
    source_branch_id: str | None = None
    created_at: str = ""


class Page(msgspec.Struct):
    """Where a list goes on."""

    next: str | None = None


class ProjectAnswer(msgspec.Struct):
    """Of getProject."""

    project: Project


class Branches(msgspec.Struct):
    """Of listProjectBranches."""

    branches: tuple[Branch, ...]
    pagination: Page | None = None


class Changed(msgspec.Struct):
    """Of a change."""

    branch: Branch | None = None
    operations: tuple[Operation, ...] = ()


class OperationAnswer(msgspec.Struct):
    """Of getProjectOperation."""

    operation: Operation


class Endpoint(msgspec.Struct):
    """A branch's compute."""

    id: str
    host: str = ""


class Endpoints(msgspec.Struct):
    """Of listProjectBranchEndpoints."""

    endpoints: tuple[Endpoint, ...]


class Snapshots(msgspec.Struct):
    """Of listSnapshots."""

    snapshots: tuple[Snapshot, ...]


class Uri(msgspec.Struct):
    """Of getConnectionURI."""

    uri: str


def find_earliest(project: Project, live: Branch, now: float) -> float:
    """Return the first moment that a branch of the live one can show; a child's history begins with itself."""
    born = max(parse_unix_s(project.created_at), parse_unix_s(live.created_at) if live.parent_id else 0.0)
    return max(now - project.history_retention_seconds, born)


def describe_history(project: Project) -> str:
    """Return how much history is kept; only the plan's name tells a free one apart, which not every token may see."""
    kept = f"the project keeps {format_duration(project.history_retention_seconds)} of history"
    plan = project.owner.subscription_type if project.owner else ""
    if plan.startswith(_FREE):
        return f"{kept}, and of it no more than 1 GB (free plan)"
    if not plan and project.history_retention_seconds <= _FREE_HISTORY_S:
        return f"{kept}, and on a free plan no more than 1 GB of it"
    return kept
