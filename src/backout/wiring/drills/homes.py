"""What drills need from the platform of their application: a twin of Cloudflare, or plain hosts behind Caddy."""

from __future__ import annotations

import shlex
import subprocess
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from backout.config import Environment, load
from backout.errors import BackoutError, UsageError
from backout.model.drill import DrillPlace
from backout.model.release import ReleaseNote
from backout.model.secrets import SecretValues
from backout.model.value import Value
from backout.private import write_over
from backout.providers.caddy.releases import ALONE
from backout.providers.caddy.route import LIVE
from backout.providers.child_environment import ChildEnvironment, make_bare_environment, make_module_command
from backout.twin import remote
from backout.twin.hosts.stage import BUNDLE, HostsStage, find_node
from backout.twin.stage import ENVIRONMENT, NAME, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

    from backout.config.drills import Drill
    from backout.twin.stage import Pace

_PATIENCE_S: Final = 60.0
_BREAKS_ANSWERS: Final = ("errors", "latency", "worker-crash")
_BREAKS_VERSIONS: Final = ("bad-target", "two-bad-targets")
_DATABASE: Final = "DATABASE_URL"


class DeployCall(Value, frozen=True):
    """A command that deploys, as a pipeline runs it."""

    argv: tuple[str, ...]
    cwd: Path
    environment: ChildEnvironment


class Home(Protocol):
    """The application of drills, its platform, and what happens to both from outside."""

    place: DrillPlace
    stage: Stage
    bucket: str
    """The name of the application's bucket."""
    listed: int
    """How many deployments the platform lists."""

    def make_tables(self) -> dict[str, object]:
        """Return the tables `health`, `traffic` and `platform` of its environment."""
        ...

    def deploy(self, variant: str, **variables: str) -> str:
        """Make a variant live, however unwell it is, and return its version. Raises BackoutError: it cannot be."""
        ...

    def make_deploy_call(self, variant: str, variables: Mapping[str, str]) -> DeployCall:
        """Return the command that does so."""
        ...

    def remove_secret(self, name: str) -> None:
        """Remove a secret of what is live; where there is none nothing happens. Raises BackoutError."""
        ...

    def log_in_as(self, role: str | None, url: SplitResult | None = None) -> None:
        """Have the application use another role of the database from now on, None: its own one again.

        Args:
            url: of the database, with that role and its password.

        Raises:
            BackoutError: it does not.
        """
        ...

    def tidy(self) -> None:
        """Remove what earlier drills have left. Raises BackoutError."""
        ...


class OnCloudflare:
    """A `Home` on the twin of Cloudflare."""

    place: DrillPlace = DrillPlace.TWIN
    bucket = "fm5-models"
    listed = 10

    def __init__(self, directory: Path, *, name: str = NAME) -> None:
        self.stage = Stage(directory, tied=True, name=name)

    def make_tables(self) -> dict[str, object]:
        """Return the tables of an environment on the twin's API."""
        stage, twin = self.stage, self.stage.twin
        port, token = str(twin.ingress_url).rsplit(":", 1)[-1], str(twin.api_token_file)
        return {
            "health": {"url": f"http://{stage.host}:{port}/health"},
            "traffic": {"provider": "twin", "url": f"{twin.ingress_url}/twin/v1", "token_file": token},
            "platform": {
                "provider": "cloudflare",
                "account_id": twin.account_id,
                "script": stage.script,
                "api_base_url": twin.api_base_url,
                "token_file": token,
            },
        }

    def deploy(self, variant: str, **variables: str) -> str:
        """Deploy by the real wrangler."""
        return self.stage.deploy(variant, **variables)

    def make_deploy_call(self, variant: str, variables: Mapping[str, str]) -> DeployCall:
        """Return wrangler's command."""
        tool = self.stage.find_wrangler()
        words = self.stage.list_deploy_words(variant, variables)
        return DeployCall(tool.argv(*words), tool.cwd, tool.environment())

    def remove_secret(self, name: str) -> None:
        """Call the API of the Worker as another tool would. Raises BackoutError: it says no."""
        twin = self.stage.twin
        token = Path(str(twin.api_token_file)).read_text(encoding="ascii").strip()
        place = f"{twin.api_base_url}/accounts/{twin.account_id}/workers/scripts/{self.stage.script}"
        headers = {"Authorization": f"Bearer {token}"}
        request = urllib.request.Request(f"{place}/secrets/{name}", headers=headers, method="DELETE")  # noqa: S310 - the twin, on loopback
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE_S):  # noqa: S310 - same
                pass
        except OSError as error:
            raise BackoutError(f"the secret was not removed: {error}", where=name) from error

    def log_in_as(self, role: str | None, url: SplitResult | None = None) -> None:  # noqa: ARG002 - the twin has it
        """Have Hyperdrive log in by it."""
        remote.set_database_role(self.stage.twin, role)

    def tidy(self) -> None:
        """Nothing has to be: a version that is not live has no process."""


