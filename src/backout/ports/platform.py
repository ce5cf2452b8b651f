"""Ports on the platform: deployments, versions, builds, secrets, triggers, and our identity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from backout.model.attached import Attached, AttachedKind
    from backout.model.bundle import Bundle
    from backout.model.deployment import Cohort, CommandEnd, Deployment, Share
    from backout.model.identity import Identity
    from backout.model.incident.builds import BuildRun
    from backout.model.incident.vendor import VendorIncident
    from backout.model.platform import CacheState, QueueState
    from backout.model.release import Leftover, OtherRelease, Release, ReleaseNote
    from backout.model.secrets import SecretValues
    from backout.model.token import TokenState
    from backout.model.triggers import TriggerKind, Triggers
    from backout.model.version import Version


class Deployments(Protocol):
    """Deployments, current and past, and the one mutation behind every rollback."""

    def history(self) -> tuple[Deployment, ...]:
        """Return the deployments the provider still lists, newest first; the first one is live.

        Empty when the application exists but was never deployed. Raises ProviderRejected (status 404) when it
        does not exist.
        """
        ...

    def activate(self, version: str, *, message: str, force: bool = False, immediate: bool = False) -> Deployment:
        """Make `version` live at 100 % and return the new deployment as the provider answered it.

        With `immediate`, what would keep running the code of before for a while (Durable Objects) is reset at once.
        Not idempotent: each call is a new deployment; callers put a marker into `message` to recognise theirs.
        Raises SecretsChanged when the provider refuses because of secrets and `force` is False; Refused when the
        target can no longer run (a bound bucket is gone, a storage migration lies between, out of the window).
        """
        ...

    def deploy(
        self, shares: Sequence[Share], *, message: str, force: bool = False, cohorts: Sequence[Cohort] = ()
    ) -> Deployment:
        """Make versions live with these percentages (they sum to 100; 0 is allowed); otherwise as `activate`.

        A version at 0 % gets no traffic, but answers a request that names it through the provider's override. The
        `cohorts` stay as they are as far as their versions are among these; every other one shares as all others do.
        """
        ...


class DeploymentTimes(Protocol):
    """When each application of an account was deployed last, all of them in one look."""

    def read(self) -> Mapping[str, float]:
        """Return the Unix seconds of each one's newest deployment by the application's name.

        Without those that were never deployed. Raises ProviderUnavailable also when the provider does not tell.
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


class Releases(Protocol):
    """Releases on hosts of the team's own: folders that are pushed, and a process each."""

    def list(self) -> tuple[Release, ...]:
        """Return them, newest first. Raises BackoutError: they cannot be read."""
        ...

    def list_others(self) -> tuple[OtherRelease, ...]:
        """Return what other tools put beside them: it is read, and never changed."""
        ...

    def push(self, folder: Path, note: ReleaseNote, environment: SecretValues | None = None) -> Release:
        """Copy a folder as a new release; it does not run yet.

        Args:
            folder: of this machine.
            note: what is said of it.
            environment: None: that of the newest one.

        Raises UsageError: the folder cannot be a release; BackoutError: it cannot be written.
        """
        ...

    def start(self, release: str) -> Release:
        """Have it run on every host, and return it when it accepts connections. Raises Refused: it does not."""
        ...

    def stop(self, release: str) -> None:
        """Have it end. Raises BackoutError: it does not."""
        ...

    def remove(self, release: str) -> None:
        """Stop it and remove its folder. Raises BackoutError."""
        ...

    def clear(self, *, dry_run: bool = False) -> tuple[Leftover, ...]:
        """Remove what pushes and removals that were killed left behind, and return that; never one that is under way.

        Hosts that are not reached are left out.

        Args:
            dry_run: nothing is removed.

        Raises BackoutError: a host is kept by somebody else, or cannot be read.
        """
        ...


class DeployCommand(Protocol):
    """The team's own command that deploys the working copy."""

    def run(self, command: str, hear: Callable[[str], None]) -> CommandEnd:
        """Run it to its end, whatever it exits with; each line that it writes is handed to `hear`, masked.

        It is not ended with us: after a crash it goes on. Raises Busy while an earlier one of this environment runs;
        BackoutError when it cannot be started.
        """
        ...

    def still_runs(self) -> bool:
        """Whether one that was started here, by a process that may be gone, has not ended yet."""
        ...


class Secrets(Protocol):
    """The names of the application's current secrets; never a value."""

    def names(self) -> tuple[str, ...]:
        """Return the names, sorted."""
        ...


class SecretWriter(Protocol):
    """Sets secrets of the application."""

    def put(self, values: SecretValues) -> None:
        """Set all of them in one call: a new version of the newest code, live at 100 % at once; all or nothing.

        Setting the same values again has no other effect than a further version. No error ever quotes a value. Raises
        NewestNotLive when the newest version is not the only one that is live; Refused when a name is bound otherwise.
        """
        ...


class SecretSource(Protocol):
    """The configured source of the values of secrets. Raises BackoutError, which never quotes a value."""

    @property
    def described(self) -> str:
        """The source in words: "the file .env.production"."""
        ...

    def names(self) -> tuple[str, ...] | None:
        """Return the names that it holds, sorted; None when it can only be asked for a name."""
        ...

    def read(self, names: Collection[str]) -> SecretValues:
        """Return the values of these names; those that it does not hold are left out."""
        ...


class Fingerprints(Protocol):
    """Keyed fingerprints of values: the same value has the same one, and the value cannot be found without the key."""

    def of(self, name: str, value: str) -> str:
        """Return the fingerprint of a value under its name, `KEY-DIGITS`. Raises BackoutError: no usable key."""
        ...


