"""`backout twin env` and `twin config`: what a shell and a backout.toml need to use the twin in place of the cloud."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from backout.cli.support.options import Command, pass_shell
from backout.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.cli.support.shell import Shell
    from backout.twin.lifecycle import TwinStatus

DEFAULT_DIRECTORY = Path(".backout/twin")
DATABASE_ENV = "TWIN_DATABASE_URL"
HOSTS = "hosts"
"""The twin that stands in for plain hosts; the other one is that of Cloudflare."""


def choose_folder(shell: Shell, directory: Path) -> Path:
    """Return the folder of a twin. One below the present folder that a repository or another user brought is refused.

    Raises:
        Untrusted: the state of a twin names its token and what it runs.
    """
    from backout.config.trust import check_state

    place = shell.folder / directory
    if place.is_relative_to(shell.folder):
        check_state(shell.folder, (place,))
    return place


directory_option: Callable[[Any], Any] = click.option(
    "--dir", "directory", type=click.Path(path_type=Path, file_okay=False), default=DEFAULT_DIRECTORY,
    show_default=True, metavar="DIR", help="The folder of the twin's state; one twin per folder.",
)  # fmt: skip


def _find_running(shell: Shell, directory: Path) -> TwinStatus:
    from backout.twin import lifecycle

    found = lifecycle.read_status(choose_folder(shell, directory))
    if not found.running:
        raise UsageError("the twin is down", where=found.directory, hint="backout twin up")
    if found.postgres_dsn:
        shell.output.redactor.allow(found.postgres_dsn)  # the one password that may be shown: it opens this twin alone
    return found


@click.command(
    "env",
    cls=Command,
    short_help="Print the lines that point a shell's wrangler at the twin.",
    epilog="""
Examples:
  eval "$(backout twin env)"        # then: npx wrangler deploy
""",
)
@directory_option
@pass_shell
def env(shell: Shell, directory: Path) -> int:
    """Print the export lines that point wrangler, psql and curl in this shell at the twin.

    The token itself is not printed: it stays in its file, and the last line reads it. Of a host there is neither a
    wrangler nor a token. A Node that is new enough for
    wrangler is put first on PATH, because many machines have an older one.
    """
    from backout.wiring.node import format_path_line, write_programs

    twin = _find_running(shell, directory)
    plain = {DATABASE_ENV: twin.postgres_dsn, "TWIN_INGRESS_URL": twin.ingress_url}
    if twin.home != HOSTS:
        account = {"CLOUDFLARE_API_BASE_URL": twin.api_base_url, "CLOUDFLARE_ACCOUNT_ID": twin.account_id}
        plain = {**account, **plain, "WRANGLER_SEND_METRICS": "false"}
    there = {name: value for name, value in plain.items() if value}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in there.items()]
    programs = choose_folder(shell, directory).absolute() / "bin"
    has_node = write_programs(programs)
    if has_node:
        lines.append(format_path_line(programs))
    if twin.home != HOSTS:
        lines.append(f'export CLOUDFLARE_API_TOKEN="$(cat {shlex.quote(str(twin.api_token_file))})"')
    payload = {
        "variables": there,
        "token_file": twin.api_token_file,
        "path": str(programs) if has_node else None,
    }
    shell.output.result("twin-env", payload, "\n".join(lines))
    return 0


@click.command(
    "config",
    cls=Command,
    short_help="Print the backout.toml section for a Worker on the twin.",
    epilog="""
Examples:
  backout twin config shop >> backout.toml      # then: backout doctor -e twin
  backout twin config >> backout.toml           # of a host
""",
)
@click.argument("worker", required=False)
@click.option("--name", default="twin", show_default=True, metavar="ENV", help="The environment's name.")
@click.option(
    "--migrations",
    type=click.Choice(["prisma", "alembic", "django", "drizzle", "none"]),
    help="Add the twin's Postgres, with this tool's history of migrations.",
)
@directory_option
@pass_shell
def config(shell: Shell, worker: str | None, name: str, migrations: str | None, directory: Path) -> int:
    """Print the backout.toml environment for WORKER (its name at Cloudflare) on the twin, counted exactly.

    A twin of a host has no Workers: leave it out there.
    """
    from backout.config.toml_text import format_key, format_literal

    twin = _find_running(shell, directory)
    if (worker is None) != (twin.home == HOSTS):
        needed = "a Worker is needed" if worker is None else "a twin of a host has no Workers"
        raise UsageError(needed, where=twin.directory, hint=f"backout twin config{' WORKER' if worker is None else ''}")
    settings = _describe_host(shell, twin) if worker is None else _describe_worker(shell, twin, worker)
    settings["criteria"] = {"latency": {"p99_at_most": 10.0}}  # answers take milliseconds here, the machine is shared
    lines = ["", f"[environments.{format_key(name)}]"]
    lines += [f"{key} = {format_literal(value)}" for key, value in settings.items()]
    if migrations:
        database = {"provider": "postgres", "url_env": DATABASE_ENV, "migrations": migrations}
        lines.append(f"database = {format_literal(database)} # set by: backout twin env")
    elif worker in twin.d1_databases:
        bound = {"provider": "d1", "database_id": twin.d1_databases[worker], "migrations": "d1"}
        lines.append(f"database = {format_literal(bound)}")
    text = "\n".join(lines)
    shell.output.result("twin-config", {"environment": name, "text": text}, text)
    shell.output.next(f"backout doctor -e {name}")
    return 0


def _describe_host(shell: Shell, twin: TwinStatus) -> dict[str, object]:
    """Return the settings of releases on a host; `run` is what starts them in most projects, and to be edited."""
    caddy = {
        "releases": make_relative(shell, twin.releases),
        "access_log": make_relative(shell, twin.access_log),
        "ports": twin.ports,
        "run": "node server.js",
    }
    return {
        "platform": {"provider": "caddy", "caddy": caddy},
        "health": {"url": f"{twin.ingress_url}/health"},
        "traffic": {"provider": "caddy"},
    }


def _describe_worker(shell: Shell, twin: TwinStatus, worker: str) -> dict[str, object]:
    ingress, token = str(twin.ingress_url), make_relative(shell, str(twin.api_token_file))
    host = f"{twin.workers.get(worker, f'{worker}.localhost')}:{urlsplit(ingress).port}"
    platform = {
        "provider": "cloudflare",
        "script": worker,
        "account_id": twin.account_id,
        "api_base_url": twin.api_base_url,
        "token_file": token,
    }
    return {
        "platform": platform,
        "health": {"url": f"http://{host}/health"},
        "traffic": {"provider": "twin", "url": twin.control_url, "token_file": token},
    }


def make_relative(shell: Shell, path: str) -> str:
    """Return a path as a backout.toml in this folder names it, so that the folder can be moved."""
    return os.path.relpath(path, shell.folder) if Path(path).is_relative_to(shell.folder) else path
