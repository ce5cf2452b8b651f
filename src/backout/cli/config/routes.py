"""`backout init --ask-routes`: which of the routes that the source names answer well, written into backout.toml."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from backout import config as configuration
from backout.config.init.routes import find_routes, format_accepted, format_proposal
from backout.config.toml_text import format_key
from backout.errors import BackoutError, ConfigError
from backout.wiring.health import find_answering

if TYPE_CHECKING:
    from pathlib import Path

    from backout.cli.support.shell import Shell


def ask(shell: Shell) -> int:
    """Request the routes that the source names now, for an existing file: where proposed, or in one environment."""
    loaded = shell.config()
    routes = find_routes(shell.folder)
    found = ask_new_file(shell, (loaded.name,), loaded.path, routes) if routes else {}
    text = loaded.path.read_text(encoding="utf-8")
    answered = list(found.get(loaded.name, ()))
    payload = {
        "path": loaded.path,
        "written": bool(answered),
        "environments": (loaded.name,),
        "mistakes": (),
        "text": text,
        "routes": answered,
    }
    done = f"{loaded.name}: guard asks {', '.join(answered)}" if answered else f"{loaded.name}: nothing was changed"
    shell.output.result("init", payload, done)
    shell.output.next(f"backout config check -e {loaded.name}")
    return 0 if answered else 7


def ask_new_file(
    shell: Shell, names: tuple[str, ...], file: Path, routes: tuple[str, ...]
) -> dict[str, tuple[str, ...]]:
    """Request the routes in each environment of a new file, and replace the proposal with those that answered 2xx.

    What cannot be requested stays a proposal, and that is said. Returns {environment: what is written there now}.
    """
    asked: dict[str, tuple[str, ...]] = {}
    for name in names:
        try:
            loaded = configuration.load(shell.environment, start=shell.folder, path=file, environment=name)
            found = find_answering(loaded, routes)
        except BackoutError as error:
            why = "; ".join(error.mistakes) if isinstance(error, ConfigError) else error.what
            shell.output.say(f"{name}: no route was asked: {why}")
            continue
        shell.output.say(f"{name}: {len(found)} of {len(routes)} routes answer 2xx: {', '.join(found) or 'none'}")
        if found and _accept(file, name, routes, found):
            asked[name] = found
    return asked


def _accept(file: Path, name: str, routes: tuple[str, ...], found: tuple[str, ...]) -> bool:
    """Write them in place of an environment's proposal; False if the proposal is not there (any more)."""
    text = file.read_text(encoding="utf-8")
    head, table, rest = text.partition(f"[environments.{format_key(name)}.guard.synthetic]")
    if not table or format_proposal(routes) not in rest.partition("\n[")[0]:
        return False
    temporary = file.with_suffix(".new")
    temporary.write_text(
        head + table + rest.replace(format_proposal(routes), format_accepted(found), 1), encoding="utf-8"
    )
    os.replace(temporary, file)  # noqa: PTH105 - the atomic one, named as such
    return True
