"""What goes wrong on real nights, on the twin: no second outage is caused, the exit code is right, somebody is told.

The finer halves of each rule stand in its own file; here a whole story runs with the real program, and a receiver of
webhooks listens.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from api_gate import Answer, api_gate, said

from backout.analysis.history.remark_text import parse
from backout.model.guard.signals import sum_counts
from backout.model.remark import RemarkKind

from arranged import mark_stable, migrated, upload
from extent import long
from polling import PATIENCE_S, until
from private import write_private
from receivers import SECRET, verified_now
from scripted_server import answer, scripted_server
from streamed import await_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.model.deployment import Deployment

    from drillbook import Drillbook, Result, Trial
    from scripted_server import ScriptedServer

pytestmark = pytest.mark.rotating("nights", 3)

ROLLBACK = ("rollback", "-m", "it fails", "--confirm", "production", "--no-wait", "--json")
GUARD = ("guard", "--json")


@dataclass
class Night:
    """One machine on call, whom it tells, and what was live when the story began."""

    trial: Trial
    receiver: ScriptedServer
    began: float

    @property
    def book(self) -> Drillbook:
        """The stage."""
        return self.trial.book

    def told(self) -> list[str]:
        """Return the kinds of all notices that arrived, each with a signature that holds."""
        assert all(verified_now(asked) for asked in self.receiver.asked)
        return [str(json.loads(asked.body)["type"]).removeprefix("backout.") for asked in self.receiver.asked]

    def live(self) -> Deployment:
        """Return what the provider says is live."""
        return self.book.trial().tools().deployments.history()[0]

    def switches(self) -> list[str]:
        """Return the versions that backout made live since the story began, oldest first."""
        history = self.book.trial().tools().deployments.history()
        remarks = [(d, parse(d.message)) for d in reversed(history) if d.created_at >= self.began]
        return [d.main for d, remark in remarks if remark is not None and remark.kind is RemarkKind.ROLLBACK]

    def another_machine(self, *, marks: bool = True) -> Night:
        """Return a second machine that tells the same receiver; without `marks` its journal is empty."""
        trial = self.book.trial()
        return Night(_listening(trial if marks else trial.forget_marks(), self.receiver), self.receiver, self.began)


def _listening(trial: Trial, receiver: ScriptedServer) -> Trial:
    write_private(trial.folder / "webhook-url", receiver.url)
    write_private(trial.folder / "webhook-secret", SECRET)
    with trial.config.open("a", encoding="utf-8") as file:
        file.write('\n[notify.webhook]\nurl_file = "webhook-url"\nsecret_file = "webhook-secret"\n')
    return trial


@pytest.fixture
def night(drillbook: Drillbook) -> Iterator[Night]:
    """Begin with the good version live."""
    with scripted_server() as receiver:
        receiver.will(answer({}))
        trial = _listening(drillbook.trial(), receiver)
        if trial.live() != drillbook.good:
            trial.make_live(drillbook.good)
        yield Night(trial, receiver, time.time() - 0.5)


def ended(result: Result, code: int) -> dict[str, Any]:
    """Return the JSON of a command that ended with that code."""
    assert result.code == code, result.out + result.err
    return result.json


@pytest.mark.both_homes
@pytest.mark.long
def test_hotfix_during_a_watch(night: Night) -> None:
    """A colleague mends it while guard still gathers evidence: the hotfix stays, exit 6, and guard says it is void."""
    book, trial = night.book, night.trial
    hotfix = book.deploy("good-2")
    trial.make_live(book.bad)
    trial.replace((r"(\[environments\.production\.guard\])", '\\1\nconfirm = "20s"'))
    process = trial.start(*GUARD)
    await_line(process, '"tick"')
    pushed = trial.make_live(hotfix)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 6, out + err
    assert night.live().id == pushed.id
    assert night.switches() == []
    assert night.told() != [], "nobody was told that the newer deployment is not guarded"


@pytest.mark.both_homes
@pytest.mark.long
def test_two_operators_at_once(night: Night) -> None:
    """Two machines roll back at the same time: the good version is live, once or twice the same, never the bad one."""
    book = night.book
    night.trial.make_live(book.bad)
    machines = (night, night.another_machine())
    processes = [machine.trial.start(*ROLLBACK) for machine in machines]
    codes = [(process.communicate(timeout=PATIENCE_S), process.returncode)[1] for process in processes]
    assert sorted(codes) in ([0, 0], [0, 3], [0, 6])  # 3: the other one is done already, and there is nothing to leave
    assert night.live().main == book.good
    assert set(night.switches()) == {book.good}
    assert "rolled_back" in night.told()


@pytest.mark.both_homes
@pytest.mark.long
def test_two_machines_with_empty_journals(night: Night) -> None:
    """The first rolls back what it may; the second knows from the provider alone which version is the bad one."""
    book = night.book
    stable = night.another_machine()
    ended(stable.trial.run("guard", "--early", "--json"), 0)  # its mark stands at the provider
    night.trial.make_live(book.bad)
    first, second = night.another_machine(marks=False), night.another_machine(marks=False)
    done = ended(first.trial.run(*ROLLBACK), 0)
    assert done["live_version"] == book.good
    again = ended(second.trial.run(*ROLLBACK), 0)
    assert (again["already"], again["run_id"], again["live_version"]) == (True, None, book.good)
    back = second.trial.run("rollback", book.bad, *ROLLBACK[1:])
    assert (back.code, back.json["rule"]) == (3, "5 quarantined")
    assert night.live().main == book.good
    assert night.told().count("rolled_back") == 1


@pytest.mark.both_homes
@pytest.mark.long
@pytest.mark.parametrize("policy", ["hold", long("carry")])
def test_a_rotated_secret_then_a_bad_deployment(night: Night, policy: str) -> None:
    """Hold: exit 3 with the name, traffic stays. Carry: the old code comes back with the new secret."""
    book, trial = night.book, night.trial
    book.deploy("good-2")  # a secret is changed only where the newest version is live
    book.rotate("JWT_SECRET", "canary-of-the-night")
    rotated = trial.live()
    bad = upload(trial, book.bad)
    book.await_a_clean_past(rotated)  # beside a handful of requests even a third that fails is shown in minutes only
    trial.make_live(bad)
    trial.replace((r"(\[environments\.production\.guard\])", f'\\1\non_secret_change = "{policy}"'))
    try:
        result = trial.run(*GUARD)
        if policy == "hold":
            assert result.code == 3, result.out + result.err
            assert "JWT_SECRET" in result.out + result.err
            assert night.live().main == bad
            assert night.switches() == []
            assert {"refused", "held"} & set(night.told())
        else:
            done = ended(result, 1)
            assert done["verified"] is True
            assert night.switches() == [done["live_version"]]
            assert done["live_version"] not in (bad, rotated, book.good)
            assert "rolled_back" in night.told()
    finally:
        book.put_secrets_back()


@pytest.mark.both_homes
@pytest.mark.long
def test_a_target_that_is_bad_too(night: Night) -> None:
    """The newest stable version is broken by now: it is proven bad at 0 %, and the one before gets the traffic."""
    book, trial = night.book, night.trial
    sick = book.upload_sick()
    book.dismiss()  # on a slow machine its errors would be what was normal before
    trial.make_live(sick)
    mark_stable(trial, sick)
    trial.make_live(book.bad)
    book.welcome()
    done = ended(trial.run(*GUARD), 1)
    assert (done["live_version"], done["verified"]) == (book.good, True)
    assert night.switches() == [book.good]
    assert night.told() == ["rolled_back"]


@pytest.mark.long
def test_the_api_is_down_at_the_moment_of_decision(night: Night) -> None:
    """Nothing is claimed and nothing done; the same command goes on when the API answers again."""
    book, trial = night.book, night.trial
    trial.make_live(book.bad)
    with api_gate(str(book.stage.twin.api_base_url)) as gate:
        trial.behind(gate.url)
        gate.when("GET", "/versions?", *[Answer(503)] * 40)
        result = trial.run(*GUARD)
        assert result.code in (5, 7), result.out + result.err
        assert night.switches() == []
        assert night.live().main == book.bad
        assert night.told() != []
        gate.rules.clear()
        again = trial.run(*GUARD)
    assert again.code == 1, again.out + again.err
    assert night.live().main == book.good
    assert "rolled_back" in night.told()


@pytest.mark.long
def test_a_token_revoked_in_the_middle_of_a_watch(night: Night) -> None:
    """It is told at once, nothing is done without it, exit 4."""
    book, trial = night.book, night.trial
    trial.make_live(book.bad)
    with api_gate(str(book.stage.twin.api_base_url)) as gate:
        trial.behind(gate.url)
        trial.replace((r"(\[environments\.production\.guard\])", '\\1\nconfirm = "6s"'))
        process = trial.start(*GUARD)
        await_line(process, '"tick"')
        gate.when("GET", "", *[said(401, 10000, "Authentication error")] * 1000)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 4, out + err
    assert night.switches() == []
    assert night.live().main == book.bad
    assert "token_lost" in night.told()


@pytest.mark.long
def test_a_clock_that_is_wrong_by_an_hour(night: Night) -> None:
    """A target given as a time is refused; the rollback by stability is right all the same."""
    book, trial = night.book, night.trial
    trial.make_live(book.bad)
    with api_gate(str(book.stage.twin.api_base_url)) as gate:
        trial.behind(gate.url)
        gate.date_shift_s = 3600.0
        refused = trial.run("rollback", "5 minutes ago", *ROLLBACK[1:])
        assert (refused.code, refused.json["rule"]) == (3, "3 clock")
        assert night.live().main == book.bad
        done = ended(trial.run(*ROLLBACK), 0)
    assert done["live_version"] == night.live().main == book.good
    assert "rolled_back" in night.told()


@pytest.mark.both_homes
def test_a_configuration_that_points_production_at_another_environment(night: Night) -> None:
    """The pinned identity is another one: exit 3 before anything changes, in the dry run too, and it is told."""
    book, trial = night.book, night.trial
    trial.make_live(book.bad)
    with trial.config.open("a", encoding="utf-8") as file:
        file.write('\n[environments.production.pin]\nscript_tag = "5e8b1c9ad5f04b6c8f1f3a5d7e9b0c2d"\n')
    for command in ((*ROLLBACK, "--dry-run"), ROLLBACK, GUARD, ("panic", "--json")):
        refused = trial.run(*command)
        assert (refused.code, refused.json["rule"]) == (3, "1 identity"), command
        assert "5e8b1c9ad5f04b6c8f1f3a5d7e9b0c2d" in refused.json["what"]
    assert night.switches() == []
    assert night.live().main == book.bad
    assert night.told() != []


@pytest.mark.both_homes
@pytest.mark.long
def test_ci_runs_again_with_the_same_bad_code(night: Night) -> None:
    """It is known under its new id: the gate stops it, guard announces it, holds (one in six hours), and says so."""
    book, trial = night.book, night.trial
    trial.replace((r'at_most = "[^"]*"', 'at_most = "1 per 6h"'))
    trial.make_live(book.bad)
    ended(trial.run(*GUARD), 1)
    again = upload(trial, book.bad)
    gate = trial.run("deployments", "check", again, "--json")
    assert (gate.code, gate.json["allowed"]) == (3, False)
    trial.make_live(again)
    held = trial.run(*GUARD)
    assert held.code == 3, held.out + held.err
    assert held.json["action"] == "hold"
    assert night.switches() == [book.good]
    assert {"rolled_back", "known_bad", "held"} <= set(night.told())


@pytest.mark.both_homes
@pytest.mark.long
def test_a_migration_applied_with_the_bad_version(night: Night) -> None:
    """Code is not rolled back over it: exit 3, the options are shown, the traffic stays, somebody is told."""
    book, trial = night.book, night.trial
    trial.make_live(book.bad)
    with migrated(book, "20261125000000_drop_column"):
        refused = ended(trial.run(*GUARD), 3)
    assert refused["rule"] == "4 schema"
    assert night.switches() == []
    assert night.live().main == book.bad
    assert night.told() == ["refused"]


@pytest.mark.both_homes
@pytest.mark.long
def test_a_total_outage_with_a_broken_target(night: Night) -> None:
    """The proof is skipped because nothing works; the target fails, and the next stable version is the second hop."""
    book, trial = night.book, night.trial
    sick = book.stage.deploy("wrong-table")
    mark_stable(trial, sick)
    down, since = book.deploy("errors-all"), int(time.time())
    traffic = trial.tools().traffic
    assert traffic is not None

    def failed() -> bool:
        return sum_counts(row for row in traffic.read(since, since + 60).counts if row.version == down)[1] >= 30

    until(failed, 30, "visitors see errors", every_s=0.2)
    done = trial.run(*GUARD)
    assert done.code == 1, done.out + done.err
    assert night.switches()[0] == sick
    assert night.live().main == book.good
    assert night.switches() == [sick, book.good]
    assert "rolled_back" in night.told()


@pytest.mark.both_homes
@pytest.mark.long
def test_flapping(night: Night) -> None:
    """Bad, rolled back, bad again, and again: one rollback, then holds; each end is told."""
    book, trial = night.book, night.trial
    trial.replace((r'at_most = "[^"]*"', 'at_most = "1 per 6h"'))
    actions = []
    for _ in range(3):
        trial.make_live(book.bad)
        actions.append(trial.run(*GUARD).json["action"])
    assert actions == ["rollback", "hold", "hold"]
    assert night.switches() == [book.good]
    told = night.told()
    assert told.count("rolled_back") == 1
    assert told.count("held") == 2
