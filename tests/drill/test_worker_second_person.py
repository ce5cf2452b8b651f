"""A rollback that two people have to want, asked for and approved on the pages, done by a real worker."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from browser import serving
from fleet import fleet, load_config
from journal.persons import ADA, BOB, Team
from journal.toy import url_of
from journal_engines import journal_server, on_postgres

from backout.model.approval import NOT_PROVABLE
from backout.model.incident.incident import RunState
from backout.wiring.records import open_journal

from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet import Fleet

__all__ = ["journal_server", "on_postgres"]
LONG_S: Final = 4 * PATIENCE_S
PAGES, WORKER = "toy_pages", "toy_worker"
NAME: Final = "app-0"
JOURNAL_URL: Final = "BACKOUT_JOURNAL_URL"
API: Final = f"/api/v1/environments/{NAME}"
APPROVALS: Final = f"""
[environments.{NAME}.approvals]
required_for = ["rollback"]
by = "second-person"
"""


@contextlib.contextmanager
def pages_of(folder: Path, url: str) -> Iterator[str]:
    """Run `backout serve` with the pages' own role; return its address."""
    before = os.environ.get(JOURNAL_URL)
    os.environ[JOURNAL_URL] = url
    try:
        with serving(folder) as served:
            yield served.url
    finally:
        os.environ.pop(JOURNAL_URL)
        if before is not None:
            os.environ[JOURNAL_URL] = before


def make_token(made: Fleet, team: Team, role: str) -> str:
    """Return the token that a person makes on their own machine."""
    done = run_as(made, team, role, "serve", "token", "create", "me", "--role", "approver", "--json")
    token: str = json.loads(done.stdout)["token"]
    return token


def run_as(made: Fleet, team: Team, role: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Return what a command says on a machine that has a role's connection string."""
    argv = [str(Path(sys.executable).parent / "backout"), *words]
    variables = {**os.environ, JOURNAL_URL: team.url(role)}
    return subprocess.run(argv, cwd=made.folder, env=variables, capture_output=True, text=True, check=False)


def send(url: str, token: str, path: str, **body: str) -> tuple[int, Any]:
    """Return the status and the answer of the API."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Idempotency-Key": body["why"]}
    request = urllib.request.Request(url + API + path, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.long
@pytest.mark.rotating("workers and requests", 3)
@pytest.mark.usefixtures("on_postgres")
def test_a_rollback_that_two_people_want(tmp_path: Path) -> None:
    """Ada asks for it, and cannot approve it on the pages nor in a terminal; Bob approves, and the version is back."""
    team = Team(tmp_path / "journal")
    team.directory.mkdir()
    with fleet(tmp_path, 1, journal_url=url_of(team.directory), watch="600s") as made:
        team.admit(ADA, BOB, PAGES, WORKER)
        config = tmp_path / "backout.toml"
        settings = config.read_text()
        url_line = f'url_env = "{JOURNAL_URL}"\n'
        assert url_line in settings
        config.write_text(settings.replace(url_line, f'{url_line}pages_role = "{PAGES}"\n') + APPROVALS)
        made.variables[JOURNAL_URL] = team.url(WORKER)
        worker = made.start_worker("--guard-only")
        until(lambda: made.read_guards() != {}, LONG_S, "the worker guards", process=worker)
        made.deploy(NAME, "good-2")
        until(lambda: "watch" in made.read_log(0), LONG_S, "guard watches", process=worker)
        ada, bob = make_token(made, team, ADA), make_token(made, team, BOB)
        with pages_of(tmp_path, team.url(PAGES)) as url:
            status, asked = send(url, ada, "/requests", act="rollback", target="good-1", why="a customer called")
            assert status == 202, asked
            book = open_journal(load_config(tmp_path, NAME, made.variables))

            def list_waiting() -> list[Any]:
                return [run for run in book.runs(NAME) if run.state is RunState.WAITING]

            until(list_waiting, LONG_S, made.read_log(0), process=worker)
            (run,) = list_waiting()
            (submitted,) = book.events(run=run.id, kind="run.submitted")
            assert (submitted.writer, submitted.data["request"]) == (WORKER, asked["id"])
            words = {"what": "approve", "plan_hash": run.plan.hash, "why": "I looked"}
            status, refused = send(url, ada, f"/runs/{run.id}/ask", **words)
            assert (status, NOT_PROVABLE in refused["title"]) == (409, True), refused
            typed = run_as(made, team, ADA, "-e", NAME, "runs", "approve", run.id, "-m", "I do", "--yes")
            assert typed.returncode == 3, typed.stderr
            assert NOT_PROVABLE in typed.stderr
            assert made.read_live(NAME) == "good-2"
            status, answer = send(url, bob, f"/runs/{run.id}/ask", **words)
            assert status in (200, 202), answer
            status, answer = send(url, bob, "/requests", act="resume", target=run.id, why="go on")
            assert status == 202, answer
            until(lambda: made.read_live(NAME) == "good-1", LONG_S, made.read_log(0), process=worker)
            found = book.find(run.id)
            assert found is not None
            assert found.approval is not None
            assert (found.approval.person, found.approval.on_behalf_of) == (PAGES, BOB)
            assert made.read_served(NAME) == ["good-1", "good-2", "good-1"]
            book.close()
