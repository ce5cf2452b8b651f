"""Every trouble an API can make, on a real socket: the right error, nothing half-said, no token told, bounded time."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backout.errors import (
    AuthError,
    BackoutError,
    ConfigError,
    NoSplit,
    ProviderRejected,
    ProviderUnavailable,
    Refused,
    SecretsChanged,
)
from backout.model.deployment import Share
from backout.model.version import VersionId
from backout.providers.cloudflare.bundles import CloudflareBundles
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.deployments import CloudflareDeployments
from backout.providers.cloudflare.secrets import CloudflareSecrets
from backout.providers.cloudflare.versions import CloudflareVersions
from backout.providers.exchange import Limits
from backout.providers.memory import WorldClock
from backout.providers.retry import Retry

from polling import PATIENCE_S, until
from scripted_server import answer, drip, hang, raw_answer, refused_url, reset, scripted_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripted_server import ScriptedServer, Step

TOKEN = "canary-token-9f8e7d6c5b4a"
VERSION = "fbcb7d21-5bbd-417c-9adf-0184c5655823"
OTHER = "0cb1a5de-1d0a-4c4b-9d5c-3ad0f5be0b55"
LIMITS = Limits(connect_s=0.4, read_s=0.4, total_s=0.6, body_bytes=100_000)
RETRY = Retry(attempts=3, first_wait_s=1.0, longest_wait_s=4.0, total_s=30.0)


def deployment(version: str = VERSION, at: str = "2026-11-24T22:32:48.5Z") -> dict[str, object]:
    return {"id": "d1", "created_on": at, "versions": [{"version_id": version, "percentage": 100}]}


def envelope(result: object) -> dict[str, object]:
    return {"success": True, "errors": [], "messages": [], "result": result}


def failure(status: int, code: int, message: str, **headers: str) -> Step:
    body = {"success": False, "errors": [{"code": code, "message": message}], "messages": [], "result": None}
    return answer(body, status, **headers)


GOOD = answer(envelope({"deployments": [deployment()]}))
MADE = answer(envelope(deployment()))


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as running:
        yield running


@pytest.fixture
def clock() -> WorldClock:
    return WorldClock(1000.0)


def client(url: str, clock: WorldClock, token: str = TOKEN) -> ApiClient:
    return ApiClient(f"{url}/client/v4", lambda: token, clock=clock, retry=RETRY, limits=LIMITS)


def deployments(server: ScriptedServer, clock: WorldClock) -> CloudflareDeployments:
    return CloudflareDeployments(client(server.url, clock), "acc", "fm5")


def told(error: BackoutError) -> str:
    """Everything of an error that a person or a log could get to see, its causes included."""
    texts = []
    cause: BaseException | None = error
    while cause is not None:
        texts += [str(cause), repr(cause), str(getattr(cause, "hint", "")), str(vars(cause))]
        cause = cause.__cause__ or cause.__context__
    return " ".join(texts)


PASSING = {
    "503": failure(503, 10013, "internal"),
    "500 with HTML": answer(b"<html>oops</html>", 500, Content_Type="text/html"),
    "200 with HTML": answer(b"<html>a captive portal</html>", 200, Content_Type="text/html"),
    "a truncated body": raw_answer(b'HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"success":true,'),
    "a truncated chunk": raw_answer(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{"success"'),
    "half a header": raw_answer(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "no HTTP": raw_answer(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "an empty answer": raw_answer(b""),
    "a reset": reset(),
    "invalid JSON": answer(b'{"success": tru'),
    "JSON of another kind": answer(b"[1, 2, 3]"),
    "invalid UTF-8": answer(b'{"success": true, "errors": [{"code": 1, "message": "\xff\xfe"}]}'),
}


def test_a_switch_says_how_objects_get_their_code_only_where_that_is_asked_for(
    server: ScriptedServer, clock: WorldClock
) -> None:
    """As wrangler sends it; a Worker without Durable Objects is switched as before."""
    server.will(MADE)
    deployments = CloudflareDeployments(client(server.url, clock), "acc", "fm5")
    deployments.activate(VERSION, message="x", immediate=True)
    deployments.activate(VERSION, message="x")
    sent = [json.loads(each.body).get("code_update_strategy") for each in server.asked]
    assert sent == [{"mode": "immediate"}, None]


@pytest.mark.parametrize("trouble", PASSING.values(), ids=PASSING)
def test_a_trouble_that_passes_is_not_noticed(server: ScriptedServer, clock: WorldClock, trouble: Step) -> None:
    """A GET is repeated after it, and the answer is the one of the healthy API."""
    server.will(trouble, GOOD)
    assert deployments(server, clock).history()[0].main == VERSION
    assert len(server.asked) >= 2


@pytest.mark.parametrize("trouble", PASSING.values(), ids=PASSING)
def test_a_trouble_that_stays_is_unavailable(server: ScriptedServer, clock: WorldClock, trouble: Step) -> None:
    """After the attempts are used up the error says where, and the waits were the policy's."""
    server.will(trouble)
    with pytest.raises(ProviderUnavailable) as caught:
        deployments(server, clock).history()
    assert "GET http://127.0.0.1" in str(caught.value)
    assert TOKEN not in told(caught.value)
    assert 1.5 <= clock.now() - 1000.0 <= 3.0


