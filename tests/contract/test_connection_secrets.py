"""No part of a password is in an error text, also when the connection string cannot be read because of it."""

from __future__ import annotations

import pytest

from backout.errors import ProviderUnavailable
from backout.providers.postgres.restore.live import PostgresLive
from backout.providers.postgres.schema.schema import PostgresHistory
from backout.providers.postgres.tls.dsn import drop_secrets

UNREADABLE = [
    "postgresql://u:s3cret/half@127.0.0.1:1/db",
    "postgresql://u:s3cret?half=x@127.0.0.1:1/db",
    "postgresql://u:s3cret@half@127.0.0.1:1/db?schema=public",
    "postgresql://u:s3c%zzret@127.0.0.1:1/db",
    "host=127.0.0.1 port=1 password=s3cret half user=x",
]


@pytest.mark.parametrize("url", UNREADABLE)
def test_libpq_quotes_parts_of_it(url: str) -> None:
    """What has to be written otherwise is told instead."""
    for read in (PostgresHistory(lambda: url).read, PostgresLive(lambda: url).facts):
        with pytest.raises(ProviderUnavailable) as failed:
            read()
        assert not any(part in str(failed.value) for part in ("s3c", "half"))


def test_what_is_no_secret_stays() -> None:
    """An at-sign elsewhere is no password's."""
    assert drop_secrets("postgresql://h/db?user=a@b", "refused") == "refused"
    assert drop_secrets("postgresql://u:p%40w@h/db", "p@w p%40w") == "[redacted] [redacted]"
    assert drop_secrets("host=h password='p w' user=u", "'p") == "'[redacted]"
