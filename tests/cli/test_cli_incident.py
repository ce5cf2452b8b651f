"""`backout incident`: which report is the newest is told by the incidents' times, not by the names of their files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from cli_shell import backout

CONFIG = """[app]
name = "a"
[incidents]
directory = "incidents"
[environments.production]
platform = { provider = "cloudflare", account_id = "a1", script = "s" }
"""
PAGE = """# Incident Report: {day} production: {title}

## Timeline

Times are UTC.

- {time} - Deployment initiated: version 1 went live
- {later} - Rollback initiated to version 2
{mark}
<!-- backout run {title} -->
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Three reports of one day, of which the names say another order, one of the day before, and a person's own."""
    (tmp_path / "backout.toml").write_text(CONFIG)
    folder = tmp_path / "incidents"
    folder.mkdir()

    def write(name: str, day: str, time: str, mark: str = "", at: float = 2_000_000_000.0) -> None:
        page = PAGE.format(day=day, title=name, time=time, later=f"{time[:2]}:59:59", mark=mark)
        (folder / f"{day}-{name}.md").write_text(page)
        os.utime(folder / f"{day}-{name}.md", (at, at))  # a checkout gives all of them its own time

    write("zebra", "2026-11-25", "01:00:00")
    write("errors", "2026-11-25", "23:10:00")
    write("errors-2", "2026-11-25", "09:00:00", "<!-- opened 2026-11-25T23:30:00.250Z -->")
    write("slow", "2026-11-24", "23:59:00")
    (folder / "notes.md").write_text("# My own notes\n")
    os.utime(folder / "notes.md", (0, 0))
    return tmp_path


NEWEST_FIRST = ["2026-11-25-errors-2", "2026-11-25-errors", "2026-11-25-zebra", "2026-11-24-slow", "notes"]


def test_the_list_is_by_time(project: Path) -> None:
    """Newest first, the same day included; a page that says no time has its file's."""
    answer = backout(project, "incident", "list", "--json")
    incidents = answer.json["incidents"]
    assert isinstance(incidents, list)
    assert [each["name"] for each in incidents] == NEWEST_FIRST
    assert [each["opened_at"] for each in incidents[:2]] == ["2026-11-25T23:30:00.250Z", "2026-11-25T23:10:00.000Z"]
    shown = backout(project, "incident", "list", variables={"COLUMNS": "80"})
    assert [line.split()[-1] for line in shown.out.splitlines()[1:] if line.split()[-1] in NEWEST_FIRST] == NEWEST_FIRST
    assert "2026-11-25 23:30" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80


def test_without_a_name_the_newest_is_shown(project: Path) -> None:
    """It began last, whatever its file is called."""
    assert backout(project, "incident", "show", "--json").json["name"] == NEWEST_FIRST[0]
    assert backout(project, "incident", "show", "zebra", "--json").json["opened_at"] == "2026-11-25T01:00:00.000Z"


def test_the_list_leaves_room_for_what_happened(project: Path) -> None:
    """The title stands whole, beside its name or above it; in 96 columns it was cut to its day, in 80 in a word."""
    page = "# Incident Report: 2026-11-26 production: rollback from version db7c2f5b\n\n- 09:00:00 - it began\n"
    name = "2026-11-26-production-rollback-from-version-db7c2f5b"
    (project / "incidents" / f"{name}.md").write_text(page, encoding="utf-8")
    wide = backout(project, "incident", "list", variables={"COLUMNS": "110"}).out.splitlines()
    assert wide[1] == f"2026-11-26 09:00  rollback from version db7c2f5b  {name}"
    for columns in ("80", "60"):
        lines = backout(project, "incident", "list", variables={"COLUMNS": columns}).out.splitlines()
        assert lines[1:3] == ["2026-11-26 09:00  rollback from version db7c2f5b", f"    {name}"]
        assert max(map(len, lines)) <= int(columns)


def test_a_person_is_not_shown_what_programs_read(project: Path) -> None:
    """Neither the comments nor the empty lines around them; `--json` has the page as it is."""
    shown = backout(project, "incident", "show", "errors-2")
    assert "<!--" not in shown.out
    assert "\n\n\n" not in shown.out
    assert "<!-- opened" in str(backout(project, "incident", "show", "errors-2", "--json").json["markdown"])


def test_a_terminal_shows_no_escapes_of_markdown(project: Path) -> None:
    """They keep a page from making something of a text; what stands as code is left as it is."""
    page = "# Incident Report: 2026-11-26 production: x\n\n- slower than the 10\\*p50 of \\<b>\n- `a\\*b` and \\_c\n"
    (project / "incidents" / "escaped.md").write_text(page, encoding="utf-8")
    shown = backout(project, "incident", "show", "escaped").out
    assert "- slower than the 10*p50 of <b>\n" in shown
    assert "- `a\\*b` and _c\n" in shown
    assert backout(project, "incident", "show", "escaped", "--json").json["markdown"] == page


KEYS = {
    *("id", "environment", "severity", "state", "opened_at", "resolved_at", "timeline", "told", "impact", "actions"),
    *("report_path", "picture_path"),
}


