"""What doctor says of the application's bucket."""

from __future__ import annotations

import pytest
from values import replace

from backout.analysis.checkup.objects import check_access, check_bucket_clock, check_objects, name_missing_key
from backout.model.checkup import CheckState
from backout.model.objects.checks import BucketFacts, PermissionLook


@pytest.mark.parametrize(
    ("facts", "age_s", "takes", "state", "words"),
    [
        (BucketFacts("enabled"), None, False, CheckState.OK, "keeps versions"),
        (BucketFacts("enabled", 30 * 86400.0), None, False, CheckState.OK, "for 30 d"),
        (BucketFacts("suspended"), None, False, CheckState.MISSING, "suspended"),
        (BucketFacts("off"), None, False, CheckState.MISSING, "is lost"),
        (BucketFacts("unknown"), None, False, CheckState.UNMEASURED, "may not ask"),
        (BucketFacts("off"), None, True, CheckState.MISSING, "no snapshot"),
        (BucketFacts("off"), 7199.0, True, CheckState.OK, "newest snapshot"),
        (BucketFacts("off"), 7201.0, True, CheckState.MISSING, "newest snapshot"),
    ],
)
def test_each_state_of_a_bucket(
    facts: BucketFacts, age_s: float | None, takes: bool, state: CheckState, words: str
) -> None:
    found = check_objects(
        facts, "production", snapshot_age_s=age_s, snapshot_objects=4, takes_snapshots=takes, every_s=3600.0
    )
    assert (found.name, found.state) == ("objects", state)
    assert words in found.why


def test_without_an_access_key_the_setting_is_named() -> None:
    found = name_missing_key("production")
    assert found.state is CheckState.NOT_SET_UP
    assert "credentials_env" in str(found.next)


ALL = PermissionLook(True, True, True, True, kept_at=0.0)


@pytest.mark.parametrize(
    ("facts", "tried", "state", "words"),
    [
        (BucketFacts("unknown"), ALL, CheckState.OK, "was still there"),
        (BucketFacts("suspended"), ALL, CheckState.MISSING, "suspended"),
        (BucketFacts("off"), replace(ALL, kept_at=None), CheckState.MISSING, "the bucket's versions are off"),
        (BucketFacts("enabled"), replace(ALL, kept_at=None), CheckState.MISSING, "no version is listed"),
        (BucketFacts("enabled"), PermissionLook(list=True), CheckState.MISSING, "could not be tried"),
    ],
)
def test_what_was_tried_counts_more_than_the_setting(
    facts: BucketFacts, tried: PermissionLook, state: CheckState, words: str
) -> None:
    """`objects check` writes and deletes an object of its own; doctor only asks."""
    found = check_objects(
        facts,
        "production",
        snapshot_age_s=None,
        snapshot_objects=0,
        takes_snapshots=False,
        every_s=3600.0,
        must_be_kept=True,
        tried=tried,
    )
    assert (found.level, found.state) == ("must", state)
    assert words in found.why


def test_each_permission_has_a_check_of_its_own() -> None:
    """A refusal with the store's words, what was not tried after it, and what the check itself left there."""
    tried = PermissionLook(
        list=True, read=None, write=False, delete=None, why=(("write", "403 AccessDenied"),), left="k"
    )
    found = {check.name: check for check in check_access(tried, "production")}
    assert {name: check.state.value for name, check in found.items()} == {
        "objects_list": "ok",
        "objects_read": "unmeasured",
        "objects_write": "missing",
        "objects_delete": "unmeasured",
        "objects_left": "missing",
    }
    assert "403 AccessDenied" in found["objects_write"].why
    assert found["objects_left"].level == "should"


def test_the_permissions_for_versions_have_theirs_where_the_bucket_keeps_them() -> None:
    tried = replace(ALL, read_version=True, delete_version=False, why=(("delete_version", "403 AccessDenied"),))
    found = {check.name: check for check in check_access(tried, "production")}
    states = [found[f"objects_{name}_version"].state.value for name in ("read", "copy", "delete")]
    assert states == ["ok", "unmeasured", "missing"]
    assert "may not delete versions: 403 AccessDenied" in found["objects_delete_version"].why


@pytest.mark.parametrize(("ahead_s", "state"), [(None, "unmeasured"), (2.0, "ok"), (3.0, "missing"), (-9.0, "missing")])
def test_the_store_s_clock_is_compared(ahead_s: float | None, state: str) -> None:
    """A moment is typed by one clock and kept by the other."""
    assert check_bucket_clock(BucketFacts("enabled", None, ahead_s)).state == state


def test_a_clock_that_only_late_answers_tell_is_not_known() -> None:
    found = check_bucket_clock(BucketFacts("enabled", None, 0.0, 65.0))
    assert (found.state, "up to 65 s" in found.why) == (CheckState.UNMEASURED, True)
