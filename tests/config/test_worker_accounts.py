"""Which environments of a worker share one list: those of one account, read with one token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scripted_account import Account

from backout.config import Environment, load
from backout.errors import ConfigError
from backout.providers.clock import SystemClock
from backout.providers.cloudflare.client import ApiClient
from backout.providers.retry import Retry
from backout.runbook.guard import deployment_watcher
from backout.runbook.worker.account_watch import AccountWatches, Member
from backout.wiring.worker import ListedAccount, join_account, make_hints

from polling import until
from twin_harness import ACCOUNT, TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ONE, OTHER = "0" * 32, "1" * 32
PLATFORMS = {
    "one": f'provider = "cloudflare", account_id = "{ONE}", script = "a"',
    "two": f'provider = "cloudflare", account_id = "{ONE}", script = "b"',
    "twin": f'provider = "cloudflare", account_id = "{ONE}", script = "t", api_base_url = "http://127.0.0.1:9/client/v4"',
    "elsewhere": f'provider = "cloudflare", account_id = "{OTHER}", script = "e"',
    "reader": f'provider = "cloudflare", account_id = "{ONE}", script = "c", read_token_env = "READER"',
    "second-reader": f'provider = "cloudflare", account_id = "{ONE}", script = "d", read_token_env = "READER"',
    "unknown": 'provider = "cloudflare", script = "u"',
    "scripted": 'provider = "command", command = { history = ["x"], current = ["x"], activate = ["x"] }',
}


class Joined(AccountWatches):
    """Watches that only note who joined which."""

    def __init__(self) -> None:
        super().__init__(SystemClock(), str, print)
        self.groups: dict[int, list[str]] = {}

    def join(self, account: int, member: Member, open_account: Callable[[], object]) -> None:
        assert open_account
        self.groups.setdefault(account, []).append(f"{member.environment}/{member.application}")


def join(folder: Path, watches: AccountWatches, name: str) -> None:
    text = '[app]\nname = "fm5"\n'
    for each, place in PLATFORMS.items():
        text += f"[environments.{each}]\nplatform = {{ {place} }}\n"
    (folder / "backout.toml").write_text(text, encoding="utf-8")
    variables = Environment({"CLOUDFLARE_API_TOKEN": f"{TOKEN}-1", "READER": f"{TOKEN}-2"})
    join_account(watches, load(variables, start=folder, environment=name), make_hints(0, 2))


def test_environments_of_one_account_and_token_are_one_group(tmp_path: Path) -> None:
    watches = Joined()
    for name in PLATFORMS:
        if name != "unknown":
            join(tmp_path, watches, name)
    assert list(watches.groups.values()) == [
        ["one/a", "two/b"],
        ["twin/t"],
        ["elsewhere/e"],
        ["reader/c", "second-reader/d"],
    ]


def test_an_environment_without_an_account_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="CLOUDFLARE_ACCOUNT_ID is not set"):
        join(tmp_path, Joined(), "unknown")


@pytest.fixture
def watches() -> Iterator[AccountWatches]:
    failed: list[Exception] = []
    made = AccountWatches(SystemClock(), str, failed.append)
    yield made
    made.close()
    assert failed == []


def test_the_thread_of_an_account_wakes_the_loop_whose_environment_was_deployed(
    watches: AccountWatches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its list is read from when there are two of them."""
    monkeypatch.setattr(deployment_watcher, "EVERY_S", 1.0)
    clock = SystemClock()
    account = Account(clock, ["a", "b"])  # type: ignore[arg-type]  # its clock only tells the time
    client = ApiClient(
        "http://127.0.0.1:9/client/v4", lambda: TOKEN, clock=clock, connection=account, retry=Retry(attempts=1)
    )
    hints = {name: make_hints(0, 2) for name in account.names}
    opened = ListedAccount(client, ACCOUNT, clock)
    for name, each in hints.items():
        each.note_history(opened.open_deployments(name).history())
        watches.join(1, Member(name, name, each), lambda: opened)
    until(lambda: all(each.holds() for each in hints.values()), 20, "the list was read")
    assert not any(each.take() for each in hints.values())
    account.deploy("b")
    until(hints["b"].take, 30, "the deployment was noticed")
    assert not hints["a"].take()
    watches.leave("b")
    assert not hints["b"].holds()
