"""Everything that backout needs from outside, as small Protocols. The rule: synchronous, 1 to 4 methods each.

Every adapter raises the errors of `backout.errors` and nothing else: AuthError, ProviderUnavailable (after its own
retries), ProviderRejected, and where named here Refused or SecretsChanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from backout.model.backups import Cluster, Retention
    from backout.model.branch import BranchTarget, Finalized, SideBranch
    from backout.model.bundle import Bundle
    from backout.model.capability import ServerFacts, VendorState
    from backout.model.catalog import Catalog
    from backout.model.compatibility import MigrationFile
    from backout.model.connections import ConnectionUse
    from backout.model.deployment import Deployment, Mark, Share, Version, VersionMark
    from backout.model.dump import Dump, TableContent
    from backout.model.hold import Hold
    from backout.model.identity import Identity
    from backout.model.incident import Event, Run
    from backout.model.notice import Delivery, Notice
    from backout.model.pipeline import PipelineState
    from backout.model.plan import Json, Plan
    from backout.model.recovery import (
        BaseBackup,
        Commit,
        Damage,
        DatabaseFacts,
        DropClue,
        MigrationClue,
        RescueReport,
        RestorePoint,
        SideInstance,
        SideLook,
        SideOrder,
        WalSegment,
        WalSpan,
        Written,
    )
    from backout.model.schema import SchemaState
    from backout.model.signals import Counts, CountsPage, HealthReport, SourceTraits
    from backout.model.statements import Answer, ParameterUse, Statement
    from backout.model.token import TokenState
    from backout.model.triggers import TriggerKind, Triggers
    from backout.model.vendor import VendorIncident


class Clock(Protocol):
    """Time, so that tests own it."""

    def now(self) -> float:
        """Return Unix seconds UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return after that many seconds (a fake clock moves instead)."""
        ...


# --- the platform ---------------------------------------------------------------------------------------------------


class Deployments(Protocol):
    """What is live, what was, and the one mutation that every rollback rests on."""

    def history(self) -> tuple[Deployment, ...]:
        """Return the deployments the provider still lists, newest first; the first one is live.

        Empty when the application exists but was never deployed. Raises ProviderRejected (status 404) when it
        does not exist.
        """
        ...

    def activate(self, version: str, *, message: str, force: bool = False) -> Deployment:
        """Make `version` live at 100 % and return the new deployment as the provider answered it.

        Not idempotent: each call is a new deployment; callers put a marker into `message` to recognise theirs.
        Raises SecretsChanged when the provider refuses because of secrets and `force` is False; Refused when the
        target cannot run any more (a bound bucket is gone, a storage migration lies between, out of the window).
        """
        ...

    def deploy(self, shares: Sequence[Share], *, message: str, force: bool = False) -> Deployment:
        """Make versions live with these percentages (they sum to 100; 0 is allowed); otherwise as `activate`.

        A version at 0 % gets no traffic, but answers a request that names it through the provider's override.
        """
        ...


class Versions(Protocol):
    """The immutable builds."""

    def recent(self) -> tuple[Version, ...]:
        """Return the versions that can still be deployed, newest first (details such as `code_hash` may be missing)."""
        ...

    def detail(self, version: str) -> Version:
        """Return one version with everything known of it. Raises ProviderRejected (status 404) for an unknown id."""
        ...


class Secrets(Protocol):
    """The names of the secrets that the application has now; never a value."""

    def names(self) -> tuple[str, ...]:
        """Return the names, sorted."""
        ...


class Bundles(Protocol):
    """The code of versions at the provider: read one, upload one again."""

    def fetch(self, version: str) -> Bundle:
        """Return the code of a version.

        Raises:
            ProviderRejected: the provider does not give it (any more). Refused: it holds what no upload can bring back.
        """
        ...

    def upload(self, bundle: Bundle, *, message: str) -> Version:
        """Upload the code as a new version, not live, with the secrets as they are now, and return it.

        Not idempotent; callers put a marker into `message` to recognise theirs. Raises Refused when a secret that the
        code needs does not exist any more.
        """
        ...


class BundleStore(Protocol):
    """Bundles that were seen, kept content-addressed on this machine. Raises BackoutError when it cannot be read."""

    def keep(self, bundle: Bundle) -> None:
        """Keep a bundle; a file that is there already is not written twice."""
        ...

    def find(self, version: str) -> Bundle | None:
        """Return the kept bundle of a version. Raises BackoutError when it is damaged."""
        ...

    def has(self, version: str) -> bool:
        """Whether the bundle of a version is kept; it is not read."""
        ...

    def kept(self, *, apart_from: Collection[str] = ()) -> tuple[Version, ...]:
        """Return the versions whose bundles are kept, without those named, newest first."""
        ...


class Identities(Protocol):
    """Who the environment is that our credentials reach."""

    def read(self) -> Identity:
        """Return what can be read of it now; a part that cannot be read, or is not set up, is None."""
        ...


class TokenCheck(Protocol):
    """The tokens that act."""

    def look(self) -> tuple[TokenState, ...]:
        """Return the state of each token; a refused one is a state, not an error. Raises ProviderUnavailable only."""
        ...


class ProviderClock(Protocol):
    """The provider's clock beside ours."""

    def offset_s(self) -> float | None:
        """Return the provider's clock minus ours in seconds, None before its first answer."""
        ...


