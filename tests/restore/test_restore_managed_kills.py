"""kill -9 at the calls of a restore at a vendor and at any time in between, then resume: the same end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from branch_lab import Typing, managed
from cli_shell import make_shell
from kept import template

from backout.plan.branches import Treatment
from backout.runbook.recovery.managed import plan_rescue, plan_swap, plan_undo
from backout.wiring.db.branches import make_branch_tools
from backout.wiring.db.restore import make_restore_tools

from extent import PROOF, by_extent, drawn, rotated
from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backout.runbook.recovery.managed import BranchTools

pytestmark = pytest.mark.rotating("restores that are killed", 3)

SCRIPT = Path(__file__).parents[1] / "support" / "database" / "managed_killed.py"
STATE = "SELECT id, status, to_jsonb(o) ->> 'note' FROM orders o ORDER BY id"
COUNT = 3000
NEVER = 10_000_000


@pytest.fixture(scope="module")
def typing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Typing]:
    with managed(tmp_path_factory.mktemp("k"), template(), commit_times=True) as made:
        with made.lab.connect() as connection:
            connection.execute("CREATE TABLE orders (id int PRIMARY KEY, status text, note text)")
            connection.execute(f"INSERT INTO orders SELECT g, 'paid', 'n' || g FROM generate_series(1, {COUNT}) g")  # noqa: S608 ours
        made.lab.base("base")
        yield made


@pytest.fixture(scope="module")
def xid(typing: Typing) -> str:
    """Damage the table, write good rows after it, and return the damage's transaction."""
    with typing.lab.connect() as connection:
        connection.execute("UPDATE orders SET status = 'sent' WHERE id <= 100")
        with connection.transaction():
            row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            connection.execute("UPDATE orders SET status = 'bad' WHERE id % 2 = 0; DELETE FROM orders WHERE id > 2900")
            connection.execute("SAVEPOINT one; ALTER TABLE orders DROP COLUMN note")
        connection.execute("INSERT INTO orders VALUES (9999, 'new'); UPDATE orders SET status = 'new' WHERE id = 2")
    assert row is not None
    return str(row[0])


def tools_of(typing: Typing) -> BranchTools:
    config = make_shell(typing.folder, typing.variables).config()
    return make_branch_tools(config, make_restore_tools(config))


def driven(typing: Typing, run: str, at: int = NEVER, within_s: float | None = None) -> dict[str, Any] | None:
    """Drive the run in a process of its own; None when it was killed, at a call or when its time was over."""
    argv = (sys.executable, str(SCRIPT), str(typing.folder), run, str(at))
    paths = os.pathsep.join((str(SCRIPT.parent), *sys.path))
    variables = {**os.environ, **typing.variables, "PYTHONPATH": paths}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables) as process:
        try:
            out, said = process.communicate(timeout=within_s or 2 * PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            assert within_s is not None, "it hangs"
            return None
    if process.returncode == -9:
        return None
    assert process.returncode == 0, said
    return dict(json.loads(out))


def done(typing: Typing, how: str, xid: str, at: int = NEVER, within_s: float | None = None) -> int:
    """Do it, killed once and resumed; return how many calls the last process made."""
    tools = tools_of(typing)
    if how == "undo":
        plan = plan_undo(tools)
    else:
        plan = plan_swap(tools, xid) if how == "swap" else plan_rescue(tools, xid, Treatment())
    run = tools.own.journal.submit(plan, actor="test", reason="a kill")
    answer = driven(typing, run, at, within_s) or driven(typing, run)
    assert answer is not None
    assert answer["state"] == "done"
    return int(answer["calls"])


@pytest.mark.long
@pytest.mark.proof
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("how", rotated(["rescue", "swap"], 1))
def test_after_a_kill_the_end_is_the_same(typing: Typing, xid: str, how: str, proof: Callable[..., None]) -> None:
    """Do and undo, the first killed; nothing newer is lost by a rescue, and no branch is left behind or made twice."""
    lab = typing.lab
    good = {i: (i, "sent" if i <= 100 else "paid", f"n{i}") for i in range(1, COUNT + 1)}
    newer = {2: (2, "new", "n2"), 9999: (9999, "new", None)} if how == "rescue" else {}
    damaged, right = lab.rows(STATE), [({**good, **newer})[i] for i in sorted({**good, **newer})]
    # A swap before keeps the old state under a name, with what it runs on.
    branches = [each["name"] for each in typing.vendor.branches]
    others = {each.name for each in typing.vendor.sides.list()}
    calls = done(typing, how, xid)
    assert lab.rows(STATE) == right
    done(typing, "undo", xid)
    assert lab.rows(STATE) == damaged
    random_ = drawn(how)
    points = range(1, calls + 1) if PROOF else sorted(random_.sample(range(1, calls + 1), 1))
    kills: list[tuple[int, float | None]] = [(point, None) for point in points]
    if how == "rescue":  # of a swap the vendor may be half-way, and then it answers that it is busy
        kills += [(NEVER, random_.uniform(0.5, 4.0)) for _ in range(by_extent(0, 1, proof=20))]
    failures = 0
    for at, within_s in kills:
        done(typing, how, xid, at, within_s)
        failures += lab.rows(STATE) != right
        done(typing, "undo", xid)
        failures += lab.rows(STATE) != damaged
        if how == "rescue":
            assert [each["name"] for each in typing.vendor.branches] == branches
            assert {each.name for each in typing.vendor.sides.list()} == others
    proof(f"a {how} at a vendor killed with -9 ends the same", trials=2 * len(kills), failures=failures)
    assert failures == 0
