"""`backout init` says what wrangler deploys where that is not plain: a build's configuration, a second Worker."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from backout.config.init.wrangler import REDIRECT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backout.cli.support.shell import Shell
    from backout.config.init.wrangler import Found


def say_deployed(shell: Shell, deployed: Found, source: Path) -> None:
    """Say which files and which Workers were taken, where a person may take others for them."""
    for line in _describe(deployed, source):
        shell.output.say(line)


def _describe(deployed: Found, source: Path) -> Iterator[str]:
    if deployed.redirected is not None:
        own = next((worker for worker in deployed.workers if worker.target == deployed.built), None)
        whose = f"{own.environment} (Worker {own.script})" if own else deployed.built or "the top-level Worker"
        others = [worker.environment for worker in deployed.workers if worker is not own]
        rest = f"; {', '.join(others)} as {source.name} has it" if others and source != deployed.redirected else ""
        yield f"{whose} as its build configures it, {deployed.redirected}: {REDIRECT} has wrangler deploy that{rest}"
    if deployed.left_out is not None:
        other = deployed.left_out
        chosen = next(worker for worker in deployed.workers if re.match("prod", worker.environment, re.IGNORECASE))
        yield (
            f"{chosen.environment} is the Worker {chosen.script} (`{chosen.deploy_line}`); {other.script} "
            f"(`{other.deploy_line}`) is left out: if that one is {chosen.environment}, correct platform.script"
        )