class Checkout(Protocol):
    """The working copy that the configuration was read from."""

    def contains(self, git_sha: str) -> bool | None:
        """Whether that commit is part of what is checked out; None when there is no working copy to ask."""
        ...


class TriggerSettings(Protocol):
    """What starts the application beside requests that reach a version: schedules, routes, domains, queues."""

    def read(self, kinds: Collection[TriggerKind]) -> Triggers:
        """Return these kinds; one that is not asked for, or that the token may not read, is None."""
        ...

    def set_schedules(self, schedules: Sequence[str]) -> None:
        """Replace the schedules by these cron expressions."""
        ...


class VendorStatus(Protocol):
    """What the vendors announce about themselves."""

    def incidents(self) -> tuple[VendorIncident, ...]:
        """Return the unresolved incidents that touch us. Raises ProviderUnavailable when a page does not answer."""
        ...


# --- people and watchers --------------------------------------------------------------------------------------------


class Holds(Protocol):
    """The kill switch of this host; it works without a journal."""

    def read(self, environment: str) -> Hold | None:
        """Return the newest hold that was set here (it may be over, or lifted), or None."""
        ...

    def write(self, environment: str, hold: Hold) -> None:
        """Set it; it is durable when this returns."""
        ...


class Cards(Protocol):
    """Where the environment's card is kept."""

    def write(self, text: str) -> Path:
        """Write it and return its absolute path. Raises BackoutError."""
        ...

    def path(self) -> Path | None:
        """Return where it is that was written last, or None when there is none."""
        ...


class Notifier(Protocol):
    """Tells somebody."""

    def tell(self, notice: Notice) -> None:
        """Keep the notice durably and try to deliver it in the background. Never raises, never waits for a channel."""
        ...

    def flush(self, within_s: float) -> Delivery:
        """Wait at most that long for what is still to be delivered, and return what became of it."""
        ...


class Pipeline(Protocol):
    """The page on which a pipeline shows what became of a deployment."""

    def show(self, state: PipelineState, text: str) -> None:
        """Show a state with one line of text. Raises AuthError, ProviderUnavailable, ProviderRejected."""
        ...


class DeadMan(Protocol):
    """The watcher of the watcher: somebody outside who notices when the pings stop."""

    def ping(self) -> None:
        """Say that guard is alive, in the background. Never raises, never waits."""
        ...


# --- measuring ------------------------------------------------------------------------------------------------------


