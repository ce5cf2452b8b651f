"""kill -9 at the calls of a restore and at any time in between, then resume: the same end; and back again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kept import template
from recovery_lab import Lab, opened

from backout.plan.whole import add_agreed, list_to_agree
from backout.runbook.recovery.restore import list_kept, plan_rescue, plan_swap, plan_undo, release

from extent import PROOF, by_extent, drawn, long
from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backout.model.plan import Plan

pytestmark = pytest.mark.rotating("restores that are killed", 3)

SCRIPT = Path(__file__).parents[1] / "support" / "database" / "restore_killed.py"
STATE = "SELECT id, status, to_jsonb(o) ->> 'note' FROM orders o ORDER BY id"
COUNT = 3000
NEVER = 10_000_000


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("kills"), template()) as made:
        yield made


@pytest.fixture(scope="module")
def xid(lab: Lab) -> str:
    """Damage the table, write good rows after it, and return the damage's transaction."""
    with lab.connect() as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, status text, note text)")
        connection.execute(f"INSERT INTO orders SELECT g, 'paid', 'n' || g FROM generate_series(1, {COUNT}) g")  # noqa: S608 ours
        lab.base("base")
        connection.execute("UPDATE orders SET status = 'sent' WHERE id <= 100")
        with connection.transaction():
            row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            connection.execute("UPDATE orders SET status = 'bad' WHERE id % 2 = 0; DELETE FROM orders WHERE id > 2900")
            connection.execute("SAVEPOINT one; ALTER TABLE orders DROP COLUMN note")
        connection.execute("INSERT INTO orders VALUES (9999, 'new'); UPDATE orders SET status = 'new' WHERE id = 2")
    lab.archived()
    assert row is not None
    return str(row[0])


def driven(lab: Lab, run: str, at: int = NEVER, within_s: float | None = None) -> dict[str, Any] | None:
    """Drive the run in a process of its own; None when it was killed, at a call or when its time was over."""
    argv = (sys.executable, str(SCRIPT), str(lab.root), str(lab.sockets), str(lab.port), run, str(at))
    paths = os.pathsep.join((str(SCRIPT.parent), *sys.path))
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths}
    ) as process:
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


def done(lab: Lab, plan: Plan, at: int, within_s: float | None) -> int:
    """Do a plan, killed once and resumed; return how many calls the last process made."""
    plan = add_agreed(plan, [thing.word for thing in list_to_agree(plan)])
    run = lab.journal.submit(plan, actor="test", reason="a kill")
    answer = driven(lab, run, at, within_s) or driven(lab, run)
    assert answer is not None
    assert answer["state"] == "done"
    return int(answer["calls"])


def planned(lab: Lab, how: str, xid: str) -> Plan:
    if how == "swap":
        return plan_swap(lab.tools(), xid)
    return plan_rescue(lab.tools(), xid, conflicts="live", skip=(), queues=False)


def expected(how: str, damaged: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return the rows that have to be there: of a swap those before the damage, of a rescue the newer ones too."""
    good = {i: (i, "sent" if i <= 100 else "paid", f"n{i}") for i in range(1, COUNT + 1)}
    if how == "rescue":
        good |= {2: (2, "new", "n2"), 9999: (9999, "new", None)}
    assert damaged
    return [good[i] for i in sorted(good)]


@pytest.mark.proof
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("how", ["rescue", long("swap")])
def test_after_a_kill_the_end_is_the_same(lab: Lab, xid: str, how: str, proof: Callable[..., None]) -> None:
    """Do, undo and do again, each killed; nothing newer is lost by a rescue, and no side instance stays behind."""
    damaged = lab.rows(STATE)
    right = expected(how, damaged)
    calls = done(lab, planned(lab, how, xid), NEVER, None)
    assert lab.rows(STATE) == right
    back = done(lab, plan_undo(lab.tools()), NEVER, None)
    assert lab.rows(STATE) == damaged
    random_ = drawn(how)
    points = range(1, calls + 1) if PROOF else sorted(random_.sample(range(1, calls + 1), 1))
    kills: list[tuple[int, float | None]] = [(point, None) for point in points]
    kills += [(NEVER, random_.uniform(0.3, 3.0)) for _ in range(by_extent(0, 1, proof=40))]
    failures = 0
    for at, within_s in kills:
        done(lab, planned(lab, how, xid), at, within_s)
        failures += lab.rows(STATE) != right
        done(lab, plan_undo(lab.tools()), min(at, random_.randrange(1, back + 1)), within_s)
        failures += lab.rows(STATE) != damaged
        if how == "swap":
            release(lab.tools())
            assert list_kept(lab.tools()) == ()
        assert lab.tools().sides.list() == ()
    proof(f"a {how} killed with -9, its undo killed too, ends the same", trials=2 * len(kills), failures=failures)
    assert failures == 0
    assert how == "rescue" or [path.name for path in lab.data.parent.iterdir()] == ["data"]
