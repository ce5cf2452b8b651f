"""What doctor says of the application's bucket."""

from __future__ import annotations

import pytest

from backout.analysis.checkup.objects import check_objects, name_missing_key
from backout.model.checkup import CheckState
from backout.model.objects.checks import BucketFacts


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
    found = check_objects(facts, "production", snapshot_age_s=age_s, takes_snapshots=takes, every_s=3600.0)
    assert (found.name, found.state) == ("objects", state)
    assert words in found.why


def test_without_an_access_key_the_setting_is_named() -> None:
    found = name_missing_key("production")
    assert found.state is CheckState.NOT_SET_UP
    assert "credentials_env" in str(found.next)
