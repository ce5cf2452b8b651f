"""After an incident or a drill: whether the team's runbook has to be looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.config import Config


def name_runbook(shell: Shell, config: Config) -> None:
    """Say how to see what of each written runbook (of the chosen environment's alone) is no longer so."""
    names = [name for name in config.places.list_runbooks() if config.chosen in (None, name)]
    shell.output.next(*(f"backout runbook --check -e {name}  # what of it is no longer so" for name in names))
