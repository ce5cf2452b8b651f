"""The drills that should be run now and then, from a configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from backout.analysis.checkup.drills import Wanted
from backout.errors import UsageError
from backout.model.drill import DrillPlace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from backout.config import Config
    from backout.config.drills import Drill


def list_wanted(drills: Iterable[Drill], config: Config | None) -> tuple[Wanted, ...]:
    """Return the drills that can be run here, or lack something for it.

    Args:
        config: of the project; None: there is none, and only what takes place on the twin can be run.
    """
    return tuple(wanted for drill in drills for wanted in _want(drill, config))


def _want(drill: Drill, config: Config | None) -> Iterator[Wanted]:
    from backout.wiring.drills.rehearsal import check_there

    counts_s, place = float(drill.file.due_after), drill.file.environment
    if place is DrillPlace.TWIN:
        yield Wanted(drill.name, counts_s)
        return
    there = None if config is None else _find_place(config, is_protected=place is DrillPlace.PRODUCTION)
    if there is None:
        return
    lacks = ""
    try:
        check_there(drill, there)
    except UsageError as error:
        lacks = error.what
    yield Wanted(drill.name, counts_s, there.name, lacks)


def _find_place(config: Config, *, is_protected: bool) -> Config | None:
    """Return the configuration of the first environment of that kind, None where there is none."""
    every = (replace(config, chosen=name) for name in config.settings.environments)
    return next((each for each in every if each.protected is is_protected), None)
