"""What `__del__` may do: close what is the object's own, and wait for nobody."""

from __future__ import annotations

import ast
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src/backout"
CLOSES = {
    "journal/sqlite_store.py": "a file of this machine",
    "providers/caddy/remote_log.py": "notes what the host lets go of with the next question",
    "providers/caddy/ssh.py": "kills its own ssh",
    "providers/exchange.py": "a socket, without a farewell",
    "providers/logs/growing.py": "a file of this machine",
    "providers/notify/outbox.py": "a database in memory",
    "providers/postgres/server/journal_link.py": "a socket; the farewell is not answered",
}
MAY_CALL = {"close", "_close", "suppress"}


def test_a_finalizer_closes_and_does_nothing_else() -> None:
    """The collector runs it in any thread, after any other, and what it raises goes nowhere."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        if "__del__" not in (text := path.read_text()):
            continue
        for each in ast.walk(ast.parse(text)):
            if isinstance(each, ast.FunctionDef) and each.name == "__del__":
                calls = [ast.unparse(call.func) for call in ast.walk(each) if isinstance(call, ast.Call)]
                found[str(path.relative_to(SOURCE))] = {call.rpartition(".")[2] for call in calls}
    assert set(found) == set(CLOSES)
    assert all(calls <= MAY_CALL for calls in found.values()), found
