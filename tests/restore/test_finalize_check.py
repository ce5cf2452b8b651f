"""The second check of a branch that a person puts in place: what is live is compared with what the branch held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from branch_lab import Typing, managed
from kept import template

from backout.model.database.wal import parse_lsn

from vendor_lab import LIVE, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

SURE = ("-m", "it is what we want", "--confirm", "lab")
NAMES = "SELECT count(*) FROM orders WHERE status = 'bad'"


@pytest.fixture
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Typing]:
    """Lend a database with a side branch of before the damage; each test has its own."""
    with managed(tmp_path_factory.mktemp("c"), template(), commit_times=True) as typing:
        with typing.lab.connect() as connection:
            connection.execute(
                "CREATE TABLE orders (id int PRIMARY KEY, status text);"
                "INSERT INTO orders SELECT g, 'paid' FROM generate_series(1, 900) g"
            )
        typing.lab.base("base")
        ((lsn,),) = typing.lab.rows("SELECT pg_current_wal_insert_lsn()::text")
        with typing.lab.connect() as connection:
            connection.execute("UPDATE orders SET status = 'bad' WHERE id <= 40")
        typing("db", "branch", "create", "--at", lsn, "--name", "side", *SURE)
        yield typing


def clients_write(shop: Typing) -> None:
    """Write as a client does that is back at once."""
    with shop.lab.connect() as connection:
        connection.execute("DELETE FROM orders WHERE id = 102; UPDATE orders SET status = 'sent' WHERE id = 103")


def finalized(shop: Typing, name: str, keep_as: str, code: int = 0) -> dict[str, Any]:
    """Put a branch in place as it is typed; return what the check found."""
    done = shop("db", "branch", "finalize", name, "--keep-as", keep_as, "--json", *SURE, code=code).json
    assert (done["action"], done["kept"], done["branch"]["id"]) == ("finalize", keep_as, LIVE)
    found: dict[str, Any] = done["comparison"]
    return found


@pytest.mark.long
def test_what_is_live_is_compared_and_so_is_what_is_taken_back(shop: Typing) -> None:
    """A person may have written to the branch, and clients write as soon as it is live: neither is a difference."""
    side = shop.vendor.sides.find("side")
    assert side is not None
    shop.vendor.after_start = lambda: clients_write(shop)
    found = finalized(shop, "side", "before")
    assert shop.lab.rows(NAMES) == [(0,)]
    assert (found["of"], found["differs"], found["behind"]) == ("swap at the vendor", [], [])
    assert found["equal"] >= 890
    assert f"{found['rows']:,} rows of {found['tables']} tables and catalogs of the live branch" in found["sentence"]
    shop.vendor.after_start = lambda: None
    told = shop("db", "branch", "finalize", "before", "--keep-as", "tried", *SURE).out
    assert "second check: compared by hashes" in told
    assert "of the branch that is back with those that it held before it was put away" in told
    assert "nothing differs" in told
    assert shop.lab.rows(NAMES) == [(40,)]


@pytest.mark.long
def test_another_moment_than_the_branchs_is_found(shop: Typing) -> None:
    """The vendor puts one behind the damage in place, and says that all went well."""
    ((now,),) = shop.lab.rows("SELECT pg_current_wal_insert_lsn()::text")
    shop.vendor.strays_to = parse_lsn(now)
    found = finalized(shop, "side", "before", code=1)
    assert {each["table"]: each["missing"] for each in found["differs"]}["public.orders"] >= 40


def test_a_branch_that_cannot_be_asked_is_put_in_place_and_not_compared(shop: Typing) -> None:
    """Exit code 7, and the reason."""
    answer = shop.vendor.answer

    def refusing(method: str, path: str, query: dict[str, str], body: Any) -> Reply:
        if path.endswith("/connection_uri"):
            return 404, {"message": "no compute"}
        return answer(method, path, query, body)

    shop.vendor.answer = refusing  # type: ignore[method-assign] # the vendor is ours: it answers as it is told
    found = finalized(shop, "side", "before", code=7)
    assert "what the branch holds was not noted before" in found["failed"]
    assert shop.lab.rows(NAMES) == [(0,)]
