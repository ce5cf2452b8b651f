"""The ports of a World that read its database, and those for reports and notices."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from backout.errors import BackoutError
from backout.model.database.schema import SchemaState
from backout.model.incident.notice import Delivery
from backout.providers.files.naming import list_file_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.database.compatibility import MigrationFile
    from backout.model.guard.connections import ConnectionUse
    from backout.model.incident.notice import Notice
    from backout.providers.memory.state import WorldState


class WorldSchema:
    """Port Schema of a World."""

    def __init__(self, world: WorldState) -> None:
        self._world = world

    def read(self) -> SchemaState:
        """Return the migration history as it is now."""
        return self._world.call(
            "schema.read", lambda: SchemaState(self._world.clock.now(), tuple(self._world.migrations))
        )


class WorldMigrationFiles:
    """Port MigrationFiles of a World."""

    def __init__(self, world: WorldState) -> None:
        self._world = world

    def read(self) -> tuple[MigrationFile, ...]:
        """Return the files in the working copy."""
        return self._world.call("files.read", lambda: tuple(self._world.migration_files))


class WorldConnections:
    """Port Connections of a World."""

    def __init__(self, world: WorldState) -> None:
        self._world = world

    def read(self) -> ConnectionUse:
        """Return what the World's rule of connections says now."""
        return self._world.call("connections.read", lambda: self._world.connection_rule(self._world.clock.now()))


class WorldReports:
    """Port Reports of a World; `texts` and `pictures` hold what was written, by path."""

    def __init__(self, world: WorldState) -> None:
        self._world = world
        self._runs: dict[Path, str] = {}
        self.texts: dict[Path, str] = {}
        self.pictures: dict[Path, str] = {}

    def write(self, run: str, name: str, text: str) -> Path:
        """Keep the report of a run."""
        return self._world.call("reports.write", lambda: self._write(run, name, text))

    def amend(self, run: str, change: Callable[[str], str]) -> Path | None:
        """Keep what `change` makes of a run's report."""
        return self._world.call("reports.amend", lambda: self._amend(run, change))

    def _amend(self, run: str, change: Callable[[str], str]) -> Path | None:
        path = self._of_run(run)
        if path is not None:
            self.texts[path] = change(self.texts[path])
        return path

    def write_picture(self, report: Path, picture: str) -> Path:
        """Keep the picture of a report."""
        path = report.with_suffix(".svg")
        self._world.call("reports.write_picture", lambda: self.pictures.update({path: picture}))
        return path

    def of_run(self, run: str) -> Path | None:
        """Return the path of a run's report."""
        return self._world.call("reports.of_run", lambda: self._of_run(run))

    def _of_run(self, run: str) -> Path | None:
        return next((path for path, owner in self._runs.items() if owner == run), None)

    def _write(self, run: str, name: str, text: str) -> Path:
        path = self._of_run(run)
        if path is None:
            path = next(p for p in (Path("/memory") / file for file in list_file_names(name)) if p not in self._runs)
        self._runs[path] = run
        self.texts[path] = text
        return path


class WorldNotifier:
    """Port Notifier of a World: `World.notices` are those that arrived, one for each key."""

    def __init__(self, world: WorldState) -> None:
        self._world = world

    def tell(self, notice: Notice) -> None:
        """Take note of a notice; failing channels are not modelled here."""

        def keep() -> None:
            if all(known.key != notice.key for known in self._world.notices):
                self._world.notices.append(notice)

        with contextlib.suppress(BackoutError):
            self._world.call("notifier.tell", keep)

    def flush(self, within_s: float) -> Delivery:  # noqa: ARG002 the port's own; everything arrived at once
        """Return how many arrived."""
        return Delivery(delivered=len(self._world.notices))
