"""`backout preflight` as it is typed, without a platform: its shape, what is allowed, and a pipeline's files."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from cli_shell import Answer
from cli_shell import backout as typed

from backout.cli.preflight import _list_next
from backout.model.checkup import CheckState, Checkup, Level, must
from backout.model.hint import NO_HINT

if TYPE_CHECKING:
    from pathlib import Path

TOML = """
[app]
name = "shop"
[environments.production]
platform = { provider = "cloudflare", account_id = "0123456789abcdef0123456789abcdef", script = "shop" }
"""
GAPS = ("token", "platform", "pin", "stable_version", "hold")
"""What blocks where there is no token."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "backout.toml").write_text(TOML, encoding="utf-8")
    return tmp_path


def preflight(folder: Path, *arguments: str, **variables: str) -> Answer:
    return typed(folder, "preflight", *arguments, variables=variables)


def allowing(*names: str) -> list[str]:
    return [word for name in names for word in ("--allow", name)]


def checks(answer: Answer) -> dict[str, dict[str, Any]]:
    found = answer.json["checks"]
    assert isinstance(found, list)
    return {check["name"]: check for check in found}


def test_the_answer_has_the_shape_of_the_contract(folder: Path) -> None:
    """Keys, words and the exit code; what is not set up blocks nothing."""
    answer = preflight(folder, "--json")
    assert (answer.code, answer.json["schema"], answer.json["ready"]) == (1, "backout.preflight/1", False)
    assert (answer.json["result"], answer.json["advice"]) == ("not_ready", None)
    found = checks(answer)
    for check in found.values():
        assert set(check) == {"name", "level", "state", "why", "next"}
        assert check["level"] in {level.value for level in Level}
        assert check["state"] in {state.value for state in CheckState}
    assert {name for name, each in found.items() if each["level"] == "must" and each["state"] != "ok"} == set(GAPS)
    assert {found[name]["state"] for name in ("health", "database", "channels", "contacts", "last_drill")} == {
        "not_set_up"
    }
    assert not {"git_ignore", "clock", "dead_man"} & set(found)


def test_what_could_not_be_asked_is_not_known(folder: Path) -> None:
    """With the one gap that is known allowed, the rest is unmeasured: exit 7."""
    answer = preflight(folder, "--json", "--allow", "token", "-m", "a test")
    assert (answer.code, answer.json["result"]) == (7, "unmeasured")


def test_a_platform_that_is_allowed_is_no_first_deployment(folder: Path) -> None:
    """It was never asked whether anything is live: the other checks still decide."""
    answer = preflight(folder, "--json", "--allow", "platform", "-m", "a test")
    assert checks(answer)["platform"]["state"] == "allowed"
    assert (answer.code, answer.json["ready"], answer.json["advice"]) == (1, False, None)


def test_what_is_allowed_is_recorded_and_stands_in_the_timeline(folder: Path) -> None:
    """Who, what and why; it is asked anew the next time."""
    answer = preflight(folder, "--json", *allowing(*GAPS), "-m", "a test")
    assert (answer.code, answer.json["ready"], answer.json["result"]) == (0, True, "ready")
    assert checks(answer)["token"]["state"] == "allowed"
    assert "a test" in checks(answer)["token"]["why"]
    told = typed(folder, "timeline", "-e", "production")
    assert "a deployment was let through although token is not in order" in " ".join(told.out.split())
    assert preflight(folder).code == 1


def test_what_is_allowed_already_stands_in_the_line_that_allows_the_rest() -> None:
    """It holds for one time alone: without it the next call would stop at it again."""
    gap = must("hold").missing("a hold is on", NO_HINT)
    found = Checkup("production", (must("secrets").allowed("it was allowed"), gap))
    (line,) = _list_next(found, ("secrets",))
    assert line.startswith("backout preflight -e production --allow secrets --allow hold -m WHY")


def test_an_allowance_that_cannot_be_recorded_does_not_hold(folder: Path) -> None:
    """The journal belongs to another program: the exit code is not 0."""
    (folder / ".backout").mkdir(0o700)
    with sqlite3.connect(folder / ".backout" / "journal.sqlite") as connection:
        connection.execute("CREATE TABLE shopping (item TEXT)")
    answer = preflight(folder, *allowing(*GAPS, "journal"), "-m", "a test")
    assert answer.code == 1
    assert "another program's database" in answer.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--allow", "token"), "--allow needs a reason"),
        (("--allow", "token", "-m", " "), "--allow needs a reason"),
        (("--allow", "tokn", "-m", "a test"), "no check is called 'tokn'"),
        (("--format", "html"), "'html' is not one of 'text', 'markdown'"),
    ],
)
def test_a_mistake_says_what_to_type(folder: Path, arguments: tuple[str, ...], says: str) -> None:
    """Exit 2, and nothing is recorded."""
    answer = preflight(folder, *arguments)
    assert answer.code == 2
    assert says in answer.err
    assert not (folder / ".backout").exists()


def test_a_fix_is_let_through_and_recorded(folder: Path) -> None:
    """Named by a person: it says what is missing, and exits 0; a journal that cannot be written does not stop it."""
    answer = preflight(folder, "--json", "--fixes", "rollback-6d1f")
    assert (answer.code, answer.json["ready"], answer.json["result"]) == (0, False, "advised")
    assert answer.json["advice"] == "this deployment fixes rollback-6d1f"
    assert "as the fix of rollback-6d1f" in " ".join(typed(folder, "timeline", "-e", "production").out.split())
    (folder / ".backout" / "journal.sqlite").write_bytes(b"\xff" * 8192)
    hurried = preflight(folder, "--fixes", "rollback-6d1f")
    assert hurried.code == 0
    assert "it is not recorded that this deployment fixes rollback-6d1f" in hurried.err


def test_a_pipeline_gets_a_page_and_a_word(folder: Path) -> None:
    """Both files are appended to; the page can be printed as well, and no command on it lacks its environment."""
    (folder / "page.md").write_text("before\n", encoding="utf-8")
    answer = preflight(folder, "--format", "markdown", "--summary", "page.md", "--outputs", "out")
    assert answer.code == 1
    page = (folder / "page.md").read_text(encoding="utf-8")
    assert page.startswith("before\n### backout preflight, production: ❌ not ready")
    assert answer.out.strip() == page.removeprefix("before\n").strip()
    assert (folder / "out").read_text(encoding="utf-8") == "result=not_ready\n"
    lost = preflight(folder, "--summary", "no/such/folder")
    assert lost.code == 1
    assert "cannot be written" in lost.err
    assert "the answer stands" in lost.err


def test_contacts_are_known_by_name(folder: Path) -> None:
    """Whom to call stands on the card; here their names are enough."""
    with (folder / "backout.toml").open("a", encoding="utf-8") as file:
        file.write('[contacts]\non_call = "+49 30 0000000"\n')
    found = checks(preflight(folder, "--json"))["contacts"]
    assert (found["level"], found["state"], found["why"]) == ("should", "ok", "the card names on_call")
