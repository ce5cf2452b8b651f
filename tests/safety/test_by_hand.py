"""`panic` and `card` print the lines to type by hand whatever happens: garbage, a poisoned journal, a damaged file."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from cli_shell import Answer, backout
from nastiness import ANSWERS, HEADERS, JSON, LATE, body

from extent import long
from line import Story
from scripted_server import raw_answer, refused_url, scripted_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from drillbook import Drillbook
    from scripted_server import ScriptedServer

pytestmark = pytest.mark.calm

CONFIG = """[app]
name = "a"
[environments.production]
platform = {{ provider = "cloudflare", account_id = "a1", script = "shop", api_base_url = "{url}" }}
"""
COMMANDS = ("panic", "card")
CARD = "the last card: npx wrangler rollback OLD"
TOKEN = {"CLOUDFLARE_API_TOKEN": "canary-token-0123456789"}
NAMED = {nasty.name: nasty.content for nasty in (*JSON, *HEADERS, *ANSWERS)}
LATE_LIST = (
    b'{"success":true,"errors":[],"result":{"deployments":[{"id":"d","created_on":"%s","versions":'
    b'[{"version_id":"v","percentage":1e308}]}]}}'
)
GARBAGE = {
    "lists nested 100,000 deep": body(NAMED["lists nested 100,000 deep"]),
    "a number of 5,000 digits": body(NAMED["a number of 5,000 digits"]),
    "a negative chunk": NAMED["a negative chunk"],
    "odd dates": body(b'{"success":true}', NAMED["a Date with a year of 20 digits"], status=401),
    "odd shares": body(LATE_LIST % LATE[0].encode()),
}


def list_by_turns(*cases: str) -> list[object]:
    """Return each case with each command, of which `make test` tries one, by turns."""
    tried = {(COMMANDS[turn % 2], case) for turn, case in enumerate(cases)}
    both = [(command, case) for case in cases for command in COMMANDS]
    return [each if each in tried else long(*each) for each in both]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A journal that knows a stable version."""
    return Story(tmp_path_factory.mktemp("story") / "journal.sqlite")


@pytest.fixture
def folder(story: Story, tmp_path: Path) -> Path:
    """A project's folder with that journal, a card, and a platform that nobody answers for."""
    (tmp_path / "backout.toml").write_text(CONFIG.format(url=refused_url()))
    own = tmp_path / ".backout"
    own.mkdir(mode=0o700)
    with closing(sqlite3.connect(story.path)) as source, closing(sqlite3.connect(own / "journal.sqlite")) as copy:
        source.backup(copy)
    (own / "card-production.md").write_text(CARD)
    for file in own.iterdir():
        file.chmod(0o600)
    return tmp_path


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as running:
        yield running


def check(command: str, answer: Answer, *, code: int, line: str) -> None:
    """Look that the lines are there, that the exit code is the documented one, and that no mistake of ours shows."""
    assert answer.code == code, answer.err
    assert f"$ {line}" in answer.err, answer.err
    assert "the card, written when all was well:" in answer.err
    assert "mistake in backout" not in answer.err
    assert (CARD in answer.out) is (command == "card")
    assert TOKEN["CLOUDFLARE_API_TOKEN"] not in answer.err


@pytest.mark.parametrize(("command", "name"), list_by_turns(*GARBAGE))
def test_the_platform_answers_garbage(
    story: Story, folder: Path, server: ScriptedServer, command: str, name: str
) -> None:
    """Exit 7 (or 4), and the line that goes back to the version which this host knows as stable."""
    server.will(raw_answer(GARBAGE[name]))
    (folder / "backout.toml").write_text(CONFIG.format(url=server.url))
    answer = backout(folder, command, "-e", "production", variables=TOKEN)
    line = f"npx wrangler rollback {story.good.id} --name shop"
    check(command, answer, code=4 if name == "odd dates" else 7, line=line)
    if answer.code == 7:
        assert "wrangler and curl need the API as well" in answer.err
        assert "Workers & Pages > shop > Deployments > " in answer.err


