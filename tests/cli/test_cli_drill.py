"""`backout drill list | history | report | due`, and `run --dry-run`: no twin is needed for these."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli_shell import backout

from backout.journal.sqlite import SqliteJournal
from backout.model.drill import DrillAction, DrillPlace, DrillResult, Expected, Loss, Measured
from backout.providers.clock import SystemClock
from backout.runbook.incident.drills import record_end, record_start

if TYPE_CHECKING:
    from pathlib import Path


def has_history(folder: Path) -> Path:
    """Have two drills in the history: one passed, one missed."""
    journal = SqliteJournal(folder / ".backout" / "drills" / "journal.sqlite", SystemClock())
    now = SystemClock().now()
    for name, action in (("throws", DrillAction.ROLLBACK), ("slow-tail", DrillAction.NONE)):
        measured = Measured(action, rto_s=2.5, rpo=Loss(0, 0, 0.0), bad_requests=31, requests=616)
        missed = () if action is DrillAction.ROLLBACK else ("the action was none, and rollback was right",)
        expected = Expected(DrillAction.ROLLBACK)
        record_start(journal, name, name, DrillPlace.TWIN, actor="ops@host", batch="drills-1")
        record_end(journal, name, DrillResult(name, DrillPlace.TWIN, expected, measured, missed, now, 30), actor="ops")
    journal.close()
    return folder


def test_list_shows_each_drill_and_how_it_last_ended(tmp_path: Path) -> None:
    """Without a project, too; nothing is created by looking."""
    fresh = backout(tmp_path, "drill", "list", "--json")
    assert fresh.code == 0, fresh.err
    assert fresh.json["schema"] == "backout.drill-list/1"
    assert list(tmp_path.iterdir()) == []
    drills = {str(each["name"]): each for each in fresh.json["drills"]}  # type: ignore[attr-defined]
    assert drills["throws"]["expected_action"] == "rollback"
    assert drills["throws"]["history"] is None
    known = backout(has_history(tmp_path), "drill", "list")
    lines = {line[1:].split()[0]: line for line in known.out.splitlines() if line[:1] in "✓✗-" and line[1:].strip()}
    assert {name: lines[name][0] for name in ("throws", "slow-tail", "hotfix")} == {
        "throws": "✓",
        "slow-tail": "✗",
        "hotfix": "-",
    }
    assert next(line.split(":")[0] for line in known.out.splitlines() if ": " in line) == "roll back"


def test_a_wrong_file_of_a_team_is_told(tmp_path: Path) -> None:
    """Exit 78, every mistake with its line, whichever command."""
    folder = tmp_path / "drills"
    folder.mkdir()
    (folder / "mine.toml").write_text('title = "Mine"\ngroup = "roll bak"\n', encoding="utf-8")
    for command in (("list",), ("run", "throws"), ("due",), ("report",)):
        ended = backout(tmp_path, "drill", *command, "--json")
        assert ended.code == 78
        assert [each.split(": ")[0] for each in ended.json["mistakes"]] == [  # type: ignore[attr-defined]
            "mine.toml:1",
            "mine.toml:2",
        ]


def test_a_dry_run_says_what_would_be_done(tmp_path: Path) -> None:
    """No twin is started, and nothing is written."""
    ended = backout(tmp_path, "drill", "run", "throws", "--dry-run", "--json")
    assert ended.code == 0, ended.err
    (drill,) = ended.json["drills"]  # type: ignore[misc]
    assert (drill["name"], drill["variant"], drill["expected_action"]) == ("throws", "throws-on-one-route", "rollback")
    assert list(tmp_path.iterdir()) == []


def test_what_is_to_be_run_has_to_be_said(tmp_path: Path) -> None:
    """A name, or --all, and not both; an unknown name with the likely one."""
    for words in ((), ("throws", "--all")):
        ended = backout(tmp_path, "drill", "run", *words, "--json")
        assert (ended.code, ended.json["hint"]) == (2, "backout drill list")
    unknown = backout(tmp_path, "drill", "run", "throw")
    assert unknown.code == 2
    assert "did you mean 'throws'" in unknown.err


def test_what_was_interrupted_is_gone_on_with(tmp_path: Path) -> None:
    """Of the newest command what has ended counts, missed or passed; the rest is what would be run."""
    nothing = backout(tmp_path, "drill", "run", "throws", "--resume", "--json")
    assert (nothing.code, nothing.json["hint"]) == (2, "backout drill list")
    has_history(tmp_path)
    words = ("throws", "slow-tail", "hotfix", "--resume")
    rest = backout(tmp_path, "drill", "run", *words, "--dry-run", "--json")
    assert [each["name"] for each in rest.json["drills"]] == ["hotfix"]  # type: ignore[attr-defined]
    twice = backout(tmp_path, "drill", "run", *words, "--times", "2", "--dry-run", "--json")
    assert len(twice.json["drills"]) == 3  # type: ignore[arg-type]
    done = backout(tmp_path, "drill", "run", "throws", "slow-tail", "--resume", "--json")
    assert (done.code, done.json["passed"], len(done.json["drills"])) == (1, 1, 2)  # type: ignore[arg-type]


def test_history_report_and_due(tmp_path: Path) -> None:
    """What was run, newest first; the scorecard; what is to be run again."""
    assert "no drill was ever run here" in backout(tmp_path, "drill", "history").out
    has_history(tmp_path)
    history = backout(tmp_path, "drill", "history", "--json").json
    assert [each["name"] for each in history["drills"]] == ["slow-tail", "throws"]  # type: ignore[attr-defined]
    only = backout(tmp_path, "drill", "history", "throws", "--json").json
    assert [each["ended"] for each in only["drills"]] == ["passed"]  # type: ignore[attr-defined]
    card = backout(tmp_path, "drill", "report").out
    assert "the newest run of 1 of 2 drills passed" in card
    assert "| throws | A route throws an exception | passed " in card
    assert "| scenario, action | detect | decide | act | RTO | bad requests | RPO | verify |" in card
    assert "| 0/0/0.0 | \\- |" in card
    assert "- slow-tail: the action was none, and rollback was right" in card
    due = backout(tmp_path, "drill", "due", "--json")
    names = [each["name"] for each in due.json["due"]]  # type: ignore[attr-defined]
    assert due.code == 1
    assert "slow-tail" in names
    assert "throws" not in names


def test_tables_fit_a_terminal_and_nothing_of_them_is_cut(tmp_path: Path) -> None:
    """80 columns: what was missed stands below its drill where there is no room beside it."""
    has_history(tmp_path)
    narrow = {"COLUMNS": "80"}
    for words in (("history",), ("report", "--format", "text"), ("due",), ("list",)):
        out = backout(tmp_path, "drill", *words, variables=narrow).out
        assert [line for line in out.splitlines() if len(line) > 80] == [], words
        if words[0] in ("history", "report"):
            assert "the action was none, and rollback was right" in out, words
    score = backout(tmp_path, "drill", "report", "--format", "text", variables=narrow).out
    assert "it never passed; the action was none" in score
    assert "newest run of 1 of 2 drills passed" in score
    due = backout(tmp_path, "drill", "due", variables=narrow).out
    assert due.count("it was never run") == 1


def test_what_cannot_be_run_yet_is_not_due_and_says_what_it_lacks(tmp_path: Path) -> None:
    """Elsewhere than on the twin: without an environment for it no drill is due there, without a command it is told."""
    anywhere = backout(tmp_path, "drill", "due", "--json").json["due"]
    assert not {"staging-rollback-test", "production-watch"} & {each["name"] for each in anywhere}  # type: ignore[attr-defined]
    platform = 'platform = { provider = "cloudflare", script = "x", account_id = "a" }'
    text = f'[app]\nname = "x"\n[environments.staging]\n{platform}\ndeploy = {{ command = "true" }}\n'
    (tmp_path / "backout.toml").write_text(text, encoding="utf-8")
    ended = backout(tmp_path, "drill", "due", "--json")
    checks = {each["name"]: each for each in ended.json["checks"]}  # type: ignore[attr-defined]
    rehearsal = checks["drill_staging_rollback_test"]
    assert (rehearsal["level"], rehearsal["state"]) == ("should", "not_set_up")
    assert "commands.bad" in rehearsal["why"]
    assert checks["drill_throws"]["next"] == "backout drill run throws"
    assert "staging-rollback-test" not in [each["name"] for each in ended.json["due"]]  # type: ignore[attr-defined]


def test_the_history_of_a_project_is_in_its_journal(tmp_path: Path) -> None:
    """Beside a backout.toml; a wrong one is told."""
    platform = 'platform = { provider = "cloudflare", script = "x", account_id = "a" }'
    text = f'[app]\nname = "x"\n[environments.production]\n{platform}\n'
    (tmp_path / "backout.toml").write_text(f'{text}[journal]\npath = "kept/journal.sqlite"\n', encoding="utf-8")
    journal = SqliteJournal(tmp_path / "kept" / "journal.sqlite", SystemClock())
    record_start(journal, "drill-1", "throws", DrillPlace.TWIN, actor="ops@host")
    journal.close()
    found = backout(tmp_path, "drill", "history", "--json").json
    assert [each["ended"] for each in found["drills"]] == ["interrupted"]  # type: ignore[attr-defined]
    (tmp_path / "backout.toml").write_text("[app]\n", encoding="utf-8")
    assert backout(tmp_path, "drill", "history").code == 78