class Traffic(Protocol):
    """Counts per version and second."""

    @property
    def traits(self) -> SourceTraits:
        """What this source can see."""
        ...

    def read(self, since: int, until: int) -> CountsPage:
        """Return the counts of the seconds in [since, until), all versions; gaps mean no request."""
        ...


class HealthCheck(Protocol):
    """The application's health endpoint."""

    def look(self, version: str | None = None) -> HealthReport:
        """Ask once (one version, through the provider's override, when given); a sick application never raises."""
        ...

    def fetch(self, path: str, version: str | None = None) -> int | None:
        """Return the HTTP status of a GET of that path on the same host, of one version as `look`; None: no answer."""
        ...


class Logs(Protocol):
    """What the application itself said went wrong."""

    def errors(self, version: str, since: float) -> tuple[tuple[str, int], ...]:
        """Return (text of the exception or error line, how often) of a version since then, most frequent first."""
        ...


class Schema(Protocol):
    """The database's migration history."""

    def read(self) -> SchemaState:
        """Return the history; an empty one when the table does not exist. Raises ProviderUnavailable otherwise."""
        ...


class MigrationFiles(Protocol):
    """The migrations as they lie in the working copy."""

    def read(self) -> tuple[MigrationFile, ...]:
        """Return them in the order in which they are applied. Raises UsageError when the folder is not there."""
        ...


class SchemaCatalog(Protocol):
    """A database's schema, object by object."""

    def read(self) -> Catalog:
        """Return it, in the order of its creation. Raises AuthError, or ProviderUnavailable when it does not answer."""
        ...


class Backups(Protocol):
    """What can be restored: base backups and the WAL after them."""

    def backups(self) -> tuple[BaseBackup, ...]:
        """Return the complete ones, oldest first; one that was cut off half-way is none."""
        ...

    def wal(self) -> tuple[WalSegment, ...]:
        """Return the archived WAL in the order of its positions, timeline by timeline; the last one may be partial."""
        ...

    def unpack(self, backup: str, into: Path, progress: Callable[[int, int], None]) -> None:
        """Lay out a data directory in the empty folder `into`, an incremental one with all it builds on.

        `progress` hears (bytes so far, bytes in all). Raises BackoutError when a file is damaged or missing, naming it.
        """
        ...

    def fetch_wal(self, names: Sequence[str], into: Path) -> None:
        """Lay these segments into a folder under their names, whole and decrypted; every history file comes along."""
        ...


class WalReader(Protocol):
    """What archived WAL tells of transactions."""

    def history(self) -> Mapping[int, Sequence[tuple[int, int]]]:
        """Return of each timeline but the first the ones before it, and the position at which each was left."""
        ...

    def commits(self, spans: Sequence[WalSpan]) -> Iterator[Commit]:
        """Yield the commits in the order of the WAL. Raises BackoutError when it cannot be read."""
        ...

    def touched(self, spans: Sequence[WalSpan], xids: Collection[int]) -> Mapping[tuple[int, int], Collection[str]]:
        """Return what these transactions wrote to: {(database, relation's file node): the kinds of records}."""
        ...

    def writers(self, spans: Sequence[WalSpan], relation: str) -> Iterator[tuple[int, str]]:
        """Yield (transaction, kind of record) of everything that was written to a relation, in order.

        `relation` is "TABLESPACE/DATABASE/FILENODE".
        """
        ...

    def written(self, spans: Sequence[WalSpan], *, apart_from: Collection[int]) -> Mapping[tuple[int, int], int]:
        """Return how many row versions were written: {(database, relation's file node): rows}.

        Args:
            apart_from: transactions that do not count; aborted ones do.
        """
        ...


