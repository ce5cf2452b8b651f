"""Connection strings of side branches: the certificate is always verified, on the way to another machine."""

from __future__ import annotations

import pytest

from backout.errors import Refused
from backout.providers.postgres.restore.branches import PostgresBranches
from backout.providers.postgres.tls.access import add_verification, parse_dsn


@pytest.mark.parametrize("mode", ["", "?sslmode=require", "?sslmode=prefer&channel_binding=require"])
def test_a_branch_elsewhere_is_reached_with_a_verified_certificate(mode: str) -> None:
    """Vendors hand out `sslmode=require`, which verifies nothing; the rest of the string stays."""
    given = parse_dsn(add_verification(f"postgresql://owner:pw@ep-1.example.test/app{mode}"))
    assert given["sslmode"] == "verify-full"
    assert given["sslrootcert"]
    assert (given["host"], given["user"], given["password"], given["dbname"]) == (
        *("ep-1.example.test", "owner", "pw"),
        "app",
    )


@pytest.mark.parametrize(
    "url",
    [
        "host=/run/postgresql dbname=app",
        "postgresql://u@127.0.0.1/app?sslmode=prefer",
        "postgresql://u@db.example.test/app?sslmode=disable",
        "postgresql://u@db.example.test/app?sslmode=verify-ca&sslrootcert=/ca.pem",
    ],
)
def test_what_needs_none_and_what_says_more_stays_as_it_is(url: str) -> None:
    """A socket, this machine, and an own choice of authority."""
    assert add_verification(url) == url


def test_branches_that_lie_too_far_apart_are_refused_before_anything_is_read() -> None:
    """Millions of transactions between them: whose the damage is cannot be told."""
    with pytest.raises(Refused, match="lie between the two branches"):
        PostgresBranches().list_committed_between(("host=/nowhere", 5), ("host=/nowhere", 9_000_000))
