"""What the commands of `backout release` share: the ports, and a release as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.report.times import format_time

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.model.release import ReleaseState
    from backout.ports import Releases
    from backout.runbook.toolbox import Toolbox


def open_releases(shell: Shell) -> tuple[Toolbox, Releases]:
    """Return the toolbox and the releases. Raises ConfigError: the environment does not run on hosts."""
    from backout.wiring.caddy import open_home
    from backout.wiring.hooks import Hooks

    config = shell.config()
    home = open_home(config)
    return shell.toolbox(config, Hooks(say=shell.output.warn)), home.make_releases()


def make_release_record(release: ReleaseState) -> dict[str, object]:
    """Return a release as JSON values."""
    return {
        "id": release.id,
        "number": release.number,
        "commit": release.git_sha or None,
        "tag": release.tag or None,
        "message": release.message or None,
        "hash": release.code_hash,
        "created_at": format_time(release.created_at),
        "address": release.address,
        "runs": release.answers,
    }