class SideInstances(Protocol):
    """Copies of the database at an earlier moment, on this machine, beside the live one."""

    @property
    def copies(self) -> bool:
        """Whether an instance copies its base; otherwise it is laid over it."""
        ...

    def list(self) -> tuple[SideInstance, ...]:
        """Return the instances there are, by name."""
        ...

    def find(self, name: str) -> SideInstance | None:
        """Return an instance, running or not; None when there is none, or it is only half made."""
        ...

    def start(self, order: SideOrder, progress: Callable[[str, int, int], None]) -> SideInstance:
        """Make it unless it is there, and return it waiting at its target.

        `progress` hears (what is done, bytes so far, bytes in all). Raises BackoutError when a file is damaged or
        replay ends before the target.
        """
        ...

    def drop(self, name: str) -> None:
        """Stop it and remove its files; of one whose data directory was moved away, what is left of it."""
        ...


class SideControl(Protocol):
    """What is done with a side instance that is there."""

    def resume(self, name: str, progress: Callable[[str, int, int], None]) -> SideInstance:
        """Start an instance that was stopped or killed, and return it where it was."""
        ...

    def promote(self, name: str) -> None:
        """Let it go on as a database of its own; until then what unfinished transactions had locked cannot be read."""
        ...

    def stop(self, name: str) -> None:
        """Stop it cleanly and keep it."""
        ...

    def look(self, name: str, database: str, relation: str, migration: str) -> SideLook:
        """Return what it shows, read-only. Raises Refused when that database is not there."""
        ...


class PointMarker(Protocol):
    """Writes a moment into the database's own log."""

    def mark(self, name: str) -> RestorePoint:
        """Write a restore point and return it; its `why` and what it belongs to are the caller's."""
        ...


class SideBases(Protocol):
    """Base backups that lie unpacked on this machine: an instance over one is there in about a second."""

    def prepare(self, backup: str, progress: Callable[[str, int, int], None]) -> None:
        """Unpack one ahead of time."""
        ...

    def unpacked(self) -> tuple[str, ...]:
        """Return those that lie under no instance."""
        ...

    def release(self) -> None:
        """Remove them."""
        ...


class LiveDatabase(Protocol):
    """The live database's catalog."""

    def facts(self, *, within_s: float = 0.0) -> DatabaseFacts:
        """Return who it is and where its WAL stands; one that does not answer is asked again for that long.

        Raises AuthError, ProviderUnavailable.
        """
        ...

    def mark(self, name: str) -> RestorePoint:
        """Write a restore point and return it; its `why` and what it belongs to are the caller's."""
        ...

    def dropped(self, relation: str) -> DropClue:
        """Return what the catalog tells of the columns that a table lost, or that the table is gone."""
        ...

    def tables(self) -> Mapping[tuple[int, int], str]:
        """Return the names of the application's tables by (database, file node)."""
        ...

    def migrated(self, name: str) -> MigrationClue | None:
        """Return who last wrote the row of a migration, and where; None when there is none."""
        ...

    def committed(self, xid: int) -> float | None:
        """Return when a transaction was committed (Unix seconds), None where the server does not record it."""
        ...

    def schema_changes(self, since: float, until: float) -> tuple[float, ...]:
        """Return when transactions that wrote to the catalog were committed, in order; () where it is not recorded."""
        ...


class DatabaseServer(Protocol):
    """The server whose whole data directory a restore replaces; its commands are the operator's."""

    @property
    def data_directory(self) -> Path:
        """Where it is."""
        ...

    def check(self, system_identifier: str, incoming: Path | None = None) -> None:
        """Look whether it can be exchanged, before anything is stopped.

        Args:
            incoming: the directory that would come, where that is there already.

        Raises:
            Refused: it is another cluster's, a mount point, not readable or not there, or `incoming` is gone.
        """
        ...

    def running(self) -> bool:
        """Whether a server works in it. Raises BackoutError when that cannot be seen."""
        ...

    def stop(self) -> None:
        """Run the command that stops it and return when it is down. Raises BackoutError."""
        ...

    def start(self) -> None:
        """Run the command that starts it. Raises BackoutError."""
        ...

    def exchange(self, incoming: Path, kept: Path) -> None:
        """Move the data directory to `kept` and `incoming` to its place; safe to repeat after a crash in between."""
        ...

    def discard(self, kept: str) -> None:
        """Remove a data directory that `exchange` kept. Raises BackoutError when something of it stays."""
        ...


