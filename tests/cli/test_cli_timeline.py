"""`backout timeline` from the command line: which time is meant, and what is told when hardly anything can be read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from cli_shell import backout

from backout.cli.timeline import parse_moment as moment_of
from backout.errors import UsageError
from backout.journal.sqlite import SqliteJournal
from backout.model.plan import Plan, PlanKind, Step
from backout.providers.clock import SystemClock

from scripted_server import refused_url

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_795_570_026.0  # 2026-11-25T01:27:06Z
CONFIG = """[app]
name = "a"
[journal]
path = "journal.sqlite"
[environments.production]
platform = {{ provider = "cloudflare", account_id = "a1", script = "s", api_base_url = "{url}/client/v4" }}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A journal in which a person began a rollback and gave it up; no API answers, and there is no token."""
    (tmp_path / "backout.toml").write_text(CONFIG.format(url=refused_url()))
    book = SqliteJournal(tmp_path / "journal.sqlite", SystemClock())
    args = {"version": "aaaaaaaa-1", "leaving": "bbbbbbbb-2"}
    plan = Plan(PlanKind.ROLLBACK, "production", "it fails", (Step("activate", "switch", args),))
    run = book.submit(plan, actor="ops@host", reason="it fails")
    book.ask(run, "abort", actor="ops@host", reason="wrong window")
    book.close()
    return tmp_path


@pytest.mark.parametrize("token", [{}, {"CLOUDFLARE_API_TOKEN": "t" * 40}], ids=["no token", "no answer"])
def test_the_journal_alone_tells(project: Path, token: dict[str, str]) -> None:
    """Exit 0; it says that the provider was not asked, and who did what."""
    answer = backout(project, "timeline", "-e", "production", "--json", variables=token)
    assert answer.code == 0, answer.err
    told = answer.json
    assert told["schema"] == "backout.timeline/1"
    events, notes = told["events"], told["notes"]
    assert isinstance(events, list)
    assert isinstance(notes, list)
    assert [(each["kind"], each["by"]) for each in events][:1] == [("command", "ops@host")]
    assert events[0]["text"].endswith(" is to end: wrong window")
    assert events[-1]["text"].endswith(" is given up")
    assert {each["run"] for each in events} == {events[0]["run"]}
    assert str(notes[0]).startswith("the provider could not be asked (")
    assert "based on the journal alone" in str(notes[0])
    shown = backout(project, "timeline", variables={"COLUMNS": "60"})
    assert max(map(len, shown.out.splitlines())) <= 60
    assert f"next: backout runs show {events[0]['run']}" in shown.err


def test_at_a_time_it_says_what_was_live(project: Path) -> None:
    """Nothing is known of an hour ago; the answer says so."""
    told = backout(project, "timeline", "--at", "1h", "--json").json
    assert told["then"] == {"live": None, "runs": [], "hold": None}
    assert told["at"] is not None
    assert "nothing is known of that time" in backout(project, "timeline", "--at", "1h").out


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("01:00", 1_795_568_400.0),
        ("03:00", 1_795_575_600.0 - 86_400),
        ("2 hours ago", NOW - 7_200),
        ("90m", NOW - 5_400),
        ("2026-11-24T03:00:00Z", 1_795_489_200.0),
        ("2026-11-24 03:00", 1_795_489_200.0),
    ],
)
def test_which_time_is_meant(typed: str, expected: float) -> None:
    """An hour of the day is the last one that was."""
    assert moment_of(typed, NOW, "--at") == expected


@pytest.mark.parametrize(("typed", "why"), [("at dawn", "is no time"), ("2026-11-26T00:00:00Z", "lies in the future")])
def test_what_is_no_time(project: Path, typed: str, why: str) -> None:
    """Exit 2: the flag, and times as they are written."""
    with pytest.raises(UsageError, match=re.escape(why)):
        moment_of(typed, NOW, "--since")
    answer = backout(project, "timeline", "--since", "at dawn", "--json")
    assert (answer.code, answer.json["where"]) == (2, "--since")
    assert "--since 03:00" in str(answer.json["hint"])