@pytest.mark.parametrize(
    "step", [hang(), drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n")], ids=["hang", "drip"]
)
def test_a_server_that_never_finishes_is_left(server: ScriptedServer, clock: WorldClock, step: Step) -> None:
    """Neither silence nor a byte now and then outlasts the deadline of an exchange."""
    server.will(step)
    begun = time.monotonic()
    with pytest.raises(ProviderUnavailable, match="timed out"):
        deployments(server, clock).history()
    assert time.monotonic() - begun < 30  # as long as the server holds the first of three


def test_a_body_too_large_is_not_read_and_not_asked_for_again(server: ScriptedServer, clock: WorldClock) -> None:
    """An announced size beyond the limit ends it at once; one that grows past it, too."""
    server.will(raw_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n"))
    with pytest.raises(ProviderUnavailable, match="larger than 100000 bytes"):
        deployments(server, clock).history()
    server.will(raw_answer(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 200_000))
    with pytest.raises(ProviderUnavailable, match="larger than 100000 bytes"):
        deployments(server, clock).history()
    assert len(server.asked) == 2


def test_retry_after_is_obeyed(server: ScriptedServer, clock: WorldClock) -> None:
    """A 429 waits as long as it asks for, for a POST as well: it did nothing."""
    server.will(failure(429, 971, "slow down", Retry_After="7"), MADE)
    assert deployments(server, clock).activate(VERSION, message="x").main == VERSION
    assert clock.now() == 1007.0


def test_a_retry_after_beyond_the_deadline_is_told_at_once(server: ScriptedServer, clock: WorldClock) -> None:
    """Five minutes are not waited in silence."""
    server.will(failure(429, 971, "slow down", Retry_After="300"))
    with pytest.raises(ProviderUnavailable, match="asks to wait 300 s"):
        deployments(server, clock).history()
    assert clock.now() == 1000.0
    assert len(server.asked) == 1


def test_a_refused_connection_is_unavailable(clock: WorldClock) -> None:
    """Nobody listens: a POST is repeated as well, since it cannot have arrived."""
    where = CloudflareDeployments(client(refused_url(), clock), "acc", "fm5")
    with pytest.raises(ProviderUnavailable, match="not reached: Connection refused"):
        where.history()
    waited = clock.now()
    with pytest.raises(ProviderUnavailable, match="not reached") as caught:
        where.activate(VERSION, message="x")
    assert "unknown" not in str(caught.value)
    assert clock.now() > waited


@pytest.mark.parametrize(
    "step",
    [hang(), reset(), failure(503, 10013, "internal"), PASSING["a truncated body"], PASSING["200 with HTML"]],
    ids=["hang", "reset", "503", "truncated", "HTML"],
)
def test_a_post_that_may_have_happened_is_never_sent_twice(
    server: ScriptedServer, clock: WorldClock, step: Step
) -> None:
    """The error says that it is unknown whether it happened, and the server saw it once."""
    server.will(step, MADE)
    with pytest.raises(ProviderUnavailable, match="unknown whether the request took effect"):
        deployments(server, clock).activate(VERSION, message="x")
    assert [asked.method for asked in server.asked] == ["POST"]


def test_a_post_on_a_connection_closed_meanwhile_uses_a_new_one(server: ScriptedServer, clock: WorldClock) -> None:
    """A kept-open connection that the server closed is noticed before a POST is risked on it."""
    body = json.dumps(envelope({"deployments": [deployment()]})).encode()
    server.will(raw_answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body), MADE)
    port = deployments(server, clock)
    port.history()
    until(lambda: server.closed == 1, what="the server closed the connection")
    assert port.activate(VERSION, message="x").main == VERSION
    assert server.connections == 2


def test_a_connection_is_kept_for_the_next_call(server: ScriptedServer, clock: WorldClock) -> None:
    """Three calls, one connection."""
    server.will(GOOD, GOOD, MADE)
    port = deployments(server, clock)
    port.history()
    port.history()
    port.activate(VERSION, message="x")
    assert server.connections == 1


@pytest.mark.parametrize(
    ("status", "code"), [(401, 10000), (403, 10000), (400, 9109), (403, 10023), (400, 6003), (401, 0)]
)
def test_a_refused_token_names_the_permission(
    server: ScriptedServer, clock: WorldClock, status: int, code: int
) -> None:
    """Reading and writing need different permissions, and the text names the one that this call needs."""
    server.will(failure(status, code, f"no: {TOKEN}"))
    port = deployments(server, clock)
    for call, permission in (
        (port.history, "Workers Scripts Read"),
        (lambda: port.activate(VERSION, message="x"), "Workers Scripts Write"),
    ):
        with pytest.raises(AuthError, match=permission) as caught:
            call()
        assert "CLOUDFLARE_API_TOKEN" in (caught.value.hint or "")
        assert TOKEN not in told(caught.value)
    assert len(server.asked) == 2


@pytest.mark.parametrize("token", ["", "  ", "two words", "bad\r\nX-Injected: 1", "schlüssel"])
def test_a_token_that_cannot_be_one_is_never_sent(server: ScriptedServer, clock: WorldClock, token: str) -> None:
    """It is refused here, without being quoted."""
    with pytest.raises(AuthError) as caught:
        CloudflareSecrets(client(server.url, clock, token), "acc", "fm5").names()
    assert not token.strip() or token.strip() not in told(caught.value)
    assert server.connections == 0


def test_the_token_travels_in_its_header_only(server: ScriptedServer, clock: WorldClock) -> None:
    """Not in the target, and with a User-Agent that says who asks."""
    server.will(GOOD)
    deployments(server, clock).history()
    asked = server.asked[0]
    assert asked.headers["authorization"] == f"Bearer {TOKEN}"
    assert asked.headers["user-agent"].startswith("backout/")
    assert TOKEN not in asked.target


def test_changed_secrets_are_a_decision_with_their_names(server: ScriptedServer, clock: WorldClock) -> None:
    """Code 10220 without force; with force the request says so."""
    text = "You cannot deploy this version without force. The following secrets have changed: JWT_SECRET, API_KEY"
    server.will(failure(400, 10220, text), failure(400, 10220, "Secrets differ."), MADE)
    port = deployments(server, clock)
    with pytest.raises(SecretsChanged) as caught:
        port.activate(VERSION, message="x")
    assert caught.value.names == ("API_KEY", "JWT_SECRET")
    with pytest.raises(SecretsChanged) as caught:
        port.activate(VERSION, message="x")
    assert caught.value.names == ()
    port.activate(VERSION, message="x", force=True)
    assert [asked.target.endswith("?force=true") for asked in server.asked] == [False, False, True]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (10085, "R2 bucket 'fm5' not found. Please use a different name and try again."),
        (10211, "A Durable Object migration lies between."),
        (10218, "Only the 100 most recently uploaded versions can be deployed."),
        (99999, "Version cannot be deployed: KV namespace no longer exists."),
    ],
)
def test_a_target_that_cannot_run_any_more_is_refused(
    server: ScriptedServer, clock: WorldClock, code: int, text: str
) -> None:
    """Known by code, and by words where the documentation gives no code; the way on is named."""
    server.will(failure(400, code, text))
    with pytest.raises(Refused, match="can no longer run") as caught:
        deployments(server, clock).activate(VERSION, message="x")
    assert caught.value.options


