"""Whose login stands behind what the pages write: which of them is a second person's, and who can claim to be one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from journal.persons import ADA, ANYONE, BOB, Team, approve, make_plan, submit

from backout.errors import Refused
from backout.journal.store import Entry
from backout.model.action_request import MADE, Act, Requester
from backout.model.approval import NOT_PROVABLE
from backout.model.incident.incident import RunState
from backout.model.person import ON_BEHALF_OF, Delegation
from backout.runbook.serve.action_requests import make_request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backout.journal.stored import StoredJournal

pytestmark = pytest.mark.usefixtures("on_postgres")
PAGES, WORKER, EVE = "toy_pages", "toy_worker", "toy_eve"
BY_PAGES = Delegation(PAGES)


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    """Lend a journal with a role for each person, one for the pages and one for a worker."""
    team = Team(tmp_path)
    team.open("postgres").note("staging", "x.noted", "1", {}, actor="owner")
    team.admit(ADA, BOB, EVE, PAGES, WORKER)
    yield team
    for journal in team.opened:
        journal.close()


def approve_by_pages(pages: StoredJournal, run: str, login: str) -> None:
    pages.ask(run, "approve", actor="whatever the login is called", reason="I looked", on_behalf_of=login)


def ask_by_pages(pages: StoredJournal, login: str, environment: str = "staging") -> int:
    """Return the number of a request that a login makes."""
    by = Requester("whatever the login is called", login)
    return make_request(pages, environment, Act.ROLLBACK, key=login, by=by, why="so", actor="the pages").id


def test_a_login_of_another_role_is_a_second_person(team: Team) -> None:
    """Ada asked in a terminal: her login on the pages may not approve, Bob's may, and is named by his role."""
    ada, pages = team.open(ADA, delegation=BY_PAGES), team.open(PAGES, delegation=BY_PAGES)
    run = submit(ada)
    team.wait(run, ada)
    with pytest.raises(Refused, match=f"{NOT_PROVABLE}: the role {ADA} .* asked for the plan, too"):
        approve_by_pages(pages, run, ADA)
    approve_by_pages(pages, run, BOB)
    ended = team.drive(run, ada)
    assert ended.approval is not None
    assert (ended.state, ended.approval.person, ended.approval.on_behalf_of) == (RunState.DONE, PAGES, BOB)
    assert ada.verify_chain().is_whole


def test_a_login_of_no_role_is_nobody(team: Team) -> None:
    """One that the pages' own machine offers, or a proxy's user without a role: neither may it ask, nor approve."""
    ada, pages = team.open(ADA, delegation=BY_PAGES), team.open(PAGES, delegation=BY_PAGES)
    run = submit(ada)
    team.wait(run, ada)
    for login, why in (("", "the login stands for no role"), (PAGES, "the login stands for no role")):
        with pytest.raises(Refused, match=f"{NOT_PROVABLE}: {why}"):
            approve_by_pages(pages, run, login)
        with pytest.raises(Refused, match=f"{NOT_PROVABLE}: {why}"):
            pages.check_asker("staging", login)
    with pytest.raises(Refused, match=f"{NOT_PROVABLE}: the role nobody_here"):
        approve_by_pages(pages, run, "nobody_here")
    with pytest.raises(Refused, match=f"{NOT_PROVABLE}: the role postgres"):
        approve_by_pages(pages, run, "postgres")
    pages.check_asker("staging", BOB)
    team.wait(run, ada)