class Rescuer(Protocol):
    """Copies damaged rows back from a side instance."""

    def damage(self, damage: Damage, before: str, after: str) -> RescueReport:
        """Return what would be written, by table, without writing anything.

        Args:
            before, after: connection strings of the side instances just before and just after the damage.
        """
        ...

    def rescue(
        self, damage: Damage, before: str, after: str, kept: Path, progress: Callable[[str, int, int], None]
    ) -> RescueReport:
        """Write it, keeping what each row was in the folder `kept`; doing it again finds nothing left to do."""
        ...

    def undo(self, kept: Path, progress: Callable[[str, int, int], None]) -> RescueReport:
        """Put back what `kept` holds, where nobody has written since."""
        ...


class Statements(Protocol):
    """The statements that the application sends."""

    def read(self) -> tuple[Statement, ...]:
        """Return the different ones, most called first. Raises UsageError when nobody keeps them."""
        ...


class Trials(Protocol):
    """A database beside the live one, on which statements are tried."""

    def run(self, statement: Statement, uses: Sequence[ParameterUse]) -> Answer:
        """Return what the database says to it; nothing of it stays. Raises AuthError, ProviderUnavailable."""
        ...


class LiveCluster(Protocol):
    """The running cluster, as a backup has to know it."""

    def read(self) -> Cluster:
        """Return its state. Raises AuthError, or ProviderUnavailable when it does not answer."""
        ...


class BackupTaker(Protocol):
    """Takes a base backup onto this machine, where it waits to be stored."""

    def take(self, backup: str, parent: str | None, progress: Callable[[int, int], None]) -> None:
        """Take it whole, an incremental one against its parent's manifest; what a killed attempt left is removed.

        Raises Refused when the server cannot take it against that parent; AuthError, ProviderUnavailable, BackoutError.
        """
        ...

    def taken(self, backup: str) -> str | None:
        """Return the parent of the backup that waits here complete ("" of a full one), or None when none waits."""
        ...

    def verify(self, backup: str) -> None:
        """Check every file against the manifest. Raises BackoutError that names what is wrong."""
        ...

    def discard(self, apart_from: Collection[str] = ()) -> None:
        """Remove what waits here."""
        ...


class BackupKeeper(Protocol):
    """Stores what was taken, and removes what may go."""

    def store(self, backup: str, verified_at: float, progress: Callable[[int, int], None]) -> None:
        """Store the backup that waits; it exists when this returns, and not before."""
        ...

    def remove(self, retention: Retention) -> tuple[tuple[str, ...], int]:
        """Remove backups, WAL, and what killed attempts left; return the names of the WAL segments, and bytes freed."""
        ...

    def check(self, backup: str, progress: Callable[[int, int], None]) -> None:
        """Read everything of a stored backup again, and note that it is whole. Raises BackoutError."""
        ...


class ServerCheck(Protocol):
    """What the database's server lets us see of itself."""

    def read(self) -> ServerFacts:
        """Return it; what is refused is named in it. Raises AuthError, ProviderUnavailable when nobody answers."""
        ...


class Dumps(Protocol):
    """Logical copies of a database, kept on this machine."""

    def kept(self) -> tuple[Dump, ...]:
        """Return them, oldest first; one that was cut off half-way is none."""
        ...

    def take(self, *, checksums: bool) -> Dump:
        """Take one and count every table in the same snapshot. Raises AuthError where the role may not read it all."""
        ...

    def keep(self, dump: Dump) -> None:
        """Write what is known of it again."""
        ...

    def remove(self, dump: Dump) -> None:
        """Delete its files."""
        ...