def test_versions_that_cannot_share_a_deployment_are_told_apart(server: ScriptedServer, clock: WorldClock) -> None:
    """Neither is out of the question by itself."""
    server.will(failure(400, 100405, "All versions in a multi-version deployment must declare identical `exports`."))
    shares = (Share(VersionId(VERSION), 100.0), Share(VersionId("other"), 0.0))
    with pytest.raises(NoSplit, match="no deployment can have both"):
        deployments(server, clock).deploy(shares, message="x")


def test_a_no_that_we_do_not_know_stays_a_no(server: ScriptedServer, clock: WorldClock) -> None:
    """With its status and code, never repeated."""
    server.will(failure(400, 10026, "percentages must sum to 100"))
    with pytest.raises(ProviderRejected) as caught:
        deployments(server, clock).activate(VERSION, message="x")
    assert (caught.value.status, caught.value.code) == (400, 10026)
    assert len(server.asked) == 1


def test_an_unknown_application_is_rejected_with_404(server: ScriptedServer, clock: WorldClock) -> None:
    """Also where the base URL is wrong and the 404 is a page."""
    server.will(failure(404, 10007, "This Worker does not exist on your account."), answer(b"<h1>404</h1>", 404))
    for _ in range(2):
        with pytest.raises(ProviderRejected) as caught:
            deployments(server, clock).history()
        assert caught.value.status == 404


