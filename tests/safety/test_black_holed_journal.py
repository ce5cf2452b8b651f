"""The journal's server says nothing, at night: what a person types still works, within 15 seconds, and is not lost."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING

import pytest
from cli_shell import backout

from scripted_server import answer, scripted_server
from twin_harness import ACCOUNT, TOKEN, running_api

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WITHIN_S = 15.0
CONFIG = """[app]
name = "shop"
[journal]
url_env = "BACKOUT_JOURNAL_URL"
[environments.production]
platform = {{ provider = "cloudflare", account_id = "{account}", script = "shop", api_base_url = "{api}" }}
health = {{ url = "{health}" }}
"""


class Night:
    """An application with a good and a bad version, and a journal that never answers."""

    def __init__(self, folder: Path, url: str, good: str, bad: str) -> None:
        self.folder, self.good, self.bad = folder, good, bad
        self.variables = {"CLOUDFLARE_API_TOKEN": TOKEN, "BACKOUT_JOURNAL_URL": url}

    def type(self, *words: str) -> tuple[int, str, str]:
        """Type a command; it has to end in time."""
        began = time.monotonic()
        ended = backout(self.folder, *words, "-e", "production", variables=self.variables)
        assert time.monotonic() - began < WITHIN_S, words
        assert "canary" not in ended.out + ended.err
        return ended.code, ended.out, ended.err


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    """The stage: connections to the journal are taken, and nothing is ever said on them."""
    with (
        running_api(tmp_path) as api,
        scripted_server() as health,
        socket.create_server(("127.0.0.1", 0)) as silent,
    ):
        health.will(answer({"status": "ok", "services": {"database": "ok"}}))
        for code in ("good", "bad"):
            api.upload("shop", f"export default {{}} // {code}")
        listed = api.call("GET", "shop/deployments").result["deployments"]
        bad, good = (str(each["versions"][0]["version_id"]) for each in listed[:2])
        url = f"{api.url}/client/v4"
        (tmp_path / "backout.toml").write_text(CONFIG.format(account=ACCOUNT, api=url, health=f"{health.url}/health"))
        (tmp_path / "backout.toml").chmod(0o600)
        journal = f"postgresql://me:canary-of-a-silent-one@127.0.0.1:{silent.getsockname()[1]}/journal"
        yield Night(tmp_path, journal, good, bad)


def test_what_a_person_types_works_while_the_journal_is_silent(night: Night) -> None:
    """Hold, card, panic, a rollback; what was done is in a file until the server is back."""
    code, out, err = night.type("hold", "-m", "by hand", "--json")
    assert (code, json.loads(out)["held"]) == (0, True), err
    assert night.type("unhold", "--json")[0] == 0
    code, out, err = night.type("card")
    assert "## What is live" in out, err
    assert night.bad in out
    code, _, err = night.type("panic")
    assert code == 3, err  # no version is known to be proven: a person has to decide
    assert "backout rollback -e production --accept-unproven" in err
    words = ("-m", "500s", "--confirm", "production", "--accept-unproven", "--no-wait", "--json")
    code, out, err = night.type("rollback", night.good, *words)
    assert code == 0, err
    assert json.loads(out)["live_version"] == night.good
    assert "merged when the server is back" in err
    assert (night.folder / ".backout" / "journal.spool.sqlite").exists()
    code, _, err = night.type("runs", "list")
    assert (code, "does not answer" in err) == (1, True)