class DumpRestores(Protocol):
    """Where dumps are restored into. Both raise BackoutError when a file is damaged or missing."""

    def tried(self, dump: Dump) -> tuple[TableContent, ...]:
        """Restore it into a scratch server and return what that holds."""
        ...

    def restore(self, dump: Dump, url: str) -> tuple[TableContent, ...]:
        """Restore it into an empty database and return what that holds. Raises Refused when it is not empty."""
        ...


class VendorBackups(Protocol):
    """The vendor's own copies: a branch at an earlier moment, beside the live one."""

    def capabilities(self) -> VendorState:
        """Return what the API offers now; a refused token or an API that is down is a state, not an error."""
        ...

    def branches(self) -> tuple[SideBranch, ...]:
        """Return all branches, newest first."""
        ...

    def restore(self, target: BranchTarget, name: str) -> SideBranch:
        """Make a branch of the live one at that moment, and return it when it can be connected to.

        Idempotent by `name`: a branch of that name is returned as it is. Raises Refused for a moment out of the
        vendor's window, or of a kind that the vendor does not take.
        """
        ...

    def url(self, branch: SideBranch, database: str, role: str) -> str:
        """Return the branch's connection string, which is a secret."""
        ...


class VendorCutover(Protocol):
    """What ends the life of a side branch: it becomes the live one, or it goes."""

    def hosts(self) -> frozenset[str]:
        """Return the host names at which the live branch answers; empty when the vendor does not say."""
        ...

    def finalize(self, branch: SideBranch, keep_as: str) -> Finalized:
        """Put its content in the live one's place, which stays under the name `keep_as`.

        Idempotent by `keep_as`. Raises Refused where the vendor has no such call.
        """
        ...

    def delete(self, branch: SideBranch) -> None:
        """Delete it; one that is gone already is no error. Raises Refused for the live one."""
        ...


class BranchReader(Protocol):
    """Reads side branches and never writes there: an id that a branch gave away would hide one of the live database."""

    def next_xid(self, url: str) -> int:
        """Return the first id (64 bits) that no transaction has got on the branch; waits for its compute to start."""
        ...

    def look(self, url: str, relation: str, migration: str) -> SideLook:
        """Return what it shows, read-only; "" is not looked for."""
        ...

    def committed_between(self, before: tuple[str, int], after: tuple[str, int]) -> tuple[Written, ...]:
        """Return what is committed in `after` and not in `before`, in the order of the ids.

        Args:
            before, after: (connection string, `next_xid` when the branch was made).

        Raises:
            Refused: too much lies between.
        """
        ...


class Connections(Protocol):
    """The database's connections."""

    def read(self) -> ConnectionUse:
        """Return how many are in use of how many; a database that has none left is a reading, not an error.

        Raises AuthError, or ProviderUnavailable when it does not answer.
        """
        ...


# --- the journal ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Done:
    """The world says: the step's effect is there; `result` is what `do` would have returned."""

    result: Json = None


@dataclass(frozen=True, slots=True)
class NotDone:
    """The world says: the step's effect is not there; doing it now is right."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The world does not say; `why` in one sentence."""

    why: str


Probe = Done | NotDone | Unknown


@dataclass(frozen=True, slots=True)
class Next:
    """A step's result that ends its run and hands the environment to a following run, in one transaction.

    Only the last step of a plan may return it.
    """

    result: Json
    plan: Plan
    reason: str


class StepContext(Protocol):
    """What a running step may do with the journal."""

    @property
    def run(self) -> str:
        """Id of the run."""
        ...

    def progress(self, data: Mapping[str, Json]) -> None:
        """Record progress (an event `step.progress`); the lease is re-checked in the same transaction."""
        ...

    def last_progress(self) -> Mapping[str, Json] | None:
        """Return the newest progress of this step, earlier attempts included, or None."""
        ...

    def check(self) -> None:
        """Raise Interrupted when a stop, pause or abort is asked for, Busy when the lease is lost.

        Only steps that change nothing outside (watching, verifying) call it; it is a step boundary inside them.
        """
        ...