def test_an_answer_of_another_shape_is_not_half_understood(server: ScriptedServer, clock: WorldClock) -> None:
    """A result without the fields that everything rests on is an error that names the field."""
    server.will(answer(envelope({"deployments": [{"id": "d1"}]})))
    with pytest.raises(ProviderUnavailable, match=r"created_on|deployments\[0\]"):
        deployments(server, clock).history()


def test_an_accepted_post_with_a_strange_answer_says_that_it_was_accepted(
    server: ScriptedServer, clock: WorldClock
) -> None:
    """So that nobody believes that nothing happened."""
    server.will(answer(envelope({"something": "else"})))
    with pytest.raises(ProviderUnavailable, match="the request itself was accepted"):
        deployments(server, clock).activate(VERSION, message="x")


def test_the_request_is_the_one_that_wrangler_sends(server: ScriptedServer, clock: WorldClock) -> None:
    """Path, strategy, one version at 100 %, and the message cut at a character, marker first."""
    server.will(MADE)
    deployments(server, clock).activate(VERSION, message="[backout r1] " + "ä" * 600)
    asked = server.asked[0]
    body = json.loads(asked.body)
    assert asked.target == "/client/v4/accounts/acc/workers/scripts/fm5/deployments"
    assert body["strategy"] == "percentage"
    assert body["versions"] == [{"version_id": VERSION, "percentage": 100}]
    message = body["annotations"]["workers/message"]
    assert message.startswith("[backout r1] ä")
    assert 998 <= len(message.encode()) <= 1000


def test_versions_are_read_page_by_page(server: ScriptedServer, clock: WorldClock) -> None:
    """Until the last page, and not for ever when a server says that there is always one more."""

    def page(number: int, pages: int, *ids: str) -> Step:
        items = [{"id": i, "number": 10 - number, "metadata": {"created_on": "2026-11-24T22:00:00Z"}} for i in ids]
        return answer(envelope({"items": items}) | {"result_info": {"page": number, "total_pages": pages}})

    server.will(page(1, 2, "a", "b"), page(2, 2, "c"))
    port = CloudflareVersions(client(server.url, clock), "acc", "fm5")
    assert [version.id for version in port.recent()] == ["a", "b", "c"]
    assert server.asked[1].target.endswith("?deployable=true&page=2")
    server.will(page(1, 999, "a"))
    assert [version.id for version in port.recent()] == ["a"]


def test_a_name_cannot_leave_its_place_in_the_path(server: ScriptedServer, clock: WorldClock) -> None:
    """A version id with slashes, a question mark or a line break stays one segment."""
    server.will(failure(404, 10100, "not found"))
    with pytest.raises(ProviderRejected):
        CloudflareVersions(client(server.url, clock), "acc", "../x").detail("a/../b?force=true\r\nX: y")
    assert server.asked[0].target == (
        "/client/v4/accounts/acc/workers/scripts/..%2Fx/versions/a%2F..%2Fb%3Fforce%3Dtrue%0D%0AX%3A%20y"
    )


