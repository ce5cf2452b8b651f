"""The observations before a decision: one frozen look at an environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import field

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.attached import Attached
    from backout.model.database.compatibility import MigrationVerdict
    from backout.model.database.schema import SchemaState
    from backout.model.deployment import Deployment
    from backout.model.triggers import Triggers
    from backout.model.version import Version, VersionMark


class SchemaLook(Value, frozen=True):
    """The state of the migrations, or the reason why there is none.

    `state` None with `set_up` False: no database is configured, so nothing is claimed and nothing is blocked.
    `state` None with `set_up` True: the history could not be read; code must not be rolled back (safety rule 4).

    Args:
        verdicts: of the migrations whose files are those that were applied, by name.
        unjudged: why there are no (or not all) verdicts, "" when nothing is missing.
        refuted: the statement of the old code that failed on this head when it was replayed, and why; "" without one.
        refuted_by_version: what failed in a trial of the way back from what is live, by the version to return to.
    """

    set_up: bool
    state: SchemaState | None = None
    problem: str = ""
    verdicts: Mapping[str, MigrationVerdict] = field(default_factory=dict)
    unjudged: str = ""
    refuted: str = ""
    refuted_by_version: Mapping[str, str] = field(default_factory=dict)


class FailedProof(Value, frozen=True):
    """A version that did not answer well at 0 % of the traffic (safety rule 6).

    Args:
        at: Unix seconds.
        why: one sentence without a final stop.
    """

    at: float
    why: str


class Situation(Value, frozen=True):
    """One look at an environment.

    Args:
        read_at: Unix seconds.
        history: deployments newest first, the first one live; those that only say something
            (see `analysis.history.remarks`) are left out.
        versions: still deployable, newest first, with `code_hash` filled in where it was asked for.
        secret_names: None when not measured.
        listed: the history as the provider lists it.
        triggers: what starts the application now, None: not looked at.
        attached: what runs or deploys beside the versions, None: not looked at.
        snapshots: what did when a version was live.
        clock_offset_s: the provider's clock minus this machine's, None: not measured.
        minimum_version: the number of the oldest version that may be returned to.
        kept: versions that the provider no longer deploys, whose code is kept here and can be uploaded again.
        failed_proofs: the newest failed proof of each version, as far as this journal knows.
    """

    environment: str
    read_at: float
    history: tuple[Deployment, ...]
    versions: tuple[Version, ...]
    marks: tuple[VersionMark, ...]
    schema: SchemaLook
    secret_names: tuple[str, ...] | None = None
    listed: tuple[Deployment, ...] = ()
    kept: tuple[Version, ...] = ()
    clock_offset_s: float | None = None
    triggers: Triggers | None = None
    attached: Attached | None = None
    snapshots: Mapping[str, Triggers] = field(default_factory=dict)
    minimum_version: int = 0
    failed_proofs: Mapping[str, FailedProof] = field(default_factory=dict)

    @property
    def live(self) -> Deployment:
        """The live deployment."""
        return self.history[0]

    def version(self, version: str) -> Version | None:
        """Return the version of that id when it is still deployable, or can be made so from the copy kept here."""
        return next((v for v in (*self.versions, *self.kept) if v.id == version), None)
