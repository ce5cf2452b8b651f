"""History against files: every way in which a migration can stand, for tools that keep all and for heads."""

from __future__ import annotations

import pytest

from backout.analysis.recovery.migrations import assess, compare, list_applied_names, put_in_line
from backout.model.database.compatibility import MigrationFile
from backout.model.database.migrations import KnownMigration, MigrationState
from backout.model.database.schema import AppliedMigration, SchemaState

FILES = put_in_line(MigrationFile(name, "", f"sum-{name}") for name in ("1_init", "2_note", "3_more"))
REVISIONS = (
    KnownMigration("aaa"),
    KnownMigration("bbb", ("aaa",), title="add note"),
    KnownMigration("ccc", ("bbb",)),
)


def done(name: str, at: float = 10.0, checksum: str = "") -> AppliedMigration:
    return AppliedMigration(name, at, at + 1, checksum=checksum or f"sum-{name}")


def failed(name: str, logs: str = "", rolled_back_at: float | None = None) -> AppliedMigration:
    return AppliedMigration(name, 20.0, None, rolled_back_at, checksum=f"sum-{name}", logs=logs)


def state(*rows: AppliedMigration, heads: tuple[str, ...] = ()) -> SchemaState:
    return SchemaState(100.0, rows, heads)


def stands(history: SchemaState, known: tuple[KnownMigration, ...] = FILES) -> dict[str, str]:
    return {m.name: m.state.value + ("!" if m.finding else "") for m in assess(history, known).migrations}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ((), ("pending", "pending", "pending")),
        ((done("1_init"), done("2_note"), done("3_more")), ("applied", "applied", "applied")),
        ((done("1_init"),), ("applied", "pending", "pending")),
        ((done("1_init"), failed("2_note", "ERROR: no")), ("applied", "failed!", "pending")),
        ((done("1_init"), failed("2_note")), ("applied", "failed!", "pending")),
        ((done("1_init"), failed("2_note", rolled_back_at=21.0)), ("applied", "rolled back!", "pending")),
        ((done("1_init"), failed("2_note", rolled_back_at=21.0), done("2_note")), ("applied", "applied", "pending")),
        ((done("1_init"), failed("2_note", rolled_back_at=21.0), failed("2_note")), ("applied", "failed!", "pending")),
        ((done("1_init", checksum="other"),), ("edited!", "pending", "pending")),
        ((done("1_init"), done("3_more")), ("applied", "out of order!", "applied")),
        ((failed("2_note", rolled_back_at=21.0), done("3_more")), ("out of order!", "rolled back!", "applied")),
    ],
    ids=[
        "nothing", "all", "one", "failed", "killed", "rolled back", "applied after all", "failed again", "edited",
        "left out", "left out by a rollback",
    ],
)  # fmt: skip
def test_how_each_migration_stands(rows: tuple[AppliedMigration, ...], expected: tuple[str, ...]) -> None:
    """The rows decide, each name by all of its rows; `!` is a finding."""
    assert tuple(stands(state(*rows)).values()) == expected


def test_a_failure_is_told_with_its_first_line_and_a_death_as_one() -> None:
    """The log stays whole beside it."""
    report = assess(state(failed("1_init", "\nERROR: no such table\nLINE 1"), failed("2_note")), FILES)
    assert report.migrations[0].why == "it failed: ERROR: no such table"
    assert report.migrations[0].logs == "\nERROR: no such table\nLINE 1"
    assert "its process died" in report.migrations[1].why
    assert not report.in_order


def test_a_migration_that_is_applied_in_part_says_how_far() -> None:
    """Engines that send statement by statement count them."""
    row = AppliedMigration("1_init", 20.0, None, logs="ERROR: no", steps=2)
    (status, *_) = assess(state(row), FILES).migrations
    assert status.why == "it failed: ERROR: no; 2 of its statements are known to be applied"


def test_pending_is_in_order() -> None:
    """A working copy ahead of the database is what every deployment begins with."""
    report = assess(state(done("1_init")), FILES)
    assert report.in_order
    assert report.list_names(MigrationState.PENDING) == ("2_note", "3_more")


def test_what_is_applied_without_a_file_is_a_finding_and_comes_last() -> None:
    """Also when it failed; what was rolled back and has no file is only history."""
    rows = (done("1_init"), done("9_theirs"), failed("8_dead", "ERROR"), failed("7_gone", "ERROR", 30.0))
    assert stands(state(*rows)) == {
        "1_init": "applied",
        "2_note": "pending",
        "3_more": "pending",
        "9_theirs": "unknown!",
        "8_dead": "failed!",
        "7_gone": "rolled back",
    }


