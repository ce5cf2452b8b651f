"""Port SecretWriter, and uploads with secrets: the World and the Cloudflare adapter keep the same promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from canaries import CANARIES, leaks_in

from backout.errors import BackoutError, NewestNotLive, ProviderRejected, Refused
from backout.model.secrets import SecretValues
from backout.providers.cloudflare.bundles import CloudflareBundles
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.secrets import CloudflareSecretWriter
from backout.providers.retry import Retry

from scripted_server import answer, scripted_server

if TYPE_CHECKING:
    from platform_sides import Side

VALUES = SecretValues(CANARIES)


def test_all_of_them_are_set_at_once_on_what_is_live(side: Side) -> None:
    """One new version of the same code, live at 100 %; each value is the one given; others stay."""
    first = side.upload("good")
    side.put_secret("KEPT", "as it was")
    before = side.deployments.history()
    side.secret_writer.put(VALUES)
    live = side.deployments.history()[0]
    assert live.sole not in (None, before[0].sole)
    assert len(side.deployments.history()) == len(before) + 1
    detail = side.versions.detail(live.main)
    assert detail.code_hash == side.versions.detail(first).code_hash
    assert detail.secret_names == tuple(sorted([*CANARIES, "KEPT"]))
    assert detail.triggered_by == "secret"
    assert {name: side.secret_of(name) for name in CANARIES} == CANARIES
    assert side.secret_of("KEPT") == "as it was"
    assert side.secrets.names() == detail.secret_names


def test_setting_them_again_only_makes_a_further_version(side: Side) -> None:
    """So a run that crashed may do it again."""
    side.upload("good")
    side.secret_writer.put(VALUES)
    side.secret_writer.put(VALUES)
    assert {name: side.secret_of(name) for name in CANARIES} == CANARIES


@pytest.mark.parametrize("how", ["rolled back", "uploaded", "split"])
def test_nothing_is_set_while_the_newest_version_is_not_the_live_one(side: Side, how: str) -> None:
    """It would make other code live: refused as such, and nothing is changed."""
    old = side.upload("old")
    new = side.upload("new", deploy=how != "uploaded")
    if how == "rolled back":
        side.split((old, 100.0))
    elif how == "split":
        side.split((old, 90.0), (new, 10.0))
    before = side.deployments.history()
    with pytest.raises(NewestNotLive) as caught:
        side.secret_writer.put(VALUES)
    assert side.deployments.history() == before
    assert leaks_in(str(caught.value), "the error") == []
    assert caught.value.code in (10214, 10215)


def test_a_target_at_0_percent_is_no_split(side: Side) -> None:
    """A proof leaves one behind."""
    old = side.upload("old")
    new = side.upload("new")
    side.split((new, 100.0), (old, 0.0))
    side.secret_writer.put(VALUES)
    assert side.secret_of("NEW_KEY") == CANARIES["NEW_KEY"]


def test_a_name_that_something_else_has_is_refused(side: Side) -> None:
    """Nothing is changed, and no value is quoted."""
    side.bind_text("good", "EMAIL_API_KEY")
    before = side.deployments.history()
    with pytest.raises(Refused, match="EMAIL_API_KEY") as caught:
        side.secret_writer.put(VALUES)
    assert side.deployments.history() == before
    assert leaks_in(str(caught.value), "the error") == []


def test_an_application_that_does_not_exist(side: Side) -> None:
    """The provider says so."""
    side.upload("good")
    side.disappear()
    with pytest.raises(ProviderRejected) as caught:
        side.secret_writer.put(VALUES)
    assert caught.value.status == 404


def test_code_uploaded_again_with_secrets(side: Side) -> None:
    """They are set in it, whether the code knew them or not; the others are inherited; nothing is live."""
    side.upload("zero")
    side.put_secret("JWT_SECRET", "old")
    side.put_secret("KEPT", "as it was")
    good = side.deployments.history()[0].main
    bad = side.upload("bad")
    side.split((good, 100.0))
    made = side.bundles.upload(side.bundles.fetch(good), message="again", secrets=VALUES)
    assert side.deployments.history()[0].sole == good
    assert made.id not in (good, bad)
    side.deployments.activate(made.id, message="go")
    assert {name: side.secret_of(name) for name in CANARIES} == CANARIES
    assert side.secret_of("KEPT") == "as it was"
    assert side.versions.detail(made.id).code_hash == side.versions.detail(good).code_hash


def test_a_value_is_never_shown_by_what_holds_it() -> None:
    """Not by print, format, an f-string, or pickle."""
    import pickle  # noqa: PLC0415 - to be refused

    assert leaks_in(f"{VALUES} {VALUES!r} {[VALUES]}", "text") == []
    with pytest.raises(TypeError):
        pickle.dumps(VALUES)


@pytest.mark.parametrize("status", [400, 403, 409, 429, 500, 503])
@pytest.mark.parametrize("call", ["bulk", "upload"])
def test_an_api_that_echoes_the_values_is_never_quoted(status: int, call: str) -> None:
    """Whatever it answers: the error has its status and its code, and none of its words."""
    said = {"code": 10021, "message": " ".join([*CANARIES.values(), *map(str.upper, CANARIES.values())])}
    body = {"success": False, "errors": [said], "messages": [said["message"]], "result": None}
    with scripted_server() as server:
        client = ApiClient(f"{server.url}/client/v4", lambda: "token", retry=Retry(attempts=1))
        server.will(answer(body, status))
        writer, bundles = CloudflareSecretWriter(client, "account", "fm5"), CloudflareBundles(client, "account", "fm5")
        with pytest.raises(BackoutError) as caught:
            writer.put(VALUES) if call == "bulk" else _upload(bundles, server)
    error: BaseException | None = caught.value
    while error is not None:
        assert leaks_in(f"{error} {error!r} {vars(error)}", "the chain of errors") == []
        error = error.__cause__ or error.__context__


def _upload(bundles: CloudflareBundles, server: object) -> None:
    from backout.model.bundle import Bundle, BundleModule  # noqa: PLC0415 - only here
    from backout.model.version import Version, VersionId  # noqa: PLC0415 - same

    from scripted_server import ScriptedServer  # noqa: PLC0415 - same

    assert isinstance(server, ScriptedServer)
    failing = server.last
    assert failing is not None
    version = {"id": "v1", "number": 1, "resources": {"bindings": []}}
    live = {"deployments": [{"id": "d", "created_on": "2026-11-25T00:00:00Z", "versions": [{"version_id": "v1"}]}]}
    live["deployments"][0]["versions"][0]["percentage"] = 100  # type: ignore[index]
    ok = [answer({"success": True, "errors": [], "result": result}) for result in (live, version)]
    server.will(*ok, failing)
    bundle = Bundle(Version(VersionId("v1"), 1, 0.0), b'{"main_module": "a.js"}', (BundleModule("a.js", "x/y", b"x"),))
    bundles.upload(bundle, message="again", secrets=VALUES)


@pytest.mark.parametrize("code", [10214, 10215])
def test_both_codes_mean_that_the_newest_version_is_not_live(code: int) -> None:
    """The API has answered either."""
    with scripted_server() as server:
        said = {"success": False, "errors": [{"code": code, "message": "not deployed"}], "result": None}
        server.will(answer(said, 400))
        with pytest.raises(NewestNotLive):
            CloudflareSecretWriter(ApiClient(f"{server.url}/client/v4", lambda: "token"), "account", "fm5").put(VALUES)
        (asked,) = server.asked
    assert (asked.method, asked.target) == ("PATCH", "/client/v4/accounts/account/workers/scripts/fm5/secrets-bulk")
    assert asked.headers["content-type"] == "application/merge-patch+json"