class Bundles(Protocol):
    """The code of versions at the provider: read it, upload it again."""

    def fetch(self, version: str) -> Bundle:
        """Return the code of a version.

        Raises:
            ProviderRejected: the provider does not give it (any more).
            Refused: it holds what no upload can bring back.
        """
        ...

    def upload(self, bundle: Bundle, *, message: str, secrets: SecretValues | None = None) -> Version:
        """Upload the code as a new version, not live, with the secrets as they are now, and return it.

        `secrets` are set in it beside those. Not idempotent; callers put a marker into `message` to recognise theirs.
        Raises Refused when a secret that the code needs does not exist any more.
        """
        ...


class BundleStore(Protocol):
    """Bundles kept on this machine, content-addressed. Raises BackoutError when one cannot be read."""

    def keep(self, bundle: Bundle) -> None:
        """Keep a bundle; a file that is there already is not written twice."""
        ...

    def find(self, version: str) -> Bundle | None:
        """Return the kept bundle of a version. Raises BackoutError when it is damaged."""
        ...

    def has(self, version: str) -> bool:
        """Whether the bundle of a version is kept; it is not read."""
        ...

    def list_versions(self, *, apart_from: Collection[str] = ()) -> tuple[Version, ...]:
        """Return the versions whose bundles are kept, without those named, newest first."""
        ...


class Identities(Protocol):
    """The identity of the environment that our credentials reach."""

    def read(self) -> Identity:
        """Return what can be read of it now; a part that cannot be read, or is not set up, is None."""
        ...


class TokenCheck(Protocol):
    """The tokens in use."""

    def look(self) -> tuple[TokenState, ...]:
        """Return the state of each token; a refused one is a state, not an error. Raises ProviderUnavailable only."""
        ...


class ProviderClock(Protocol):
    """The provider's clock compared with ours."""

    def offset_s(self) -> float | None:
        """Return the provider's clock minus ours in seconds, None before its first answer."""
        ...


class Builds(Protocol):
    """The pipeline that builds and deploys."""

    def latest(self, commit: str = "") -> BuildRun | None:
        """Return the newest run (of that commit, when named) with its jobs, None when there is none.

        Raises AuthError, ProviderRejected, ProviderUnavailable.
        """
        ...

    def log(self, job: str) -> str:
        """Return the log of a job by its id; errors as `latest`."""
        ...


class Checkout(Protocol):
    """The working copy that the configuration was read from."""

    def contains(self, git_sha: str) -> bool | None:
        """Whether that commit is part of what is checked out; None when there is no working copy to ask."""
        ...


class TriggerSettings(Protocol):
    """What starts the application, apart from a version: schedules, routes, domains, queues."""

    def read(self, kinds: Collection[TriggerKind]) -> Triggers:
        """Return these kinds; one that is not asked for, or that the token may not read, is None."""
        ...

    def set_schedules(self, schedules: Sequence[str]) -> None:
        """Replace the schedules by these cron expressions."""
        ...


class Queues(Protocol):
    """The queues whose messages the application is given."""

    def list_consumed(self) -> tuple[QueueState, ...]:
        """Return those that this application consumes, by name. Raises AuthError, ProviderRejected."""
        ...

    def pause(self, name: str) -> None:
        """Stop the delivery of a queue; what is being delivered goes on, and what is sent waits in it.

        Doing it again changes nothing. Raises ProviderRejected (status 404) where there is none of this name.
        """
        ...

    def resume(self, name: str) -> None:
        """Let a queue deliver again; otherwise as `pause`."""
        ...


class ReadCaches(Protocol):
    """The caches between the application and its database, and what else the platform keeps of earlier data."""

    def read(self) -> tuple[CacheState, ...]:
        """Return the caches that the live versions read through. Raises AuthError, ProviderRejected."""
        ...

    def turn_off(self, cache: str) -> None:
        """Stop a cache by its id: what it holds is not used any more once the platform has taken that over."""
        ...

    def restore(self, state: CacheState) -> None:
        """Let a cache be as it was: on or off, with its own durations."""
        ...

    def list_uncovered(self) -> tuple[str, ...]:
        """Return a sentence for each kind of kept data that is bound to the live versions and that nothing here clears.

        Each begins with its name, and ends with how a person clears it, if that is possible.
        """
        ...


class Maintenance(Protocol):
    """A version that answers 503 to everything, with the application's bindings and secrets.

    Such a version is known by its tag (`Version.is_maintenance`), whoever made it live.
    """

    def find_obstacle(self) -> str:
        """Return why none can be made of the live version, one sentence; "" where one can. It changes nothing."""
        ...

    def show(self, message: str) -> Deployment:
        """Upload such a version, make it live at 100 %, and return the deployment as the provider answered it.

        It answers 503 with Retry-After, runs no schedule, and gives every message of a queue back. Not idempotent;
        callers put a marker into `message`, which the version has too. Raises Refused where there is an obstacle.
        """
        ...


class Attachments(Protocol):
    """What runs or deploys beside the versions: containers, workflows, builds."""

    def read(self, kinds: Collection[AttachedKind]) -> Attached:
        """Return these kinds; one that is not asked for, or that cannot be read, is None."""
        ...


class VendorStatus(Protocol):
    """The incidents that vendors announce."""

    def incidents(self) -> tuple[VendorIncident, ...]:
        """Return the unresolved incidents that touch us. Raises ProviderUnavailable when a page does not answer."""
        ...
