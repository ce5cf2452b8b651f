"""What somebody is told to type works where it is pasted: about the environment and the file of the command before."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from cli_shell import Stream, backout, make_shell
from values import replace

from backout.analysis.checkup.here import WITHOUT_JOURNAL, put_journal_first
from backout.cli.support.errors import show
from backout.cli.support.typed import add_given_options
from backout.errors import Refused
from backout.model.checkup import must, should
from backout.model.hint import NO_HINT, suggest_command, suggest_words

if TYPE_CHECKING:
    from pathlib import Path

TOML = """[app]
name = "a"
[journal]
path = "journal.sqlite"
[environments.production]
platform = { provider = "cloudflare", account_id = "a1", script = "s" }
[environments.staging]
platform = { provider = "cloudflare", account_id = "a1", script = "t" }
"""


HERE = "-e staging --config b.toml"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("backout runs list", f"backout runs list {HERE}"),
        ("backout runs list  # all of them", f"backout runs list {HERE}  # all of them"),
        ("backout guard -e x && backout db backup", f"backout guard -e x --config b.toml && backout db backup {HERE}"),
        ("mend it; then: backout status", f"mend it; then: backout status {HERE}"),
        ("look (backout runs list), then: mv a b", f"look (backout runs list {HERE}), then: mv a b"),
        ("`backout guard accept 'GET /:404' -m WHY`", f"`backout guard accept 'GET /:404' -m WHY {HERE}`"),
        ("backout roll-forward -m WHY -- make", f"backout roll-forward -m WHY {HERE} -- make"),
        ("backout init --pin", f"backout init --pin {HERE}"),
        ("backout init", "backout init"),
        ("backout config example", "backout config example"),
        ("upgrade backout on this machine", "upgrade backout on this machine"),
        ("backout knows no such version", "backout knows no such version"),
    ],
)
def test_a_command_gets_what_it_lacks(text: str, shown: str) -> None:
    """In a line, in brackets, behind others; words about the program, and what needs no configuration, stay."""
    assert add_given_options(text, config="b.toml", environment="staging") == shown
    assert add_given_options(shown, config="b.toml", environment="staging") == shown
    assert add_given_options(text, config=None, environment=None) == text


def test_with_a_damaged_journal_no_hint_needs_it() -> None:
    """It is mended first; what answers without one is still said."""
    runs = should("last_watch").missing("it was interrupted", suggest_command("runs show guard-1", "staging"))
    card = should("card").missing("the card was never written", suggest_command("card --write", "staging"))
    checks = (runs, card, must("journal").missing("it is damaged", suggest_words("mv it aside")))
    assert put_journal_first(checks) == (replace(runs, next=NO_HINT), *checks[1:])
    assert put_journal_first(checks[:2]) == checks[:2]


MORE = {"config": ("check",), "notify": ("list",), "db roles": ("look",)}
"""What is typed behind the name, where it alone is none."""


@pytest.mark.parametrize("name", [name for name in WITHOUT_JOURNAL if name not in ("panic", "init", "hold", "unhold")])
def test_what_is_said_to_need_no_journal_needs_none(tmp_path: Path, name: str) -> None:
    """With a damaged one it answers, or it says that something else is missing."""
    (tmp_path / "backout.toml").write_text(TOML, encoding="utf-8")
    (tmp_path / "journal.sqlite").write_bytes(b"\xa5" * 8192)
    typed = [*name.split(), *MORE.get(name, ())]
    answer = backout(tmp_path, *typed, "-e", "production")
    assert not answer.err.startswith("error: the journal is damaged"), answer.err
    assert (
        answer.code != 2 or "is set up" in answer.err or "has no database" in answer.err or "are set up" in answer.err
    )


def test_what_a_machine_is_told_to_type_works_as_well(tmp_path: Path) -> None:
    """--json: the hint and the ways on have the `-e` and `--config` that were typed, as they have for a person."""
    shell = make_shell(tmp_path)
    out = shell.output
    out.json, out.environment, out.config = True, "staging", "b.toml"
    show(Refused("no", options=("look: `backout status`",), hint="backout runs list"), out)
    assert isinstance(out.stdout, Stream)
    told = json.loads(out.stdout.getvalue())
    assert told["hint"] == "backout runs list -e staging --config b.toml"
    assert told["options"] == ["look: `backout status -e staging --config b.toml`"]


@pytest.mark.parametrize("command", ["panic", "card"])
def test_a_slip_in_the_environment_is_answered_with_its_name(tmp_path: Path, command: str) -> None:
    """No lines of wrangler for a Worker without a name: the same command, typed right, does it all."""
    (tmp_path / "backout.toml").write_text(TOML, encoding="utf-8")
    ended = backout(tmp_path, command, "-e", "prod")
    assert ended.code == 2
    assert "no environment 'prod'" in ended.err
    assert "next: one of: production, staging" in ended.err
    assert "wrangler" not in ended.err


def test_a_hold_without_a_reason_keeps_how_long_it_was_to_last(tmp_path: Path) -> None:
    """What is said to type next is the command that was typed, with what it lacks."""
    (tmp_path / "backout.toml").write_text(TOML, encoding="utf-8")
    ended = backout(tmp_path, "hold", "-e", "staging", "--for", "30m")
    assert (ended.code, "next: backout hold -e staging --for 30m -m WHY" in ended.err) == (3, True), ended.err
