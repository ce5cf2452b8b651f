"""Port Deployments: the same promises on the World, on Cloudflare's adapter with the twin, on Caddy and HAProxy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backout.errors import ProviderRejected, Refused, SecretsChanged

if TYPE_CHECKING:
    from platform_sides import Home, Keeper, Side

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def test_the_history_is_newest_first_and_its_first_is_live(home: Home) -> None:
    """Two uploads are two deployments."""
    first, second = home.upload("one", message="first"), home.upload("two", message="second")
    history = home.deployments.history()
    assert [d.main for d in history] == [second, first]
    assert [d.message for d in history] == ["second", "first"]
    assert history[0].sole == second
    assert history[0].created_at > history[1].created_at > 1_700_000_000
    assert history[0].id != history[1].id
    assert history[0].triggered_by == home.uploaded_as


def test_an_upload_that_is_not_deployed_is_no_deployment(home: Home) -> None:
    """It changes nothing of what is live."""
    first = home.upload("one")
    home.upload("two", deploy=False)
    assert [d.main for d in home.deployments.history()] == [first]


def test_activate_makes_one_new_deployment_of_an_old_version(home: Home) -> None:
    """The answer is what the history then shows first, with our message in front."""
    first, _ = home.upload("one"), home.upload("two")
    made = home.deployments.activate(first, message="[backout r-1] 5 % of answers failed: ä€😀")
    history = home.deployments.history()
    assert history[0] == made
    assert made.sole == first
    assert made.message == "[backout r-1] 5 % of answers failed: ä€😀"
    assert made.triggered_by == "deployment"
    assert len(history) == 3


def test_activate_may_reset_what_would_go_on_with_the_code_of_before(home: Home) -> None:
    """It is a deployment as any other."""
    first, _ = home.upload("one"), home.upload("two")
    assert home.deployments.activate(first, message="now", immediate=True) == home.deployments.history()[0]


def test_activate_is_not_idempotent(home: Home) -> None:
    """Each call is a deployment of its own."""
    first = home.upload("one")
    one, two = (home.deployments.activate(first, message=f"[backout r-{n}]") for n in (1, 2))
    assert one.id != two.id
    assert len(home.deployments.history()) == 3


def test_a_split_shows_the_largest_share_first_and_activate_ends_it(home: Home) -> None:
    """It has no sole version; a version at 0 % is listed and serves nothing."""
    first, second = home.upload("one"), home.upload("two")
    home.split((second, 10), (first, 90))
    live = home.deployments.history()[0]
    assert [(s.version, s.percentage) for s in live.shares] == [(first, 90), (second, 10)]
    assert (live.sole, live.main) == (None, first)
    home.split((first, 0), (second, 100))
    assert not home.deployments.history()[0].serves(first)
    assert home.deployments.activate(first, message="x").sole == first


def test_at_most_ten_deployments_are_listed(side: Side) -> None:
    """Older ones are forgotten by the list; the newest ten stay in order."""
    version = side.upload("one")
    for number in range(11):
        side.deployments.activate(version, message=f"n{number}")
    assert [d.message for d in side.deployments.history()] == [f"n{n}" for n in range(10, 0, -1)]


def test_a_long_message_is_cut_behind_its_marker(home: Home) -> None:
    """At 1000 bytes, never inside a character."""
    version = home.upload("one")
    made = home.deployments.activate(version, message="[backout r-1] " + "ä" * 900)
    assert made.message.startswith("[backout r-1] ä")
    assert 990 <= len(made.message.encode()) <= 1000


def test_an_unknown_version_is_rejected(home: Home) -> None:
    """With status 404, and nothing changes."""
    home.upload("one")
    with pytest.raises(ProviderRejected) as caught:
        home.deployments.activate(UNKNOWN, message="x")
    assert caught.value.status == 404
    assert len(home.deployments.history()) == 1


def test_an_unknown_application_is_rejected(home: Home) -> None:
    """Reading and changing alike."""
    version = home.upload("one")
    home.disappear()
    for call in (home.deployments.history, lambda: home.deployments.activate(version, message="x")):
        with pytest.raises(ProviderRejected) as caught:
            call()
        assert caught.value.status == 404


def test_a_changed_secret_is_a_decision(side: Side) -> None:
    """Going back over it needs force; the error names the secret, and nothing happened before."""
    first = side.upload("one")
    side.put_secret("JWT_SECRET", "new-value")
    side.upload("two")
    before = side.deployments.history()
    with pytest.raises(SecretsChanged) as caught:
        side.deployments.activate(first, message="x")
    assert caught.value.names == ("JWT_SECRET",)
    assert caught.value.exit_code == 3
    assert "new-value" not in str(caught.value)
    assert side.deployments.history() == before
    assert side.deployments.activate(first, message="x", force=True).sole == first


def test_the_same_secrets_need_no_decision(keeper: Keeper) -> None:
    """A secret that was the same for both versions does not stand in the way."""
    keeper.upload("zero")
    keeper.put_secret("JWT_SECRET", "value")
    first, _ = keeper.upload("one"), keeper.upload("two")
    assert keeper.deployments.activate(first, message="x").sole == first


def test_a_bucket_that_is_gone_refuses_its_version(side: Side) -> None:
    """Force does not help: the version cannot run."""
    first = side.bind_bucket("one", "fm5-models")
    side.upload("two")
    side.delete_bucket("fm5-models")
    for force in (False, True):
        with pytest.raises(Refused, match="bucket") as caught:
            side.deployments.activate(first, message="x", force=force)
        assert not isinstance(caught.value, SecretsChanged)
        assert caught.value.options
    assert len(side.deployments.history()) == 2


def test_a_version_out_of_the_window_is_refused(side: Side) -> None:
    """Only the hundred newest versions can be deployed; the hundredth still can."""
    first, second = side.upload("one"), side.upload("two", deploy=False)
    for number in range(99):
        side.upload(f"more {number}", deploy=False)
    with pytest.raises(Refused, match="100"):
        side.deployments.activate(first, message="x")
    assert side.deployments.activate(second, message="x").sole == second