def test_no_other_role_speaks_for_somebody(team: Team) -> None:
    """Eve writes by hand that Bob approves: it is she who did."""
    eve, pages = team.open(EVE, delegation=BY_PAGES), team.open(PAGES, delegation=BY_PAGES)
    run = submit(eve)
    worker = team.open(WORKER, delegation=BY_PAGES)
    team.wait(run, worker)
    with pytest.raises(Refused, match="the login stands for no role"):
        approve_by_pages(eve, run, BOB)
    found = worker.find(run)
    assert found is not None
    forged = {"what": "approve", "reason": "r", "hash": found.plan.hash, "expires_at": 9e9, ON_BEHALF_OF: BOB}
    with eve._store.write("forged") as transaction:
        transaction.append(Entry("run.asked", run, data=forged), environment="staging", actor="bob@laptop")
    found = worker.find(run)
    assert found is not None
    assert found.approval is not None
    assert (found.approval.person, found.approval.on_behalf_of) == (EVE, BOB)
    team.wait(run, worker)
    assert team.effects == []
    approve_by_pages(pages, run, BOB)
    assert team.drive(run, worker).state is RunState.DONE


def test_pages_whose_role_is_not_configured_speak_for_nobody(team: Team) -> None:
    """Neither do they take an approval, nor a request for what needs one; of a request there both are counted."""
    ada, pages = team.open(ADA), team.open(PAGES)
    run = submit(ada)
    team.wait(run, ada)
    for login in ("", BOB):
        with pytest.raises(Refused, match=f"{NOT_PROVABLE}: the login stands for no role"):
            approve_by_pages(pages, run, login)
        with pytest.raises(Refused, match=f"{NOT_PROVABLE}: the login stands for no role"):
            pages.check_asker("staging", login)
    ada.ask(run, "abort", actor="ada", reason="the next one")
    number = ask_by_pages(team.open(PAGES, delegation=BY_PAGES), ADA)
    worker = team.open(WORKER, delegation=Delegation("", number))  # its backout.toml is another one
    run = submit(worker, 2)
    team.wait(run, worker)
    with pytest.raises(Refused, match=f"the role {ADA} .* asked for the plan, too"):
        approve(ada, run)
    approve(team.open(BOB), run)


def test_who_asked_on_the_pages_asked_for_the_plan(team: Team) -> None:
    """A worker submits and drives it: Ada, whose login asked, may approve it no way, and the worker's role neither."""
    pages = team.open(PAGES, delegation=BY_PAGES)
    number = ask_by_pages(pages, ADA)
    worker = team.open(WORKER, delegation=Delegation(PAGES, number))
    worker.check_approvable(make_plan())
    run = submit(worker)
    team.wait(run, worker)
    with pytest.raises(Refused, match=f"the role {ADA} .* asked for the plan, too"):
        approve_by_pages(pages, run, ADA)
    with pytest.raises(Refused, match=f"the role {ADA} .* asked for the plan, too"):
        approve(team.open(ADA, delegation=BY_PAGES), run)
    with pytest.raises(Refused, match=f"the role {WORKER} .* asked for the plan, too"):
        approve(team.open(WORKER, delegation=BY_PAGES), run)
    later = ask_by_pages(pages, BOB)  # who has it go on is none of those who asked
    approve_by_pages(pages, run, BOB)
    assert team.drive(run, team.open(WORKER, delegation=Delegation(PAGES, later))).state is RunState.DONE


def test_who_has_a_plan_driven_to_where_it_waits_asked_for_it_too(team: Team) -> None:
    """Submitted in a terminal, resumed on the pages before anything waited."""
    pages = team.open(PAGES, delegation=BY_PAGES)
    run = submit(team.open(ADA, delegation=BY_PAGES))
    number = ask_by_pages(pages, BOB)
    team.wait(run, team.open(WORKER, delegation=Delegation(PAGES, number)))
    with pytest.raises(Refused, match=f"the role {BOB} .* asked for the plan, too"):
        approve_by_pages(pages, run, BOB)
    approve_by_pages(pages, run, EVE)