def test_the_clock_offset_comes_from_the_date_header(server: ScriptedServer, clock: WorldClock) -> None:
    """Measured at every answer, whatever it says; None before."""
    api = client(server.url, clock)
    assert api.clock_offset_s is None
    server.will(answer(envelope({"deployments": []}), Date="Thu, 01 Jan 1970 00:17:10 GMT"))
    CloudflareDeployments(api, "acc", "fm5").history()
    assert api.clock_offset_s == pytest.approx(30.5)
    server.will(answer(envelope({"deployments": []}), Date="yesterday"))
    CloudflareDeployments(api, "acc", "fm5").history()
    assert api.clock_offset_s == pytest.approx(30.5)


@pytest.mark.parametrize("url", ["ftp://x/y", "no url", "http://", "http://host:port/", "http://h:99999/"])
def test_a_base_url_that_is_none_is_a_configuration_error(url: str) -> None:
    """Told when the client is made, not when it is first used."""
    with pytest.raises(ConfigError):
        ApiClient(url, lambda: TOKEN)


def test_a_certificate_that_nobody_signed_is_not_trusted(clock: WorldClock) -> None:
    """It is told as that, nothing is sent, and asking again would change nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(__file__).parent / "data" / "untrusted_localhost.pem")  # for this test only
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
                heard.append(secured.recv(100))

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"https://localhost:{listener.getsockname()[1]}"
        with pytest.raises(ProviderUnavailable, match=r"not trusted: TLS: self.signed certificate"):
            CloudflareSecrets(client(url, clock), "acc", "fm5").names()
        thread.join(PATIENCE_S)
    assert b"".join(heard) == b""
    assert clock.now() == 1000.0


def test_a_tls_handshake_that_never_comes_ends_in_time(clock: WorldClock) -> None:
    """Somebody listens, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://localhost:{listener.getsockname()[1]}"
        with pytest.raises(ProviderUnavailable, match="timed out: no TLS handshake in time"):
            CloudflareSecrets(client(url, clock), "acc", "fm5").names()


ODD = {
    "a lone surrogate": '"\\ud800 fix"',
    "brackets": "[" * 300 + "]" * 300,
    "a huge number": "100000000000000000000",
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_what_a_deployer_wrote_hides_no_deployment(server: ScriptedServer, clock: WorldClock, odd: str) -> None:
    """Neither a message that no text can hold, nor a value beside what is needed."""
    named = {**deployment(), "annotations": {"workers/message": "odd"}}
    beside = {**deployment(OTHER, "2026-11-23T22:32:48.5Z"), "id": "d2", "extra": ["odd"]}
    body = json.dumps(envelope({"deployments": [named, beside]}))
    message = odd if odd.startswith('"') else '"odd"'
    server.will(answer(body.replace('["odd"]', f"[{odd}]").replace('"odd"', message).encode()))
    found = deployments(server, clock).history()
    assert [each.id for each in found] == ["d1", "d2"]
    assert found[0].message in ("\ufffd fix", "odd")


def test_code_that_is_kept_is_never_read_in_part(server: ScriptedServer, clock: WorldClock) -> None:
    """It is uploaded again as it was: a value that cannot be read is refused, not left out."""
    detail = answer(envelope({"id": VERSION, "number": 1, "metadata": {"created_on": "2026-11-24T22:32:48.5Z"}}))
    code = {"main_module": "a.js", "modules": [{"name": "a.js", "content_type": "x/y", "content_base64": "YQ=="}]}
    bindings = [{"type": "json", "name": "N", "json": "odd"}]
    whole = json.dumps(envelope({**code, "bindings": bindings})).replace('"odd"', "100000000000000000000")
    server.will(detail, *[answer(whole.encode())] * 3)
    with pytest.raises(ProviderUnavailable, match="cannot be read"):
        CloudflareBundles(client(server.url, clock), "acc", "fm5").fetch(VERSION)
