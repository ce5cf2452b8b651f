"""Shared by the commands of `backout drill`: the drills, and their history."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from backout.cli.twin_env import choose_folder
from backout.errors import UsageError
from backout.model.drill import DrillEnd, DrillPlace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.cli.support.shell import Shell
    from backout.config import Config
    from backout.config.drills import Drill
    from backout.journal.stored import StoredJournal
    from backout.model.drill import DrillRecord

DIRECTORY = ".backout/drills"
_OURS = (DrillPlace.TWIN, DrillPlace.HOSTS)

directory_option: Callable[[Any], Any] = click.option(
    "--dir", "directory", type=click.Path(path_type=Path, file_okay=False), default=Path(DIRECTORY),
    show_default=True, metavar="DIR", help="The folder of the drills' twin.",
)  # fmt: skip

drills_option: Callable[[Any], Any] = click.option(
    "--drills", "own", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Your own drills; default: the folder drills beside backout.toml.",
)  # fmt: skip


def read_config(shell: Shell) -> Config | None:
    """Return the project's configuration, None where there is none.

    Raises:
        ConfigError: it is wrong.
        UsageError: the file that was named is not there.
    """
    if shell.flags.config is None and shell.environment.get("BACKOUT_CONFIG") is None:
        from backout.config.loading import FILE_NAME

        folder = shell.folder.absolute()
        if not any((each / FILE_NAME).is_file() for each in (folder, *folder.parents)):
            return None
    return shell.config()


def read_drills(shell: Shell, config: Config | None, own: Path | None) -> tuple[Drill, ...]:
    """Return the drills that there are.

    Raises:
        ConfigError: what is wrong in the files.
        UsageError: `own` is no folder.
    """
    from backout.wiring.drills.catalogue import load_drills

    folder = shell.folder if config is None else config.path.parent
    return load_drills(folder, None if own is None else shell.folder / own)


def open_history(shell: Shell, config: Config | None, directory: Path) -> StoredJournal:
    """Return the journal of drills."""
    from backout.wiring.drills.records import open_history as open_there

    return open_there(config, choose_folder(shell, directory))


def mark_ends(shell: Shell) -> Callable[[DrillEnd], str]:
    """Return what gives the symbol of a drill's end."""
    from backout.cli.support.style import Tone

    tones = {DrillEnd.PASSED: Tone.GOOD, DrillEnd.MISSED: Tone.BAD, DrillEnd.INTERRUPTED: Tone.WARN}
    return lambda end: shell.output.style.badge("", tones[end])


def choose_drills(drills: tuple[Drill, ...], names: tuple[str, ...], *, every: bool) -> tuple[Drill, ...]:
    """Return the drills that were named, or all that take place on the twin.

    Raises:
        UsageError: there is no such drill, none was named, or both.
    """
    from backout.config.drills import find_drills, order_drills

    if every == bool(names):
        raise UsageError("name drills, or type --all", where="backout drill run", hint="backout drill list")
    if not every:
        return find_drills(drills, names)
    return order_drills(each for each in drills if each.file.environment is DrillPlace.TWIN)


def choose_place(home: str | None, config: Config | None, before: Sequence[DrillRecord]) -> DrillPlace:
    """Return where the application of drills runs. Raises UsageError: those that it goes on with were elsewhere."""
    runs_on_hosts = config is not None and config.environment.platform.provider == "caddy"
    place = DrillPlace.HOSTS if home == "hosts" or (home is None and runs_on_hosts) else DrillPlace.TWIN
    there = next(
        (each.environment for each in before if each.environment in (DrillPlace.TWIN, DrillPlace.HOSTS)), place
    )
    if home is not None and there is not place:
        raise UsageError(f"the drills to go on with were begun elsewhere ({there})", hint="leave out --home")
    return there


def leave_out(shell: Shell, drills: Sequence[Drill], place: DrillPlace, *, every: bool) -> tuple[Drill, ...]:
    """Return those that can take place there; of all of them the others are named, with why.

    Raises:
        UsageError: one that was named cannot.
    """
    from backout.wiring.drills.homes import check_takes_place, explain_left_out

    kept = []
    for drill in drills:
        if not every:
            check_takes_place(drill, place)
        if why := explain_left_out(drill, place):
            shell.output.say(f"left out: {drill.name}: {why}")
        else:
            kept.append(drill)
    return tuple(kept)


def make_teller(shell: Shell) -> Callable[[str], None]:
    """Return what says a line with the seconds since now in front of it."""
    began = time.monotonic()

    def say(text: str) -> None:
        style = shell.output.talk
        shell.output.say(f"{style.dim(f'{time.monotonic() - began:6.1f} s')}  {text}")

    return say


def list_rest(wanted: Sequence[Drill], ended: Sequence[DrillRecord]) -> tuple[Drill, ...]:
    """Return what is still to be run."""
    done, rest = Counter(each.name for each in ended), []
    for drill in wanted:
        if done[drill.name] > 0:
            done[drill.name] -= 1
        else:
            rest.append(drill)
    return tuple(rest)
