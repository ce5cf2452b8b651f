"""A second person on the pages: whose login counts as whom, on a journal where each person has a role."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest
from journal.persons import ADA, BOB, Team
from web_lab import JOURNAL_URL, PRODUCTION, Permission, make_actions, make_plan, open_lab
from web_logins import ask_from, log_in, read_cookie

from backout.errors import DecisionNeeded
from backout.model.action_request import MADE
from backout.model.approval import NOT_PROVABLE
from backout.model.login import ISSUED, STARTED
from backout.model.person import ON_BEHALF_OF, Delegation

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from web_lab import Answer, Lab

pytestmark = pytest.mark.usefixtures("on_postgres")
PAGES, WORKER = "toy_pages", "toy_worker"
EDITS: Final = {
    'required_for = ["rollback"]': 'required_for = ["rollback"], by = "second-person"',
    "[environments.staging]": f"""pages_role = "{PAGES}"
people = {{ "bob@example.com" = "{BOB}" }}
[environments.staging]""",
}
USER, PEER = "X-Forwarded-User", "127.0.0.2"
BEHIND = ("--proxy", f"{PEER}/32", "--proxy-header", USER, "--proxy-role", "approver")
COMMANDS = f"/env/{PRODUCTION}/requests"


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    team = Team(tmp_path)
    team.open("postgres").note("staging", "x.noted", "1", {}, actor="owner")
    team.admit(ADA, BOB, PAGES, WORKER)
    yield team
    for journal in team.opened:
        journal.close()


@pytest.fixture
def lab(tmp_path: Path, team: Team) -> Iterator[Lab]:
    """Lend a server with the pages' own role, behind a proxy; Bob is a user of that, and Ada has a role."""
    with open_lab(tmp_path, *BEHIND, journal_url=team.url(PAGES), edits=EDITS, told=()) as made:
        yield made
        assert "Traceback" not in made.said