def test_names_with_dots_are_no_applications() -> None:
    """Only Django's are: an unknown `v1.3` beside a known `v1.2` is found."""
    known = put_in_line([MigrationFile("1_v1.2", "")])
    assert stands(state(done("1_v1.2"), done("2_v1.3")), known)["2_v1.3"] == "unknown!"


# --- Alembic --------------------------------------------------------------------------------------------------------


def head(*names: str) -> SchemaState:
    return state(*(AppliedMigration(n, 50.0, 50.0, dated=False) for n in names), heads=names)


def test_a_head_stands_for_all_that_it_builds_on() -> None:
    """The others come from the files, applied by then at the latest."""
    report = assess(head("bbb"), REVISIONS)
    assert [(m.name, m.state.value) for m in report.migrations] == [
        ("aaa", "applied"),
        ("bbb", "applied"),
        ("ccc", "pending"),
    ]
    assert report.migrations[0].applied_at == 50.0
    assert not report.migrations[0].dated
    assert report.in_order
    assert list_applied_names(head("bbb"), REVISIONS) == ("aaa", "bbb")


def test_several_heads_are_a_finding() -> None:
    """In the database, and in the files."""
    forked = (*REVISIONS, KnownMigration("ddd", ("bbb",)))
    report = assess(head("ccc", "ddd"), forked)
    assert report.findings == (
        "the database stands at several heads: ccc, ddd",
        "the files end in several heads: ccc, ddd",
    )
    assert head("ccc", "ddd").head == "ccc+ddd"
    merged = (*forked, KnownMigration("eee", ("ccc", "ddd")))
    assert assess(head("eee"), merged).in_order


def test_a_head_without_a_file_leaves_the_rest_untold() -> None:
    """Nobody claims that they are pending, or that they are applied."""
    assert stands(head("zzz"), REVISIONS) == {"aaa": "untold", "bbb": "untold", "ccc": "untold", "zzz": "unknown!"}


def test_a_parent_without_a_file_is_named() -> None:
    """The chain of the files has a hole."""
    assert assess(state(), (KnownMigration("bbb", ("aaa",)),)).findings == ("bbb comes after aaa, which has no file",)


# --- Django ---------------------------------------------------------------------------------------------------------


def django(name: str, after: tuple[str, ...] = (), replaces: tuple[str, ...] = ()) -> KnownMigration:
    return KnownMigration(name, after, replaces=replaces, application=name.partition(".")[0])


def test_applications_of_the_framework_are_none_of_ours() -> None:
    """They have no files here and are no finding; one of ours without a file is."""
    known = (django("shop.0001_initial", ("auth.0001_initial",)),)
    rows = (done("auth.0001_initial"), done("shop.0001_initial"), done("shop.0002_gone"))
    assert stands(state(*rows), known) == {"shop.0001_initial": "applied", "shop.0002_gone": "unknown!"}


def test_each_application_has_its_own_end() -> None:
    """Two applications are two ends; two ends of one are a finding."""
    known = (django("a.0001_x"), django("b.0001_x"), django("b.0002_y", ("b.0001_x",)))
    assert assess(state(), known).findings == ()
    forked = (*known, django("b.0002_z", ("b.0001_x",)))
    assert assess(state(), forked).findings == ("the files end in several heads: b.0002_y, b.0002_z",)


def test_a_squashed_migration_is_applied_where_all_that_it_replaces_is() -> None:
    """And what it replaces needs no file any more."""
    known = (django("a.0001_squashed", replaces=("a.0001_x", "a.0002_y")), django("a.0003_z", ("a.0002_y",)))
    assert stands(state(done("a.0001_x"), done("a.0002_y")), known) == {
        "a.0001_squashed": "applied",
        "a.0003_z": "pending",
    }
    assert stands(state(done("a.0001_x")), known)["a.0001_squashed"] == "pending"


# --- two databases --------------------------------------------------------------------------------------------------


def test_what_production_has_and_staging_never_ran_is_a_finding() -> None:
    """The other way round it is only not yet there."""
    production, staging = state(done("1_init"), done("9_hot")), state(done("1_init"), done("2_note"))
    found = compare(("production", production), ("staging", staging), FILES)
    assert (found.never_ran, found.not_yet, found.differ) == (("9_hot",), ("2_note",), ())
    assert not found.in_order
    assert compare(("production", state(done("1_init"))), ("staging", staging), FILES).in_order


def test_one_name_from_two_files_is_a_finding() -> None:
    """Staging ran something else under that name."""
    found = compare(("production", state(done("1_init", checksum="a"))), ("staging", state(done("1_init"))), FILES)
    assert found.differ == ("1_init",)
    assert not found.in_order


def test_heads_are_compared_by_what_they_build_on() -> None:
    """Production one behind staging has nothing of its own."""
    found = compare(("production", head("bbb")), ("staging", head("ccc")), REVISIONS)
    assert (found.never_ran, found.not_yet) == ((), ("ccc",))
