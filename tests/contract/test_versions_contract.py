"""Ports Versions and Secrets: the same promises on the World, on the twin, on Caddy and HAProxy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backout.errors import ProviderRejected

if TYPE_CHECKING:
    from platform_sides import Home, Keeper, Side

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def test_versions_are_newest_first_deployed_or_not(home: Home) -> None:
    """With rising numbers and what the uploader wrote."""
    first = home.upload("one", message="first", tag="v1")
    second = home.upload("two", message="second", tag="v2", deploy=False)
    recent = home.versions.recent()
    assert [v.id for v in recent] == [second, first]
    assert [v.number for v in recent] == [2, 1]
    assert [(v.message, v.tag) for v in recent] == [("second", "v2"), ("first", "v1")]
    assert recent[0].created_at >= recent[1].created_at > 1_700_000_000


def test_the_code_hash_is_of_the_code_alone(keeper: Keeper) -> None:
    """A change of a secret makes a new version with the same hash; other code has another one."""
    first = keeper.upload("one")
    keeper.put_secret("JWT_SECRET", "value")
    other = keeper.upload("two")
    by_secret = keeper.versions.recent()[1].id
    hashes = [keeper.versions.detail(v).code_hash for v in (first, by_secret, other)]
    assert hashes[0] is not None
    assert hashes[0] == hashes[1] != hashes[2]
    assert keeper.versions.detail(by_secret).triggered_by == "secret"


def test_detail_knows_secrets_and_bindings_by_name(keeper: Keeper) -> None:
    """Sorted, and never with a value."""
    keeper.upload("one")
    keeper.put_secret("Z_SECRET", "value-of-z")
    keeper.put_secret("A_SECRET", "value-of-a")
    detail = keeper.versions.detail(keeper.versions.recent()[0].id)
    assert detail.secret_names == ("A_SECRET", "Z_SECRET")
    assert detail.bindings == ("secret_text:A_SECRET", "secret_text:Z_SECRET")
    assert "value-of" not in repr(detail)


def test_detail_agrees_with_the_list(home: Home) -> None:
    """What both tell is the same."""
    home.upload("one", message="first", tag="v1")
    listed = home.versions.recent()[0]
    detail = home.versions.detail(listed.id)
    for name in ("id", "number", "created_at", "message", "tag", "triggered_by", "author"):
        assert getattr(detail, name) == getattr(listed, name)


def test_only_the_window_is_listed(side: Side) -> None:
    """The hundred newest."""
    for number in range(103):
        side.upload(f"code {number}", deploy=number == 0)
    recent = side.versions.recent()
    assert [v.number for v in recent] == list(range(103, 3, -1))


def test_an_unknown_version_is_rejected(home: Home) -> None:
    """With status 404."""
    home.upload("one")
    with pytest.raises(ProviderRejected) as caught:
        home.versions.detail(UNKNOWN)
    assert caught.value.status == 404


def test_an_unknown_application_is_rejected(side: Side) -> None:
    """Everywhere."""
    version = side.upload("one")
    side.disappear()
    for call in (side.versions.recent, lambda: side.versions.detail(version), side.secrets.names):
        with pytest.raises(ProviderRejected) as caught:
            call()
        assert caught.value.status == 404


def test_secrets_are_names_sorted(keeper: Keeper) -> None:
    """None at first; those of the newest version later."""
    keeper.upload("one")
    assert keeper.secrets.names() == ()
    keeper.put_secret("JWT_SECRET", "value")
    keeper.put_secret("API_KEY", "value")
    keeper.upload("two")
    assert keeper.secrets.names() == ("API_KEY", "JWT_SECRET")