class OnHosts:
    """A `Home` on a host behind Caddy.

    Args:
        pace: as of `Stage`.
    """

    place: DrillPlace = DrillPlace.HOSTS
    bucket = "files"
    listed = 50

    def __init__(self, directory: Path, pace: Pace | None = None) -> None:
        self._hosts = HostsStage(directory, pace, tied=True)
        self.stage: Stage = self._hosts
        self._own = ""

    def make_tables(self) -> dict[str, object]:
        """Return the tables of an environment with the host's releases."""
        twin = self.stage.twin
        return {
            "health": {"url": f"{twin.ingress_url}/health"},
            "traffic": {"provider": "caddy"},
            "platform": {
                "provider": "caddy",
                "caddy": {
                    "releases": twin.releases,
                    "access_log": twin.access_log,
                    "ports": list(twin.ports),
                    "run": shlex.join((find_node(), BUNDLE)),
                },
            },
        }

    def deploy(self, variant: str, **variables: str) -> str:
        """Push a release; one that is unwell gets visitors by hand. Raises BackoutError: it does not even start."""
        pushed = self._hosts.push(variant, variables)
        if not pushed.is_live:
            if not pushed.is_there:
                raise BackoutError(f"backout release push failed: {pushed.said}", where=variant)
            releases = Path(self.stage.twin.releases)
            by_hand = releases / ".by-hand"
            by_hand.symlink_to(f"{pushed.release}/{ALONE}")
            by_hand.replace(releases / LIVE)
        return pushed.release

    def make_deploy_call(self, variant: str, variables: Mapping[str, str]) -> DeployCall:
        """Return the command that pushes a release."""
        words = self._hosts.list_deploy_words(variant, variables)
        return DeployCall(make_module_command(*words), self.stage.directory, make_bare_environment())

    def remove_secret(self, name: str) -> None:
        """Make a release of the live code without it, live at once."""
        from backout.wiring.caddy import open_home

        file = self.stage.config_file
        found = open_home(load(Environment({}), start=file.parent, path=file, environment=ENVIRONMENT))
        releases, deployments = found.make_releases(), found.make_deployments()
        live = deployments.history()[0].main
        kept = releases.read_environment(live)
        if name not in kept.names:
            return
        rest = SecretValues({each: kept.reveal(each) for each in kept.names if each != name})
        release = releases.get(live)
        made = releases.add(release, ReleaseNote(release.git_sha, release.tag, f"without {name}"), rest, "secret")
        deployments.activate(made.id, message=f"without {name}", force=True)

    def log_in_as(self, role: str | None, url: SplitResult | None = None) -> None:
        """Deploy the good code with another URL in its environment, which what is deployed next has as well."""
        file = self._hosts.secrets_file
        if role is None:
            write_over(file, self._own.encode())
            return
        self._own = file.read_text(encoding="utf-8")
        kept = [line for line in self._own.splitlines() if not line.startswith(f"{_DATABASE}=")]
        assert url is not None
        write_over(file, "\n".join([*kept, f"{_DATABASE}={url.geturl()}", ""]).encode())
        try:
            self.deploy("good")
        except BaseException:  # nobody asks for its own role then
            write_over(file, self._own.encode())
            raise

    def tidy(self) -> None:
        """Remove all releases but those that are live, were live last, or are stable. Raises BackoutError."""
        words = ("release", "prune", "--keep", "0", "-e", ENVIRONMENT, "--config", str(self.stage.config_file))
        ended = subprocess.run(
            make_module_command("backout", *words, "--yes", "--no-input"),
            cwd=self.stage.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
            env=make_bare_environment(),
        )
        if ended.returncode != 0:
            raise BackoutError(f"old releases are not removed: {ended.stderr[-500:].strip()}", where="the drill")


def make_home(place: DrillPlace, directory: Path, *, name: str = NAME) -> Home:
    """Return the application of drills on a platform, not set up yet."""
    return OnHosts(directory) if place is DrillPlace.HOSTS else OnCloudflare(directory, name=name)


def explain_left_out(drill: Drill, place: DrillPlace) -> str:
    """Return why a drill of the twin cannot take place on a platform, "" where it can."""
    if place is not DrillPlace.HOSTS or drill.file.environment is not DrillPlace.TWIN:
        return ""
    kinds = [fault.kind for fault in drill.file.fault]
    if any(kind.startswith("api-") for kind in kinds):
        return "a host has no API, and no token for one, that could fail: its files and its Caddy are asked"
    if drill.file.procedure in _BREAKS_VERSIONS or any(kind in _BREAKS_ANSWERS for kind in kinds):
        return "nothing stands between a release and its visitors that could break its answers"
    return ""


def check_takes_place(drill: Drill, place: DrillPlace) -> None:
    """Raise UsageError: a drill that was named cannot take place there."""
    if why := explain_left_out(drill, place):
        raise UsageError(f"it cannot take place on hosts: {why}", where=drill.name, hint="backout drill list")
