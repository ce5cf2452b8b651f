"""The command line as it is typed beside a lab's database, in a project of its own."""

from __future__ import annotations

import contextlib
import shlex
from typing import TYPE_CHECKING

from cli_shell import Answer
from cli_shell import backout as typed
from recovery_lab import Lab, opened, position_behind

from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOML = """
[app]
name = "shop"
[environments.{name}]
platform = {{ provider = "cloudflare", account_id = "0123456789abcdef0123456789abcdef", script = "shop" }}
[environments.{name}.database]
provider = "postgres"
url_env = "DATABASE_URL"
[environments.{name}.database.backup]
wal = "stream"
[environments.{name}.database.server]
data_directory = "{data}"
start = {start}
stop = {stop}
"""


class Typing:
    """The command line beside the lab's database."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self.variables = {"DATABASE_URL": lab.dsn}
        start, stop = (f"'''{shlex.join(argv)}'''" for argv in lab.commands)
        folder.mkdir()
        text = TOML.format(name="lab", data=lab.data, start=start, stop=stop)
        (folder / "backout.toml").write_text(text, encoding="utf-8")

    def __call__(self, *arguments: str, code: int = 0) -> Answer:
        answer = typed(self.folder, *arguments, variables=self.variables)
        assert answer.code == code, answer.err + answer.out
        return answer

    def archived(self) -> None:
        """Return when what was committed until now can be restored."""
        with self.lab.connect() as connection:
            lsn = position_behind(connection)
        until(
            lambda: typed(self.folder, "db", "restore", lsn, "--side", "--dry-run", variables=self.variables).code == 0,
            what="the WAL is in the archive",
            timeout_s=30,
            every_s=0.2,
        )


@contextlib.contextmanager
def typing_beside(root: Path, template: Path, *statements: str) -> Iterator[Typing]:
    """Open a lab with what these statements make, a first backup and WAL that is received."""
    with opened(root / "lab", template, receive=False, templates=True) as lab:
        with lab.connect() as connection:
            connection.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1GB'")
            connection.execute("SELECT pg_reload_conf()")
            for statement in statements:
                connection.execute(statement.encode())
        command = Typing(lab, root / "project")
        try:
            command("db", "wal", "start")
            command("db", "backup", "--full")
            yield command
        finally:
            with contextlib.suppress(AssertionError):
                command("db", "wal", "stop", "--yes")