def run_as(team: Team, lab: Lab, role: str, *words: str) -> dict[str, Any]:
    """Return what a command answers on a machine that has a role's connection string."""
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(lab.folder), JOURNAL_URL: team.url(role)}
    argv = [sys.executable, "-m", "backout", *words, "--json"]
    done = subprocess.run(
        argv, cwd=lab.folder, capture_output=True, text=True, check=True, timeout=PATIENCE_S, env=variables
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def log_in_as(team: Team, lab: Lab, role: str) -> str:
    """Return the cookie of a session that a person began with an address of their own machine."""
    told = run_as(team, lab, role, "serve", "login", "--role", "approver", "--name", "whoever", "--url", lab.url)
    (offer,) = parse_qs(urlsplit(told["login_url"]).query)["offer"]
    return read_cookie(log_in(lab, offer))[0]


def send(lab: Lab, cookie: str, path: str, form: dict[str, str]) -> Answer:
    return lab.ask("POST", path, form=form, headers={"Cookie": cookie, "Sec-Fetch-Site": "same-origin"})


def ask_for_rollback(lab: Lab, cookie: str) -> Answer:
    form = {"act": "rollback", "why": "checkout fails", "confirm": PRODUCTION, "key": "once"}
    return send(lab, cookie, COMMANDS, form)


def find_request(lab: Lab) -> Any:
    (made,) = lab.journal.events(environment=PRODUCTION, kind=MADE)
    return made


def work(team: Team, lab: Lab, number: int) -> str:
    """Do a request as a worker's command does it; return its run, which waits."""
    worker = team.open(WORKER, delegation=Delegation(PAGES, number))
    worker.check_approvable(make_plan(PRODUCTION))
    run = worker.submit(make_plan(PRODUCTION), actor="a worker", reason="so")
    with pytest.raises(DecisionNeeded, match="a second person's approval"):
        worker.drive(run, make_actions(lab.folder), actor="a worker")
    return run


def approve(lab: Lab, cookie: str, run: str) -> Answer:
    found = lab.journal.find(run)
    assert found is not None
    return send(
        lab, cookie, f"/env/{PRODUCTION}/run/{run}/ask", {"what": "approve", "plan_hash": found.plan.hash, "why": "y"}
    )


def test_who_asked_on_the_pages_cannot_approve_and_somebody_else_can(team: Team, lab: Lab) -> None:
    """A login is of the role that made its address; under whichever name. The pages say so where one approves."""
    ada, bob = log_in_as(team, lab, ADA), log_in_as(team, lab, BOB)
    assert ask_for_rollback(lab, ada).status == 303
    made = find_request(lab)
    assert (made.writer, made.data[ON_BEHALF_OF], made.data["by"]) == (PAGES, ADA, "whoever")
    run = work(team, lab, made.seq)
    shown = lab.ask("GET", f"/env/{PRODUCTION}/run/{run}", headers={"Cookie": ada}).text
    assert f"You count as the role <code>{ADA}</code>" in shown
    refused = approve(lab, ada, run)
    assert refused.status == 409
    assert f"{NOT_PROVABLE}: the role {ADA} of the journal" in refused.text.replace("&#39;", "'")
    assert approve(lab, bob, run).status == 303
    found = lab.journal.find(run)
    assert found is not None
    assert found.approval is not None
    assert (found.approval.person, found.approval.on_behalf_of) == (PAGES, BOB)
    shown = lab.ask("GET", f"/env/{PRODUCTION}/run/{run}", headers={"Cookie": ada}).text
    assert f"as the role <code>{BOB}</code>" in shown
    worker = team.open(WORKER, delegation=Delegation(PAGES))
    worker.drive(run, make_actions(lab.folder), actor="a worker")
    ended = worker.find(run)
    assert ended is not None
    assert ended.state.is_over


def test_a_user_of_the_proxy_is_the_role_that_the_configuration_says(team: Team, lab: Lab) -> None:
    """Bob by his name there, whoever is not named is nobody: neither asks for a rollback nor approves one."""
    ada = log_in_as(team, lab, ADA)
    assert ask_for_rollback(lab, ada).status == 303
    run = work(team, lab, find_request(lab).seq)
    found = lab.journal.find(run)
    assert found is not None
    form = {"what": "approve", "plan_hash": found.plan.hash, "why": "y"}
    path = f"/env/{PRODUCTION}/run/{run}/ask"

    def send_as(user: str, path: str, form: dict[str, str]) -> Answer:
        return ask_from(lab, PEER, "POST", path, [(USER, user), ("Sec-Fetch-Site", "same-origin")], form=form)

    for user in ("eve@example.com", "toy_bob", "BOB@example.com"):
        assert "the login stands for no role" in send_as(user, path, form).text
        rollback = {"act": "rollback", "why": "y", "confirm": PRODUCTION, "key": user}
        assert "the login stands for no role" in send_as(user, COMMANDS, rollback).text
    assert send_as("bob@example.com", path, form).status == 303
    approved = lab.journal.find(run)
    assert approved is not None
    assert approved.approval is not None
    assert approved.approval.on_behalf_of == BOB


def test_the_address_that_the_server_prints_is_of_nobody(team: Team, lab: Lab) -> None:
    """It was made with the pages' own role, and so are tokens that are made beside it; in staging nobody has to be."""
    (offer,) = parse_qs(urlsplit(lab.login_url).query)["offer"]
    cookie = read_cookie(log_in(lab, offer))[0]
    refused = ask_for_rollback(lab, cookie)
    assert refused.status == 409
    assert "the login stands for no role" in refused.text
    assert "docs/team.md" in refused.text
    made_here = run_as(team, lab, PAGES, "serve", "token", "create", "x", "--role", "approver")["token"]
    made_by_ada = run_as(team, lab, ADA, "serve", "token", "create", "x", "--role", "operator")["token"]
    body = {"act": "rollback", "why": "y", "confirm": PRODUCTION}
    api = f"/api/v1/environments/{PRODUCTION}/requests"
    assert lab.ask("POST", api, token=made_here, body=body, headers={"Idempotency-Key": "a"}).status == 409
    assert lab.ask("POST", api, token=made_by_ada, body=body, headers={"Idempotency-Key": "b"}).status == 202
    assert find_request(lab).data[ON_BEHALF_OF] == ADA
    form = {"act": "rollback", "why": "y", "key": "s"}
    assert send(lab, cookie, "/env/staging/requests", form).status == 303


def test_a_session_that_somebody_wrote_into_the_journal_is_theirs(team: Team, lab: Lab) -> None:
    """Ada writes that a session was begun on behalf of Bob, and a token issued: both are hers."""
    from backout.runbook.serve.logins import Logins, hash_secret  # noqa: PLC0415 - beside its only use

    by_hand = team.open(ADA)
    secrets = []
    for kind in (STARTED, ISSUED):
        secret = f"bko_{kind}_forged_by_hand_0123456789"
        data = {
            "name": "bob", "role": "approver", "environments": [], "expires_at": 9e9, "via": "url", ON_BEHALF_OF: BOB,
        }  # fmt: skip
        by_hand.note("", kind, hash_secret(secret), data, actor="bob@laptop")
        secrets.append(secret)
    known = Logins(lab.journal, lab.site.clock, actor="toy", pages_role=PAGES)
    found = [known.find(secret) for secret in secrets]
    assert [each and (each.name, each.person) for each in found] == [("bob", ADA)] * 2
    assert known.find(known.issue("x", Permission.VIEWER, (), 60.0)[0]) is not None


def test_without_the_role_of_the_pages_it_is_refused_as_before(team: Team, tmp_path: Path) -> None:
    """Nobody vouches for a login there."""
    edits = {'required_for = ["rollback"]': EDITS['required_for = ["rollback"]']}
    with open_lab(tmp_path, journal_url=team.url(PAGES), edits=edits, told=()) as lab:
        ada = log_in_as(team, lab, ADA)
        refused = ask_for_rollback(lab, ada)
        assert refused.status == 409
        assert NOT_PROVABLE in refused.text
        run = team.open(BOB).submit(make_plan(PRODUCTION), actor="bob", reason="so")
        with pytest.raises(DecisionNeeded):
            team.open(BOB).drive(run, make_actions(tmp_path), actor="bob")
        assert NOT_PROVABLE in approve(lab, ada, run).text
