"""One dump as pg_restore reads it: its table of contents, the SQL of some entries, and restoring it."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import tempfile
from typing import IO, TYPE_CHECKING, Final

from backout.errors import BackoutError
from backout.model.value import Value
from backout.providers.child import tie_to_parent
from backout.providers.postgres.backup.dump_listing import parse_listing
from backout.providers.postgres.server.template import make_tool_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backout.model.database.dump import Dump
    from backout.providers.child_environment import ChildEnvironment
    from backout.providers.postgres.backup.dump_listing import Listing
    from backout.providers.postgres.server.binaries import Binaries

_NAME: Final = r'"(?:[^"]|"")+"|[a-z_][a-z0-9_$]*'
_CREATE_EXTENSION: Final = re.compile(
    rf"^CREATE EXTENSION IF NOT EXISTS (?P<name>{_NAME}) WITH SCHEMA (?P<schema>{_NAME});$", re.MULTILINE
)


class DumpArchive(Value, frozen=True):
    """A dump and the program that reads it.

    Args:
        read: returns pg_dump's output, from the beginning.
    """

    dump: Dump
    binaries: Binaries
    read: Callable[[], Iterator[bytes]]

    @property
    def name(self) -> str:
        """What it is called where something goes wrong."""
        return self.dump.id

    def listing(self) -> Listing:
        """Return its table of contents. Raises BackoutError: pg_restore's words."""
        return parse_listing(self._run_pg_restore("--list"))

    def extensions(self, listing: Listing) -> tuple[tuple[str, str], ...]:
        """Return (name, schema) of each extension."""
        if not listing.extensions:
            return ()
        with _file_of(listing.of_extensions) as chosen:
            said = self._run_pg_restore("--file=-", f"--use-list={chosen}")
        return tuple((_unquote(found["name"]), _unquote(found["schema"])) for found in _CREATE_EXTENSION.finditer(said))

    def restore(self, environment: ChildEnvironment, database: str, entries: str | None = None) -> str:
        """Restore it, or some entries, in one transaction; return what pg_restore complains of, "" when it is done.

        Args:
            environment: with which the database is reached.
            entries: for `--use-list`.
        """
        quoted = database.replace("\\", "\\\\").replace("'", "\\'")
        argv = [
            self.binaries.path("pg_restore"),
            "--single-transaction",
            "--exit-on-error",
            "--no-owner",
            "--no-privileges",
            "--no-password",
            f"--dbname=dbname='{quoted}'",
        ]
        with _file_of(entries or "") as chosen:
            argv += [] if entries is None else [f"--use-list={chosen}"]
            _, said, code = self._feed(argv, environment)
        return (said.strip() or f"exit code {code}") if code != 0 else ""

    def _run_pg_restore(self, *arguments: str) -> str:
        answer, said, code = self._feed([self.binaries.path("pg_restore"), *arguments], make_tool_environment())
        if code != 0:
            raise BackoutError(f"pg_restore cannot read it: {' '.join(said.split())[:500]}", where=self.name)
        return answer

    def _feed(self, argv: list[str], environment: ChildEnvironment) -> tuple[str, str, int]:
        """Run a program with the dump as its input; return what it answered and complained, and its exit code."""
        with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as words:
            with subprocess.Popen(
                tie_to_parent(argv, signal.SIGTERM),
                stdin=subprocess.PIPE,
                stdout=answer,
                stderr=words,
                env=environment,
            ) as process:
                assert process.stdin is not None
                try:
                    with contextlib.suppress(BrokenPipeError):  # it has read enough, or fails and says why
                        for content in self.read():
                            process.stdin.write(content)
                    with contextlib.suppress(BrokenPipeError):
                        process.stdin.close()
                except BaseException:
                    process.kill()
                    raise
            return read_output(answer), read_output(words), process.returncode


def read_output(file: IO[bytes]) -> str:
    """Return what a program wrote into a file."""
    file.seek(0)
    return file.read().decode(errors="replace")


@contextlib.contextmanager
def _file_of(text: str) -> Iterator[str]:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        yield file.name


def _unquote(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