@pytest.mark.parametrize("command", COMMANDS)
def test_without_the_api_it_is_the_version_that_the_card_names(story: Story, folder: Path, command: str) -> None:
    """The card was written about what was live last; it weighed more than the marks do."""
    live, older = story.bad.id, "0dd00000-0000-4000-8000-000000000000"
    page = f"Every id was read from the provider at 2099-01-01T00:00:00.000Z.\n- version {live} at 100 %\n"
    (folder / ".backout" / "card-production.md").write_text(f"{CARD}\n{page}\n## Roll back to {older}\n")
    answer = backout(folder, command, "-e", "production", variables=TOKEN)
    check(command, answer, code=7, line=f"npx wrangler rollback {older} --name shop")
    assert f"next: npx wrangler rollback {older} " in answer.err


def damage(path: Path, how: str) -> None:
    """Do something to the journal's file."""
    if how == "a directory":
        path.unlink()
        path.mkdir()
    elif how == "no database":
        path.write_bytes(b"no database" * 400)
    elif how == "no rights":
        path.chmod(0o000)
    else:
        with closing(sqlite3.connect(path)) as journal:
            for (name,) in journal.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                journal.execute(f"DROP TRIGGER {name}")
            value = {"nested": "[" * 100_000 + "]" * 100_000, "a number": 7, "another shape": '{"plan": [1]}'}[how]
            journal.execute("UPDATE event SET data = ?", (value,))
            journal.commit()


@pytest.mark.parametrize(
    ("command", "how"), list_by_turns("a directory", "no database", "nested", "a number", "another shape")
)
def test_a_journal_of_no_use(folder: Path, command: str, how: str) -> None:
    """And nobody answers for the platform either: then the lines look, and go by what a person sees."""
    damage(folder / ".backout" / "journal.sqlite", how)
    answer = backout(folder, command, "-e", "production", variables=TOKEN)
    assert answer.code in (1, 5, 7), answer.err
    check(command, answer, code=answer.code, line="npx wrangler deployments status --name shop")


def test_a_card_is_made_anew_without_the_journal(drillbook: Drillbook) -> None:
    """Where the provider answers, its ids are better than yesterday's card; what is damaged is said, exit 1."""
    trial = drillbook.trial()
    damage(trial.folder / "journal.sqlite", "no database")
    answer = trial.run("card")
    assert answer.code == 1, answer.err
    assert "## What is live" in answer.out
    assert "without the journal" in answer.err
    assert f"at {trial.folder / 'journal.sqlite'}" in answer.err


@pytest.mark.parametrize("command", COMMANDS)
def test_a_journal_that_is_locked(story: Story, folder: Path, command: str) -> None:
    """Another process keeps the file; its lines can still be read."""
    path = folder / ".backout" / "journal.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        answer = backout(folder, command, "-e", "production", variables=TOKEN)
    assert answer.code in (1, 5, 7), answer.err
    assert "$ npx wrangler" in answer.err


DAMAGED = {
    "no TOML": "[app\n",
    "nested": "a = " + "[" * 100_000,
    "a number of 5,000 digits": f"a = {'9' * 5000}\n",
    "another shape": '[environments]\nproduction = "x"\n',
    "no UTF-8": "\udcff",
}


@pytest.mark.parametrize("how", DAMAGED)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_configuration_of_no_use(folder: Path, command: str, how: str) -> None:
    """Exit 78, and the lines in their general form."""
    (folder / "backout.toml").write_bytes(DAMAGED[how].encode("utf-8", "surrogateescape"))
    answer = backout(folder, command, "-e", "production", variables=TOKEN)
    check(command, answer, code=78, line="npx wrangler rollback VERSION --name WORKER")


@pytest.mark.parametrize("command", COMMANDS)
def test_no_token(story: Story, folder: Path, command: str) -> None:
    """Exit 4, and the line with real names: wrangler has a token of its own."""
    answer = backout(folder, command, "-e", "production")
    check(command, answer, code=4, line=f"npx wrangler rollback {story.good.id} --name shop")


@pytest.mark.parametrize("command", COMMANDS)
def test_as_json(story: Story, folder: Path, command: str) -> None:
    """Stdout stays one line, an error whose hint is the first line to type."""
    shutil.rmtree(folder / ".backout")
    answer = backout(folder, command, "-e", "production", "--json", variables=TOKEN)
    assert (answer.code, answer.json["schema"]) == (7, "backout.error/1")
    assert answer.json["hint"] == "npx wrangler deployments status --name shop"
    assert story.good.id not in answer.err
