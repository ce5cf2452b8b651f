"""A whole incident with the real program on the twin: guard ends it, people take over, issues and runbook follow."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from scripted_server import answer, scripted_server

if TYPE_CHECKING:
    from pathlib import Path

    from drillbook import Drillbook, Result, Trial

PAGE = "https://github.com/owner/app/issues"
TOKEN = {"GH": "ghs_canary9f8e7d6c5b4a3210"}
RUNBOOK = ".ai/runbook-production.md"


def make_trial(drillbook: Drillbook, url: str) -> Trial:
    """Return a trial in which the bad version took the good one's place, with a repository and contacts."""
    ci = f'ci = {{ provider = "github", repository = "owner/app", api_base_url = "{url}", token_env = "GH" }}'
    trial = drillbook.trial().replace((r'watch = "\d+s"', 'watch = "60s"'), (r"(?m)^health = ", f"{ci}\nhealth = "))
    with trial.config.open("a", encoding="utf-8") as file:
        file.write('\n[contacts]\non_call = { name = "Ada", reach = "+49 30 0", helps = ["code"] }\n')
    return trial


def say(trial: Trial, *words: str, code: int = 0) -> Result:
    ended = trial.run("incident", *words, "--json", variables=TOKEN)
    assert ended.code == code, ended.err
    return ended


def take_over(trial: Trial) -> None:
    """Acknowledge, two notes, a sentence for customers, resolve, two action items."""
    say(trial, "ack", "-m", "I look at it")
    say(trial, "note", "-m", "only GET /api/models fails")
    say(trial, "note", "-m", "no order was lost")
    say(trial, "update", "-m", "The catalogue was not shown to some visitors; it is again.")
    say(trial, "resolve", "-m", "rolled back by guard")
    say(trial, "action", "-m", "alert on failed models", "--kind", "detect", "--owner", "ada", "--due", "2026-12-24")
    say(trial, "action", "-m", "test the catalogue")


def read_report(trial: Trial) -> tuple[Path, str]:
    (path,) = trial.reports()
    return path, path.read_text(encoding="utf-8")


@pytest.mark.long
@pytest.mark.rotating("incident story", 2)
def test_an_incident_from_guards_verdict_to_the_runbook(drillbook: Drillbook) -> None:
    """The runbook's post-incident section, with a report that one who was not there can answer from."""
    with scripted_server() as github:
        trial = make_trial(drillbook, github.url)
        trial.make_live(drillbook.good)
        assert trial.run("runbook", "--write", "--json").json["state"] == "current"
        assert trial.run("runbook", "--check", "--json").code == 0
        written = trial.folder / RUNBOOK
        written.write_text(written.read_text(encoding="utf-8") + "\nOurs: the phone is in the red box.\n", "utf-8")
        drillbook.await_a_clean_past()
        trial.make_live(drillbook.bad)
        ended = trial.run("guard", "--json")
        assert (ended.code, ended.json["action"]) == (1, "rollback"), ended.err
        take_over(trial)
        path, text = read_report(trial)
        ours = text.replace("# Incident Report", "# Our Incident Report", 1)
        path.write_text(f"{ours}\nOurs: it was noon.\n", "utf-8")
        found = say(trial, "report").json
        assert found["state"] == "resolved"
        assert found["severity"] in ("major", "critical")  # by the share of failed requests, which is chance
        assert found["impact"]["requests_failed"] > 0
        people = [line["text"] for line in found["timeline"] if line["source"] == "person"]
        assert people[:4] == [
            "Acknowledged: I look at it",
            "only GET /api/models fails",
            "no order was lost",
            "Told customers: The catalogue was not shown to some visitors; it is again.",
        ]
        github.will(answer([]), *[step for n in (7, 8) for step in (make_created(n), answer([]))])
        filed = say(trial, "export", "--issues", "--to", str(trial.folder / "out"))
        check_report(trial, drillbook, filed.json)
        posted = [json.loads(each.body) for each in github.asked if each.method == "POST"]
        assert [each["title"] for each in posted] == ["alert on failed models", "test the catalogue"]
        assert all(found["id"] in each["body"] for each in posted)
    check = trial.run("runbook", "--check", "--json")
    assert check.code == 1, check.err
    assert {"Quick rollback", "Post-incident procedures"} <= set(check.json["stale"])
    assert f"+The newest incident: `{found['id']}`" in check.json["diff"]
    assert f"[issue]({PAGE}/7)" in check.json["diff"]
    assert trial.run("runbook", "--write").code == 0
    assert "Ours: the phone is in the red box." in written.read_text(encoding="utf-8")
    assert trial.run("runbook", "--check", "--json").json["state"] == "current"


def make_created(number: int) -> object:
    return answer({"number": number, "html_url": f"{PAGE}/{number}", "state": "open", "title": "x", "body": "x"}, 201)


def check_report(trial: Trial, drillbook: Drillbook, filed: dict[str, object]) -> None:
    """What broke, for whom, how long, what was done, what is open; what people wrote; the picture."""
    path, text = read_report(trial)
    assert text.startswith("# Our Incident Report")
    assert "Ours: it was noon." in text
    for each in (
        f"Version `{drillbook.bad}` went live in production",
        f"Rolled back to version `{drillbook.good}`",
        *("Guard found it after", "requests failed", "it lasted", "The catalogue was not shown to some visitors"),
        *("alert on failed models", f"[issue]({PAGE}/7)", f"[issue]({PAGE}/8)", "Ada: `+49`".replace("`", "")),
        f"]({path.stem}.svg)",
    ):
        assert each in text, each
    picture = path.with_suffix(".svg").read_text(encoding="utf-8")
    marks = re.search(r"Marked: (.*)\.</desc>", picture)
    assert marks is not None
    assert [word.split()[0] for word in marks[1].split(", ")][:3] == ["deployment", "detected", "switched"]
    files = filed["files"]
    assert isinstance(files, list)
    names = {str(each).rpartition("/")[2] for each in files}
    assert names == {"incident.json", path.name, path.with_suffix(".svg").name}
