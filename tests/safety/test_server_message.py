"""What a server says of a refused statement quotes values of rows: no reason of a rescue takes it as it came."""

from __future__ import annotations

from pathlib import Path

from psycopg import errors

from backout.providers.postgres.server.message import get_message

ROOM = Path(__file__).parents[2] / "src" / "backout" / "providers" / "postgres"


def test_no_module_of_a_rescue_tells_an_error_whole() -> None:
    """`str(error)` has the DETAIL, which is `Key (email)=(...) already exists.`."""
    modules = [path for room in ("rescue", "provenance", "comparison") for path in (ROOM / room).rglob("*.py")]
    assert len(modules) > 10
    assert [path.name for path in modules if "str(error)" in path.read_text(encoding="utf-8")] == []


def test_an_error_that_no_server_sent_is_named() -> None:
    """The library's own have no message of a server."""
    assert get_message(errors.UniqueViolation("Key (email)=(a@example.com) already exists.")) == "UniqueViolation"
