"""Small builders of situations for tests of the pure core; every default is the dull, healthy case."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.database.compatibility import Compatibility, MigrationVerdict, Reversible, StatementVerdict
from backout.model.database.schema import AppliedMigration, SchemaState
from backout.model.deployment import Deployment, DeploymentId, Share
from backout.model.situation import SchemaLook, Situation
from backout.model.version import Mark, Version, VersionId, VersionMark

if TYPE_CHECKING:
    from collections.abc import Sequence

NOT_SET_UP = SchemaLook(set_up=False)


def version(name: str, at: float, *, code: str | None = None, secrets: tuple[str, ...] = ()) -> Version:
    """Return a version whose code hash is `code`, by default its own."""
    return Version(VersionId(name), int(at), at, code_hash=code or f"code-{name}", secret_names=secrets)


def deployment(name: str, at: float, *shares: tuple[str, float]) -> Deployment:
    """Return a deployment with the given (version, percentage) shares, largest first."""
    ordered = sorted(shares, key=lambda share: -share[1])
    return Deployment(DeploymentId(name), at, tuple(Share(VersionId(v), p) for v, p in ordered))


def stable(name: str, at: float, *, code: str | None = None, head: str | None = None) -> VersionMark:
    """Return the mark of a watch that ended healthy."""
    return VersionMark(
        Mark.STABLE,
        VersionId(name),
        code or f"code-{name}",
        at,
        "guard-1",
        "0 of 900 requests failed",
        migration_head=head,
    )


def quarantined(name: str, at: float, *, code: str | None = None) -> VersionMark:
    """Return the mark of a version that was rolled back."""
    return VersionMark(Mark.QUARANTINED, VersionId(name), code or f"code-{name}", at, "rollback-1", "61 of 400 failed")


def released(name: str, at: float, *, code: str | None = None) -> VersionMark:
    """Return the mark of a quarantine that a person lifted."""
    return VersionMark(Mark.RELEASED, VersionId(name), code or f"code-{name}", at, "", "mended")


def schema(
    *applied: tuple[str, float],
    failed: Sequence[str] = (),
    verdicts: Sequence[MigrationVerdict] = (),
    unjudged: str = "",
) -> SchemaLook:
    """Return a readable history of (name, finished at), and of migrations that failed."""
    rows = [AppliedMigration(name, at, at) for name, at in applied]
    rows += [AppliedMigration(name, 0.0, None) for name in failed]
    state = SchemaState(0.0, tuple(rows))
    return SchemaLook(set_up=True, state=state, verdicts={v.name: v for v in verdicts}, unjudged=unjudged)


def judged(name: str, verdict: Compatibility, *, condition_sql: str | None = None) -> MigrationVerdict:
    """Return a migration of one statement with this verdict."""
    statement = StatementVerdict(
        f"ALTER TABLE users CHANGED BY {name}", "alter", verdict, Reversible.YES, f"it is {verdict}", condition_sql
    )
    return MigrationVerdict(name, (statement,))


def situation(
    versions: Sequence[Version],
    history: Sequence[Deployment],
    *,
    marks: Sequence[VersionMark] = (),
    look: SchemaLook = NOT_SET_UP,
    secrets: tuple[str, ...] | None = None,
    now: float = 10_000.0,
) -> Situation:
    """Return a situation; `versions` and `history` in the order in which they were made."""
    return Situation(
        environment="production",
        read_at=now,
        history=tuple(reversed(history)),
        versions=tuple(reversed(versions)),
        marks=tuple(marks),
        schema=look,
        secret_names=secrets,
    )
