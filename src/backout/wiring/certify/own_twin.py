"""A twin in a folder of its own, on which a trial takes place; it ends with this process."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, Self

from backout.providers.postgres.certify.database import CertifyDatabase
from backout.providers.postgres.certify.log import ServerLog
from backout.twin import lifecycle
from backout.wiring.certify.folders import make_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from backout.model.database.compatibility import MigrationFile
    from backout.twin.lifecycle import TwinStatus

_PREFIX: Final = "backout-certify-"


class OwnTwin(ABC):
    """A twin that starts and stops with the context.

    Args:
        folder: removed in the end; None: a new one.

    Attributes:
        database: of the trial.
    """

    database: CertifyDatabase

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or make_folder(_PREFIX)

    def __enter__(self) -> Self:
        """Start the twin. Raises as `lifecycle.start_twin`; nothing of it is left then."""
        try:
            twin = self._start(self._folder / "twin")
            log = self._folder / "twin" / "services" / "postgres" / "data.log"
            self.database = CertifyDatabase(str(twin.postgres_dsn), ServerLog(log))
            self._open(twin)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the twin, and what runs on it, and remove its folder."""
        self._end()

    def prepare(self, files: Sequence[MigrationFile], seed: str, copy: Callable[[str], None] | None) -> None:
        """Build the schema, and fill it. Raises BackoutError as `CertifyDatabase.prepare`."""
        self.database.prepare(files, seed, copy=copy)

    @abstractmethod
    def _start(self, directory: Path) -> TwinStatus:
        """Start the twin in that folder. Raises as `lifecycle.start_twin`."""

    @abstractmethod
    def _open(self, twin: TwinStatus) -> None:
        """Make what speaks to the running twin."""

    def _end(self) -> None:
        try:
            lifecycle.stop_twin(self._folder / "twin")
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
