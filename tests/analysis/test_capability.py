"""Which path is chosen, and what each way lacks: the rules, on values."""

from __future__ import annotations

import pytest
from values import replace

from backout.analysis.recovery.capability import choose, find_window
from backout.model.database.capability import (
    Archiver,
    Choice,
    Granularity,
    Pooler,
    Replication,
    ServerFacts,
    Slot,
    Surroundings,
    Tools,
    VendorState,
    VendorWay,
    Window,
)
from backout.model.database.recovery import BackupKind, BaseBackup
from backout.model.guard.connections import ConnectionUse
from backout.report.database.capability import format_text, make_record

SETTINGS = {"wal_level": "replica", "max_wal_senders": "10", "max_slot_wal_keep_size": "1GB", "summarize_wal": "on"}
FACTS = ServerFacts(
    "app", "shop", 180006, "TLSv1.3", tls_verified=True, settings=SETTINGS, replication=Replication(granted=True)
)
AROUND = Surroundings("production", FACTS, "", Tools("18.6"))
REFUSED = Replication(granted=False, why="x")
FORGOTTEN = Slot("s", "physical", active=False, retained_bytes=9)
COPIES = Window(2, 1000.0, 2000.0)
BRANCH = VendorWay("branch at a moment", Granularity.LSN, in_place=False, keeps_old=True, earliest=1.0, latest=9.0)
NEON = VendorState("neon", answers=True, ways=(BRANCH,))


def way(choice: Choice, name: str) -> tuple[str, list[str], list[str]]:
    found = next(each for each in choice.ways if each.name == name)
    return found.readiness, [lack.what for lack in found.lacks], [lack.line for lack in found.lacks]


def test_a_server_of_ones_own_with_a_backup_takes_the_own_path() -> None:
    choice = choose(replace(AROUND, own=COPIES))
    assert choice.path == "own"
    assert choice.why == "own backups: ready, to the exact commit, and it makes a new database beside the live one"
    assert choice.ways[0].earliest == 1000.0


def test_without_any_copy_nothing_can_be_recovered_and_the_line_is_shown() -> None:
    choice = choose(AROUND)
    assert choice.path is None
    assert choice.why.endswith("nearest: own backups, which lacks: there is no base backup yet")
    assert way(choice, "own backups") == (
        "possible", ["there is no base backup yet"], ["backout db backup -e production"]
    )  # fmt: skip
    assert way(choice, "dumps")[2] == ["backout db dump -e production"]


def test_a_vendor_whose_api_answers_is_the_managed_path() -> None:
    """Also when our own backups reach as exactly."""
    facts = replace(FACTS, replication=Replication(granted=False, why="FATAL: no"))
    choice = choose(replace(AROUND, facts=facts, vendor=NEON))
    assert choice.path == "managed"
    assert way(choice, "own backups")[0] == "closed"
    assert choose(replace(AROUND, own=COPIES, vendor=NEON)).path == "managed"


def test_the_exactest_way_that_is_ready_wins() -> None:
    """A vendor's snapshot is less than our own WAL."""
    snapshot = replace(BRANCH, name="snapshot", granularity=Granularity.SNAPSHOT)
    choice = choose(replace(AROUND, own=COPIES, vendor=replace(NEON, ways=(snapshot,))))
    assert (choice.path, choice.ways[0].name) == ("own", "own backups")


def test_what_is_only_documented_is_never_chosen() -> None:
    documented = replace(BRANCH, has_client=False)
    choice = choose(replace(AROUND, vendor=VendorState("rds", answers=False, ways=(documented,))))
    assert choice.path is None
    assert way(choice, BRANCH.name)[:2] == ("closed", ["no client here: use the vendor's own tools"])


@pytest.mark.parametrize(
    ("facts", "what", "line"),
    [
        (replace(FACTS, replication=REFUSED), "may not replicate", 'ALTER ROLE "app" REPLICATION;'),
        (replace(FACTS, pooler=Pooler("Neon's pooler")), "stands in between", "database.admin_url_env"),
        (replace(FACTS, settings={"wal_level": "minimal"}), "wal_level is minimal", "ALTER SYSTEM SET wal_level"),
        (replace(FACTS, settings={"max_wal_senders": "0"}), "max_wal_senders is 0", "ALTER SYSTEM SET max_wal_senders"),
        (replace(FACTS, server_version=170004), "runs on its own version alone", "postgresql/17/bin"),
    ],
    ids=["replication", "pooler", "wal_level", "senders", "version"],
)  # fmt: skip
def test_each_thing_that_the_own_path_lacks_has_its_line(facts: ServerFacts, what: str, line: str) -> None:
    _, lacks, lines = way(choose(replace(AROUND, facts=facts)), "own backups")
    assert what in lacks[0]
    assert line in lines[0]


