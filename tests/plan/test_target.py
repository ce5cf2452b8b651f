"""What a person may type as TARGET."""

from __future__ import annotations

import pytest

from backout.errors import UsageError
from backout.model.version import Version, VersionId
from backout.plan.target import resolve

from situations import deployment, situation

V1 = Version(VersionId("11112222-aaaa"), 1, 1000.0, tag="v1.0", git_sha="deadbeefcafe0000")
V2 = Version(VersionId("11113333-bbbb"), 2, 4000.0, tag="v1.1", git_sha="deadfacecafe0000")
SIGHT = situation(
    (V1, V2), (deployment("d0000001", 1000, (V1.id, 100)), deployment("d0000002", 4000, (V2.id, 100))), now=10_000.0
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (V1.id, V1.id),
        ("11112222", V1.id),
        ("d0000001", V1.id),
        ("d0000002", V2.id),
        ("1", V1.id),
        ("v2", V2.id),
        ("v1.0", V1.id),
        ("deadbeef", V1.id),
        ("deadfacecafe0000", V2.id),
        ("2 hours ago", V1.id),
        ("10m ago", V2.id),
        ("1970-01-01T00:30:00Z", V1.id),
        ("01:30", V2.id),
    ],
)
def test_every_way_to_name_a_version_is_understood(text: str, expected: str) -> None:
    """Version ids, deployment ids, numbers, tags, git shas (prefixes too) and times all lead to the version."""
    assert resolve(text, SIGHT) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1111", "ambiguous"),
        ("dead", "ambiguous"),
        ("nonsense", "no version"),
        ("99", "no version"),
        ("111", "no version"),
        ("23:59", "future"),
        ("1970-01-01T00:00:01Z", "history begins at"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_next_command(text: str, says: str) -> None:
    """Ambiguous, unknown and impossible targets are usage errors that say what to type."""
    with pytest.raises(UsageError, match=says) as caught:
        resolve(text, SIGHT)
    assert caught.value.hint