@pytest.mark.parametrize("which", ["nothing", "of another environment", "of no login"])
def test_a_request_that_nobody_is_known_to_have_made_proves_nobody(team: Team, which: str) -> None:
    """A number that somebody typed, or a request of a login that is no person's."""
    pages = team.open(PAGES, delegation=BY_PAGES)
    number = {
        "nothing": lambda: 999,
        "of another environment": lambda: ask_by_pages(pages, ADA, "production"),
        "of no login": lambda: ask_by_pages(pages, ""),
    }[which]()
    worker = team.open(WORKER, delegation=Delegation(PAGES, number))
    with pytest.raises(Refused, match=NOT_PROVABLE):
        worker.check_approvable(make_plan())
    run = submit(worker)
    with pytest.raises(Refused, match=NOT_PROVABLE):
        team.drive(run, worker)
    ended = worker.find(run)
    assert ended is not None
    assert (ended.state, team.effects) == (RunState.FAILED, [])


def test_a_request_in_another_s_name_is_its_writer_s(team: Team) -> None:
    """Eve writes a request on behalf of Bob: the plan counts as asked for by both."""
    pages, eve = team.open(PAGES, delegation=BY_PAGES), team.open(EVE, delegation=BY_PAGES)
    number = ask_by_pages(eve, BOB)
    worker = team.open(WORKER, delegation=Delegation(PAGES, number))
    run = submit(worker)
    team.wait(run, worker)
    for login in (EVE, BOB):
        with pytest.raises(Refused, match=f"the role {login} .* asked for the plan, too"):
            approve_by_pages(pages, run, login)
    approve_by_pages(pages, run, ADA)
    assert team.drive(run, worker).state is RunState.DONE


def test_pages_that_may_do_more_than_append_speak_for_nobody(team: Team) -> None:
    """Whoever could change what they wrote could have approved in any name."""
    ada, pages = team.open(ADA, delegation=BY_PAGES), team.open(PAGES, delegation=BY_PAGES)
    run = submit(ada)
    team.wait(run, ada)
    approve_by_pages(pages, run, BOB)
    with psycopg.connect(team.url(), autocommit=True) as connection:
        connection.execute(f"GRANT UPDATE ON backout.event TO {PAGES}".encode())
        try:
            team.wait(run, ada)
            with pytest.raises(Refused, match=f"{NOT_PROVABLE}: the role {PAGES}"):
                pages.check_asker("staging", BOB)
        finally:
            connection.execute(f"REVOKE UPDATE ON backout.event FROM {PAGES}".encode())
            connection.execute(f"GRANT UPDATE (seq, hash) ON backout.head TO {PAGES}".encode())
    assert team.effects == []


def test_where_anybody_may_approve_the_pages_still_say_for_whom(team: Team) -> None:
    """It stands in the record, and what the server says beside it."""
    ada, pages = team.open(ADA, ANYONE, delegation=BY_PAGES), team.open(PAGES, ANYONE, delegation=BY_PAGES)
    run = submit(ada)
    team.wait(run, ada)
    approve_by_pages(pages, run, ADA)
    (event,) = (each for each in ada.events(run=run, kind="run.asked"))
    assert (event.writer, event.data[ON_BEHALF_OF]) == (PAGES, ADA)
    assert team.drive(run, ada).state is RunState.DONE


@pytest.mark.parametrize("odd", ["bob\0", 7, {"a": 1}])
def test_a_name_that_no_role_has_is_nobody_s(team: Team, odd: object) -> None:
    """The server is not asked for it, and refuses nothing; whoever wrote the request made it."""
    pages, eve = team.open(PAGES, delegation=BY_PAGES), team.open(EVE, delegation=BY_PAGES)
    made = eve.note("staging", MADE, "k", {"act": "rollback", "by": "bob", ON_BEHALF_OF: odd}, actor="eve")  # type: ignore[dict-item]
    assert made is not None
    worker = team.open(WORKER, delegation=Delegation(PAGES, made.seq))
    run = submit(worker)
    team.wait(run, worker)
    with pytest.raises(Refused, match=f"the role {EVE} .* asked for the plan, too"):
        approve_by_pages(pages, run, EVE)
    approve_by_pages(pages, run, BOB)
    assert team.drive(run, worker).state is RunState.DONE
