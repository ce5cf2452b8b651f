"""The log of the trial's server: what the application sent, with its parameters and its errors.

Source: PostgreSQL 18 documentation, 19.8 Error Reporting and Logging: with `log_statement = all` a simple query is
logged as `statement: SQL`, an executed one as `execute NAME: SQL` with `DETAIL: Parameters: ...`; an error is followed
by `STATEMENT: SQL`. Lines that go on start with a tab.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final

from backout.errors import BackoutError
from backout.model.database.certificate import HeardStatement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    import psycopg

WHO: Final = "backout-certify"
"""The name of our own sessions, which are left out."""
PREFIX: Final = "@%p|%e|%a@"
_LINE: Final = re.compile(
    r"^@(?P<pid>\d+)\|(?P<state>\w{5})\|(?P<who>[^\n]*?)@(?P<level>[A-Z]+):  (?P<text>.*)", re.DOTALL
)
_SENT: Final = re.compile(r"(?:execute [^:]*|statement): (.*)", re.DOTALL)
_PARAMETERS: Final = re.compile(r"[Pp]arameters: (.*)", re.DOTALL)
_PARAMETER: Final = re.compile(r"\$(\d+) = (NULL|'(?:[^']|'')*')")
_PLACE: Final = re.compile(r" at character \d+$")
_SETTINGS: Final = (
    ("log_statement", "all"),
    ("log_line_prefix", PREFIX),
    ("log_min_messages", "error"),
    ("log_parameter_max_length", "-1"),
)
_RELOADED_S: Final = 30.0
_POLL_S: Final = 0.02
_FAILED: Final = ("ERROR", "FATAL")
_SUCCESS: Final = "00000"


class ServerLog:
    """Reads on where it stopped.

    Args:
        path: the server's log.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def begin(self, open_session: Callable[[], AbstractContextManager[psycopg.Connection[Any]]]) -> None:
        """Have the server log every statement from now on, in every new session. Raises BackoutError: it does not."""
        with open_session() as connection:
            for name, value in _SETTINGS:
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
            connection.execute("SELECT pg_reload_conf()")
        deadline = time.monotonic() + _RELOADED_S
        while time.monotonic() < deadline:
            with open_session() as connection:
                if connection.execute("SHOW log_statement").fetchone() == ("all",):
                    return
            time.sleep(_POLL_S)
        raise BackoutError("it does not take its settings", where="the trial's database")

    def read(self) -> tuple[HeardStatement, ...]:
        """Return the statements since the last call, in the order in which they came; what failed comes once."""
        with self._path.open("rb") as log:
            log.seek(self._at)
            data = log.read()
        self._at += len(data)
        return tuple(_parse(data.decode("utf-8", "replace")))


def _parse(text: str) -> list[HeardStatement]:
    found: list[HeardStatement] = []
    sent: dict[str, int] = {}
    failed: dict[str, tuple[str, str]] = {}
    for pid, state, level, said in _list_entries(text):
        message = _SENT.fullmatch(said) if level == "LOG" else None
        if message is not None:
            sent[pid] = len(found)
            found.append(HeardStatement(message[1].strip()))
        elif level == "DETAIL" and pid in sent and state == _SUCCESS:
            found[sent[pid]] = HeardStatement(found[sent[pid]].sql, _parse_values(said))
        elif level in _FAILED:
            failed[pid] = (state, _PLACE.sub("", " ".join(said.split())))
        elif level == "STATEMENT" and pid in failed:
            error, sql = failed.pop(pid), said.strip()
            at = sent.get(pid, -1)
            values: tuple[str | None, ...] = ()
            if at >= 0 and found[at].sql == sql and not found[at].sqlstate:
                values = found.pop(at).values
                sent = {who: place - (place > at) for who, place in sent.items() if place != at}
            found.append(HeardStatement(sql, values, *error))
    return found


def _parse_values(said: str) -> tuple[str | None, ...]:
    listed = _PARAMETERS.fullmatch(said)
    values = dict(_PARAMETER.findall(listed[1])) if listed else {}
    return tuple(_get_value(values.get(str(number), "NULL")) for number in range(1, len(values) + 1))


def _get_value(text: str) -> str | None:
    return None if text == "NULL" else text[1:-1].replace("''", "'")


def _list_entries(text: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield process, state, level and text of the application's entries."""
    entry: list[str] = []
    for line in (*text.splitlines(), "@"):
        if entry and not line.startswith("\t"):
            match = _LINE.match("\n".join(entry))
            if match is not None and match["who"] != WHO:
                yield match["pid"], match["state"], match["level"], match["text"]
            entry = []
        entry.append(line.removeprefix("\t") if entry else line)
