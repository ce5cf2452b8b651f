"""Recovery points: each part has a place, an error bar, or a reason why it is missing; and what a return would lose."""

from __future__ import annotations

from math import inf

import pytest
from values import replace

from backout.analysis.recovery.points import ObjectsPast, PointFacts, list_points, resolve
from backout.model.database.recovery import RestorePoint
from backout.model.deployment import Deployment, DeploymentId, Share
from backout.model.recovery_point import NotedPoint, PointPart
from backout.model.secrets import PushedSecret
from backout.model.triggers import Triggers
from backout.model.version import MAINTENANCE_TAG, Version, VersionId

NOW = 10_000.0
OLD, NEW = VersionId("aaaa1111"), VersionId("bbbb2222")
VERSIONS: dict[str, Version] = {
    OLD: Version(OLD, 1, 0.0, code_hash="one", secret_names=("API_KEY", "JWT"), bindings=("secret_text:JWT",)),
    NEW: Version(NEW, 2, 5_000.0, code_hash="two", secret_names=("JWT",), bindings=("secret_text:JWT",)),
}
POINT = RestorePoint("before-x", 0x3000060, 1, 900, 4_000.5, "before deployment", NEW, "0042_orders")
NOTED = NotedPoint(name="before-x", at=4_000.5, why="before deployment", version=OLD, took_s=0.2)
FACTS = PointFacts(
    now=NOW,
    live=NEW,
    versions=VERSIONS,
    snapshots={OLD: Triggers(schedules=("0 3 * * *",)), NEW: Triggers(schedules=())},
    pushes=(PushedSecret("JWT", "k-1", OLD, 100.0, "r1"), PushedSecret("JWT", "k-2", NEW, 6_000.0, "r2")),
    has_database=True,
    wal_end=0x3000060 + 2_500_000,
    objects=ObjectsPast(since=-inf),
)


def test_a_whole_point_names_where_each_part_was_and_how_exactly() -> None:
    """The secrets by the fingerprint of then; a value that backout did not set has none, so that part is not exact."""
    (point,) = list_points([NOTED], [POINT], FACTS)
    assert point.is_complete
    values = {part: (each.value, each.error_s) for part, each in point.parts.items()}
    assert values[PointPart.CODE] == (OLD, 0.2)
    assert values[PointPart.MIGRATIONS] == ("0042_orders", 0.0)
    assert values[PointPart.DATABASE] == ("0/3000060", 0.0)
    assert values[PointPart.OBJECTS] == ("1970-01-01T01:06:40.500Z", 1.2)
    assert values[PointPart.SECRETS][1] is None
    assert dict(point.parts[PointPart.SECRETS].detail) == {"API_KEY": "", "JWT": "k-1"}
    assert dict(point.parts[PointPart.CONFIGURATION].detail) == {"schedules": "0 3 * * *"}


def test_what_a_return_would_lose() -> None:
    """By part; the WAL bounds what was written."""
    (point,) = list_points([NOTED], [POINT], FACTS)
    assert point.losses == {
        PointPart.CODE: "version bbbb2222 is left",
        PointPart.DATABASE: "what was written to rows of the 100 min since, in 2.5 MB of WAL at most",
        PointPart.OBJECTS: "what was written to objects of the 100 min since",
        PointPart.SECRETS: "set since: JWT",
        PointPart.CONFIGURATION: "what is bound, or starts the application, is another now",
    }


