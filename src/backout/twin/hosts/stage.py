"""The stage of a demo on plain hosts: a host, the sample application built for Node, visitors, a matching backout.toml.

A release is pushed as a pipeline would do it: built by esbuild, then `backout release push` in a process of its own.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from backout.errors import BackoutError, UsageError
from backout.extras import describe_install
from backout.model.value import Value
from backout.private import make_private_folder
from backout.providers.child_environment import make_bare_environment, make_module_command
from backout.providers.node import find_own_folder
from backout.twin import npm
from backout.twin.home import HOSTS
from backout.twin.stage import ENVIRONMENT, Stage, write_private

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.twin.lifecycle import TwinStatus

BUNDLE = "server.cjs"
_ENTRY = """import app from "./variants/{variant}.js";
import {{ serve }} from "./node/serve.js";
serve(app, {{ ...process.env, ...{variables} }});
"""
_BUILD_S, _PUSH_S = 60.0, 120.0


class Push(Value, frozen=True):
    """What became of a push.

    Args:
        release: its id, "" where it is none.
        said: the end of what the command said.
        is_live: whether it is, as the command read it back.
    """

    release: str
    said: str
    is_live: bool

    @property
    def is_there(self) -> bool:
        """Whether there is such a release, with or without visitors."""
        return bool(self.release)


class HostsStage(Stage):
    """A folder with a twin of plain hosts in it."""

    home: ClassVar = HOSTS
    made_of: ClassVar = "a host: Caddy, Postgres, S3, email"
    deploys_by: ClassVar = "backout release push"

    @property
    def host(self) -> str:
        """The Host header that leads to the application: Caddy has one site."""
        return urlsplit(str(self.twin.ingress_url)).netloc.partition(":")[0]

    def clear(self) -> None:
        """Stop what ran here before and forget its state; incident reports stay."""
        super().clear()
        shutil.rmtree(self.directory / "build", ignore_errors=True)

    def build(self, variant: str, variables: Mapping[str, str] | None = None) -> Path:
        """Build a variant for Node into one file, and return its folder.

        Args:
            variant: of the application.
            variables: that the code has as its own, as a Worker has its `vars`: they are no secrets.

        Raises:
            UsageError: there is no such variant, or Node is not installed.
            BackoutError: it cannot be built; the end of what esbuild said.
        """
        self.check_variant(variant)
        folder = self.directory / "build"
        shutil.rmtree(folder, ignore_errors=True)
        make_private_folder(folder)
        built = subprocess.run(
            (
                *(find_node(), str(npm.find_home() / npm.MODULES / "esbuild" / "bin" / "esbuild"), "--bundle"),
                *("--platform=node", "--target=node22", "--external:pg-native", "--external:cloudflare:sockets"),
                *("--log-level=error", f"--outfile={folder / BUNDLE}"),
            ),
            cwd=self.application / "src",
            input=_ENTRY.format(variant=variant, variables=json.dumps(dict(variables or {}))),
            capture_output=True,
            text=True,
            timeout=_BUILD_S,
            check=False,
            env=make_bare_environment(),
        )
        if built.returncode != 0:
            raise BackoutError(f"the application cannot be built: {built.stderr[-1500:].strip()}", where=variant)
        return folder

    @property
    def secrets_file(self) -> Path:
        """What the environment of a release is made of, a line each."""
        return self._secrets

    def deploy(self, variant: str, **variables: str) -> str:
        """Build a variant, push it with these variables beside its own, and return the release's id.

        Raises:
            BackoutError: it cannot be built, or is not live; with the end of what the command said.
        """
        pushed = self.push(variant, variables)
        if not pushed.is_live:
            raise BackoutError(f"backout release push failed: {pushed.said}", where=variant)
        return pushed.release

    def list_deploy_words(self, variant: str, variables: Mapping[str, str]) -> tuple[str, ...]:
        """Build a variant, and return the words that push it with these variables. Raises as `build`."""
        folder = self.build(variant, variables)
        return (
            *("backout", "release", "push", str(folder), "-e", ENVIRONMENT, "--config", str(self.config_file)),
            *("--env-file", str(self._secrets), "-m", variant, "--json", "--no-input"),
            *("--commit", ""),  # of none: what is checked out around it is not what it was built from
        )

    def push(self, variant: str, variables: Mapping[str, str]) -> Push:
        """Build a variant, and push it; what is unwell is a release without visitors. Raises as `build`."""
        done = subprocess.run(
            make_module_command(*self.list_deploy_words(variant, variables)),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PUSH_S,
            check=False,
            env=make_bare_environment(),
        )
        said = (done.stderr or done.stdout)[-1500:].strip()
        try:
            release = str(json.loads(done.stdout.splitlines()[-1])["release"]["id"])
        except (IndexError, KeyError, ValueError):
            release = ""
        return Push(release, said, is_live=done.returncode == 0)

    def _write_files(self, twin: TwinStatus) -> None:
        super()._write_files(twin)
        services = Path(twin.env_file).read_text(encoding="utf-8")
        write_private(self._secrets, self._secrets.read_text(encoding="utf-8") + services)

    def _describe_platform(self, twin: TwinStatus) -> str:
        first, last = twin.ports
        return f"""\
traffic = {{ provider = "caddy" }}

[environments.{ENVIRONMENT}.platform]
provider = "caddy"

[environments.{ENVIRONMENT}.platform.caddy]
releases = "twin/releases"
access_log = "twin/access.log"
ports = [{first}, {last}]
run = {json.dumps(shlex.join((find_node(), BUNDLE)))}
"""


def find_node() -> str:
    """Return the program of the Node that came with backout. Raises UsageError: it is not installed."""
    folder = find_own_folder()
    if folder is None:
        raise UsageError("Node is not installed", hint=describe_install("twin"))
    return str(folder / "node")