class Action(Protocol):
    """How one kind of step is done, and how the world is asked whether it was done.

    `key` is the same on every attempt ("RUN:INDEX"): the marker in messages, the name of what is created.
    """

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json | Next:
        """Do it and return what was read back. May be called again after a crash that `probe` answered NotDone."""
        ...

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:
        """Ask the world, never our memory, whether the effect of an interrupted attempt is there."""
        ...


class Journal(Protocol):
    """The durable record of runs: the source of truth."""

    def submit(self, plan: Plan, *, actor: str, reason: str) -> str:
        """Accept a plan and return its run id; the same plan unfinished is the same run (typing it twice is one run).

        Raises Busy when another unfinished run keeps the environment, naming it and its holder.
        """
        ...

    def drive(
        self, run: str, actions: Mapping[str, Action], *, actor: str, notify: Callable[[Event], None] | None = None
    ) -> Run:
        """Drive the run (and the runs it hands over to) to the end, and return the last one.

        Completed steps are never repeated; a step found open is probed. `notify` sees each event after its commit.
        Raises Busy, Interrupted, PartlyDone (with the resume command), or the step's own error when it ended the run.
        """
        ...

    def events(
        self, *, run: str | None = None, environment: str | None = None, kind: str | None = None, after: int = 0
    ) -> Iterator[Event]:
        """Yield events in order, filtered; `kind` may end in `*`."""
        ...

    def note(self, environment: str, kind: str, key: str, data: Mapping[str, Json], *, actor: str) -> Event | None:
        """Record an event that belongs to no run; the same `key` of a kind once (None: it is there already)."""
        ...


class Runs(Protocol):
    """The journal's runs, to look at and to steer."""

    def runs(self, environment: str | None = None) -> tuple[Run, ...]:
        """Return all runs, newest first."""
        ...

    def find(self, run: str) -> Run | None:
        """Return one run by id or unambiguous prefix of an id."""
        ...

    def result(self, run: str, action: str) -> Json:
        """Return the recorded result of the run's (last) completed step of that action; None when there is none."""
        ...

    def ask(self, run: str, what: str, *, actor: str, reason: str) -> None:
        """Record a request `abort` that its holder obeys at the next boundary; without a holder it acts at once."""
        ...


class Marks(Protocol):
    """Judgements on versions that outlive runs."""

    def mark(self, environment: str, mark: VersionMark, *, actor: str) -> None:
        """Record a mark; the same mark by the same run on the same version once, a person's (no run) every time."""
        ...

    def marks(self, environment: str) -> tuple[VersionMark, ...]:
        """Return all marks, oldest first; for one version (or its code) the latest of quarantined/released wins."""
        ...

    def marked(self, environment: str, version: str, mark: Mark) -> VersionMark | None:
        """Return the latest such mark of this version, or None."""
        ...


class CountsStore(Protocol):
    """Per-second counts: beside the journal, prunable."""

    def keep(self, environment: str, counts: Sequence[Counts]) -> None:
        """Store counts; a row for the same version and second replaces the earlier one."""
        ...

    def kept(self, environment: str, since: int, until: int) -> tuple[Counts, ...]:
        """Return the stored counts of the seconds in [since, until)."""
        ...

    def prune(self, older_than: float) -> int:
        """Delete counts and checkpoints from before that time (Unix seconds), no events; return how many rows went."""
        ...


class Checkpoints(Protocol):
    """The newest state of something that is measured: beside the journal, latest wins."""

    def save_checkpoint(self, run: str, name: str, data: Json) -> None:
        """Store the newest state under a name; replaces the earlier one."""
        ...

    def load_checkpoint(self, run: str, name: str) -> Json:
        """Return the newest state or None."""
        ...


class Reports(Protocol):
    """Where incident reports are written."""

    def write(self, run: str, name: str, text: str) -> Path:
        """Write the report of a run and return its absolute path; writing it again replaces this run's file only."""
        ...

    def of_run(self, run: str) -> Path | None:
        """Return the report written for a run, or None."""
        ...