def test_people_open_and_resolve_an_incident(tmp_path: Path) -> None:
    """Without a token of the platform; each answer has the contract's keys, as read back from the journal."""
    text = CONFIG.replace("[incidents]", '[journal]\npath = "journal.sqlite"\n[incidents]')
    (tmp_path / "backout.toml").write_text(text)
    opened = backout(tmp_path, "incident", "open", "checkout is slow", "--severity", "minor", "--json").json
    assert set(opened) >= KEYS
    assert (opened["state"], opened["severity"], opened["resolved_at"]) == ("open", "minor", None)
    name = str(opened["id"])
    assert backout(tmp_path, "incident", "ack", "--json").json["state"] == "acknowledged"
    kept = backout(tmp_path, "incident", "update", "-m", "We are on it.")
    assert "no channel wants such sentences" in kept.err
    backout(tmp_path, "incident", "action", "-m", "alert", "--kind", "detect", "--due", "2026-12-24")
    ended = backout(tmp_path, "incident", "resolve", name[:14], "-m", "the vendor", "--json").json
    assert ended["state"] == "resolved"
    timeline, actions = ended["timeline"], ended["actions"]
    assert isinstance(timeline, list)
    assert isinstance(actions, list)
    assert {each["source"] for each in timeline} == {"person"}
    assert [each["text"] for each in timeline][1:] == [
        "Acknowledged",
        "Told customers: We are on it.",
        "Action item 1 (detect): alert",
        "Resolved: the vendor",
    ]
    assert (actions[0]["text"], actions[0]["due"], actions[0]["url"]) == ("alert", "2026-12-24", None)
    (listed,) = backout(tmp_path, "incident", "list", "--json").json["incidents"]  # type: ignore[misc]
    assert set(listed) >= KEYS
    events = backout(tmp_path, "timeline", "--json").json["events"]
    assert isinstance(events, list)
    assert f"incident {name} was opened: checkout is slow" in [each["text"] for each in events]


def test_what_is_typed_wrong_says_what_to_type(tmp_path: Path) -> None:
    """Exit 2: no incident, an empty text, a day that is none."""
    text = CONFIG.replace("[incidents]", '[journal]\npath = "journal.sqlite"\n[incidents]')
    (tmp_path / "backout.toml").write_text(text)
    nothing = backout(tmp_path, "incident", "note", "-m", "x", "--json")
    assert (nothing.code, nothing.json["what"]) == (2, "no incident is known in production")
    empty = backout(tmp_path, "incident", "open", " ", "--json")
    assert (empty.code, empty.json["hint"]) == (2, 'backout incident open "WHAT IS WRONG"')
    day = backout(tmp_path, "incident", "action", "-m", "x", "--due", "tomorrow", "--json")
    assert (day.code, day.json["where"]) == (2, "--due")


def test_the_report_is_written_and_committed_on_request(tmp_path: Path) -> None:
    """The file alone: what else is staged stays staged, a hook of the repository is not run, nothing is said twice."""
    text = CONFIG.replace("[incidents]", '[journal]\npath = ".backout/journal.sqlite"\n[incidents]')
    (tmp_path / "backout.toml").write_text(text)

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", tmp_path, *words], check=True, capture_output=True, text=True).stdout  # noqa: S607

    git("init", "-q")
    git("config", "user.name", "Ada")
    git("config", "user.email", "ada@example.com")
    hook = tmp_path / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ntouch hooked\n")
    hook.chmod(0o700)
    (tmp_path / "other").write_text("mine")
    git("add", "other")
    backout(tmp_path, "incident", "open", "checkout is slow")
    first = backout(tmp_path, "incident", "report", "--commit", "--json")
    assert first.code == 0, first.err
    path = Path(str(first.json["report_path"]))
    assert git("show", "--name-only", "--format=%s").split("\n")[:3] == [
        "Incident report: checkout is slow",
        "",
        str(path.relative_to(tmp_path)),
    ]
    assert git("status", "--porcelain", "other").startswith("A ")
    assert not (tmp_path / "hooked").exists()
    path.write_text(path.read_text().replace("### What went well\n", "### What went well\n\nAda was awake.\n"))
    backout(tmp_path, "incident", "note", "-m", "the vendor confirms it")
    backout(tmp_path, "incident", "report", "--commit")
    assert "Ada was awake." in git("show", f"HEAD:{path.relative_to(tmp_path)}")
    assert "the vendor confirms it" in path.read_text()
    backout(tmp_path, "incident", "resolve")
    assert backout(tmp_path, "incident", "show", "--page").out.startswith("# Incident Report: ")


def test_where_nothing_can_be_committed_the_report_is_there_all_the_same(tmp_path: Path) -> None:
    """No working copy: exit 1, with git's own words."""
    text = CONFIG.replace("[incidents]", '[journal]\npath = ".backout/journal.sqlite"\n[incidents]')
    (tmp_path / "backout.toml").write_text(text)
    backout(tmp_path, "incident", "open", "checkout is slow")
    failed = backout(tmp_path, "incident", "report", "--commit", "--json")
    assert failed.code != 0
    assert "cannot be committed: " in str(failed.json["what"])
    assert list((tmp_path / "incidents").glob("*.md"))