def test_what_is_backed_up_can_be_restored_while_the_database_is_gone() -> None:
    choice = choose(replace(AROUND, facts=None, problem="database: no answer", own=COPIES))
    assert choice.path == "own"
    assert "cannot be asked: database: no answer" in way(choice, "own backups")[1][0]


def test_an_older_pg_dump_does_not_read_a_newer_server() -> None:
    newer = replace(AROUND, facts=replace(FACTS, server_version=190000), dumps=COPIES)
    assert way(choose(newer), "dumps")[:2] == ("possible", ["pg_dump 18.6 does not read a newer server (19)"])
    older = replace(AROUND, facts=replace(FACTS, server_version=150008), dumps=COPIES)
    assert way(choose(older), "dumps")[0] == "ready"


def test_without_programs_there_is_neither_backup_nor_dump() -> None:
    choice = choose(replace(AROUND, tools=Tools(""), own=COPIES, dumps=COPIES))
    assert choice.path is None
    assert way(choice, "dumps")[2] == ["pip install '.[database]' in a checkout of backout"]


def test_an_existing_repository_of_pgbackrest_is_a_way() -> None:
    assert choose(replace(AROUND, pgbackrest=COPIES)).ways[0].name == "pgBackRest"
    assert way(choose(replace(AROUND, pgbackrest=Window(problem="stanza gone"))), "pgBackRest")[1] == ["stanza gone"]


@pytest.mark.parametrize(
    ("around", "said"),
    [
        (replace(AROUND, facts=replace(FACTS, tls="")), "no TLS"),
        (replace(AROUND, facts=replace(FACTS, tls_verified=False)), "not verified"),
        (replace(AROUND, facts=replace(FACTS, pooler=Pooler("a pooler", transactions=True))), "each transaction"),
        (replace(AROUND, facts=replace(FACTS, in_recovery=True)), "standby"),
        (replace(AROUND, facts=replace(FACTS, settings={"track_commit_timestamp": "off"})), "track_commit_timestamp"),
        (replace(AROUND, facts=replace(FACTS, settings={"summarize_wal": "off"})), "only full backups"),
        (replace(AROUND, facts=replace(FACTS, settings={"full_page_writes": "off"})), "full_page_writes"),
        (replace(AROUND, facts=replace(FACTS, archiver=Archiver(5, 3, "a", 10.0, "b", 20.0))), "archiving fails: b"),
        (replace(AROUND, facts=replace(FACTS, slots=(Slot("s", "physical", True, 0, "lost"),))), "a hole"),
        (replace(AROUND, facts=replace(FACTS, slots=(Slot("s", "physical", True, 3 * 1024**3),))), "3.0 GB"),
        (
            replace(AROUND, facts=replace(FACTS, settings={"max_slot_wal_keep_size": "-1"}, slots=(FORGOTTEN,))),
            "fills the disk",
        ),
        (replace(AROUND, connections=ConnectionUse(0.0, 95, 100)), "95 of 100 connections"),
    ],
)  # fmt: skip
def test_what_endangers_a_recovery_is_said(around: Surroundings, said: str) -> None:
    (warning,) = choose(around).warnings
    assert said in warning


def test_a_healthy_server_gives_no_warning() -> None:
    archiver = Archiver(5, 3, "a", 20.0, "b", 10.0)
    assert choose(replace(AROUND, facts=replace(FACTS, archiver=archiver))).warnings == ()
    assert choose(replace(AROUND, is_here=True, facts=replace(FACTS, tls=""))).warnings == ()


def test_the_window_of_base_backups() -> None:
    one = BaseBackup("a", BackupKind.FULL, None, 1.0, 2.0, 3, 4, 1, "x", 180006, 5, 6)
    assert find_window((one, replace(one, id="b", ended_at=9.0))) == Window(2, 2.0, 9.0)
    assert find_window(()) == Window()


def test_the_matrix_as_text_and_as_values() -> None:
    """What was refused is shown as not readable; times are RFC 3339."""
    facts = replace(FACTS, unreadable=(("archiver", "permission denied"),), slots=(Slot("s", "physical", True, None),))
    around = replace(AROUND, facts=facts, own=COPIES, vendor=VendorState("neon", answers=False, problem="401"))
    choice = choose(around)
    shown = format_text(around, choice)
    assert "not readable: permission denied" in shown
    assert "from 1970-01-01T00:16:40.000Z to 1970-01-01T00:33:20.000Z" in shown
    assert max(map(len, shown.splitlines())) <= 80
    values = make_record(around, choice)
    assert values["path"] == "own"
    assert values["vendor"] == {"name": "neon", "answers": False, "problem": "401", "notes": []}
    unreachable = replace(around, facts=None, problem="no answer")
    assert make_record(unreachable, choose(unreachable))["reachable"] is False
    assert "no: no answer" in format_text(unreachable, choose(unreachable))