@pytest.mark.parametrize(
    ("noted", "facts", "part", "why"),
    [
        (replace(NOTED, version="cccc3333"), FACTS, PointPart.CODE, "does not deploy that version any more"),
        (replace(NOTED, version=""), FACTS, PointPart.CODE, "was not noted"),
        (NOTED, replace(FACTS, reach=lambda _: "a hole"), PointPart.DATABASE, "a hole"),
        (NOTED, replace(FACTS, objects=ObjectsPast()), PointPart.OBJECTS, "keeps no versions"),
        (NOTED, replace(FACTS, objects=ObjectsPast(since=5_000.0)), PointPart.OBJECTS, "has forgotten"),
        (NOTED, replace(FACTS, objects=ObjectsPast(snapshots=(5_000.0,))), PointPart.OBJECTS, "no snapshot"),
        (NOTED, replace(FACTS, objects=ObjectsPast(problem="down")), PointPart.OBJECTS, "down"),
    ],
)
def test_a_part_that_cannot_be_brought_back_is_missing(
    noted: NotedPoint, facts: PointFacts, part: PointPart, why: str
) -> None:
    """One reason is enough for the point to be incomplete."""
    (point,) = list_points([noted], [POINT], facts)
    assert not point.is_complete
    assert why in point.parts[part].missing


def test_a_database_that_could_not_be_marked() -> None:
    """The note says why."""
    (point,) = list_points([replace(NOTED, problem="the database is down")], [], FACTS)
    assert point.parts[PointPart.DATABASE].missing == "the database is down"


def test_a_maintenance_version_is_no_target() -> None:
    """Whatever was noted while it was live."""
    shown = replace(VERSIONS[OLD], tag=MAINTENANCE_TAG)
    (point,) = list_points([NOTED], [POINT], replace(FACTS, versions={**VERSIONS, OLD: shown}))
    assert "maintenance" in point.parts[PointPart.CODE].missing


def test_snapshots_make_the_objects_as_inexact_as_they_are_old() -> None:
    """The newest one before the moment is meant, and the loss says how much more that is."""
    facts = replace(FACTS, objects=ObjectsPast(snapshots=(1_000.0, 3_400.5, 9_000.0)))
    (point,) = list_points([NOTED], [POINT], facts)
    objects = point.parts[PointPart.OBJECTS]
    assert (objects.value, objects.error_s) == ("1970-01-01T00:56:40.500Z", 601.0)
    assert point.losses[PointPart.OBJECTS].endswith("since, and of up to 10 min before")


def test_an_older_restore_point_has_no_note() -> None:
    """It is listed; which code was live is known only where it was recorded after a deployment."""
    after = replace(POINT, name="after-y", why="after deployment", at=5_100.0)
    found = {point.name: point for point in list_points([], [POINT, after], FACTS)}
    assert found["after-y"].version == NEW
    assert found["before-x"].parts[PointPart.CODE].missing
    assert [point.at for point in list_points([NOTED], [after, POINT], FACTS)] == [5_100.0, 4_000.5]


def test_an_application_without_database_or_bucket_has_fewer_parts() -> None:
    """They are not missing."""
    (point,) = list_points([NOTED], [], replace(FACTS, has_database=False, objects=None))
    assert set(point.parts) == {PointPart.CODE, PointPart.SECRETS, PointPart.CONFIGURATION}
    assert point.is_complete


HISTORY = (
    Deployment(DeploymentId("d2"), 5_000.0, (Share(NEW, 100.0),)),
    Deployment(DeploymentId("d1"), 1_000.0, (Share(OLD, 100.0),)),
)


def test_a_name_a_version_and_a_time_mean_a_moment() -> None:
    """Of a version the last moment at which it was live; a time is where the history, or an earlier point, says."""
    later = replace(NOTED, name="later", at=4_500.0)
    points = list_points([NOTED, later], [POINT, replace(POINT, name="later", at=4_500.0)], FACTS)
    found = {text: resolve(text, points, HISTORY, None, FACTS) for text in ("before-x", "aaaa", "nothing", "aa")}
    assert [each.name if each else None for each in found.values()] == ["before-x", "later", None, None]
    at = resolve("3000", points, HISTORY, 3_000.0, FACTS)
    assert at is not None
    assert (at.version, at.at, at.name) == (OLD, 3_000.0, "")
    assert at.parts[PointPart.DATABASE].value == "1970-01-01T00:50:00.000Z"
    assert at.parts[PointPart.DATABASE].error_s is None
    beyond = resolve("4600", points, HISTORY[:1], 4_600.0, FACTS)
    assert beyond is not None
    assert beyond.version == OLD
