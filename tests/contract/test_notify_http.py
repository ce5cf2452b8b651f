"""The channels webhook and Slack against a loopback server: signatures, statuses, limits, and what is never sent."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from backout.model.incident.notice import PAGE, Notice, NoticeKind, make_page_url
from backout.providers.notify.channel import SendFailed
from backout.providers.notify.pagerduty import PagerDuty, make_event
from backout.providers.notify.slack import Slack, make_message
from backout.providers.notify.smtp import compose
from backout.providers.notify.webhook import Webhook, make_message_id, make_payload

from receivers import SECRET, verified, verified_now
from scripted_server import answer, raw_answer, refused_url, reset, scripted_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripted_server import ScriptedServer

OTHER = "whsec_" + base64.b64encode(b"another key of thirty-two bytes!").decode()
NOTICE = Notice(
    kind=NoticeKind.ROLLED_BACK,
    environment="production",
    at=1_800_000_000.25,
    title="production: rolled back to version 4301c1f1, verified",
    text="Version 4301c1f1 was left; 22 of 84 requests failed. Ünïcode <b> & more",
    key="production:rolled_back:rollback-d8d0156a",
    run="rollback-d8d0156a",
    next=("backout status -e production",),
    facts={"live_version": "4301c1f1", "verified": "yes"},
)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as made:
        yield made


def test_the_verifier_itself() -> None:
    """The receiver of these tests accepts the published example, and nothing that differs from it."""
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    assert verified(headers, b'{"test": 2432232314}', SECRET)
    assert not verified(headers, b'{"test": 2432232315}', SECRET)
    assert not verified({**headers, "webhook-timestamp": "1614265331"}, b'{"test": 2432232314}', SECRET)
    assert not verified(headers, b'{"test": 2432232314}', OTHER)


def test_a_webhook_is_signed_over_the_very_bytes(server: ScriptedServer) -> None:
    """One POST with type, time and facts; id from the key, a fresh timestamp, a signature over all three."""
    server.will(answer({}, 204))
    Webhook(f"{server.url}/hooks/in?tenant=1", SECRET).send(NOTICE, time.time())
    (asked,) = server.asked
    assert (asked.method, asked.target) == ("POST", "/hooks/in?tenant=1")
    assert verified_now(asked)
    assert not verified_now(asked, OTHER)
    assert asked.headers["content-type"] == "application/json"
    body = json.loads(asked.body)
    assert body["type"] == "backout.rolled_back"
    assert body["timestamp"] == "2027-01-15T08:00:00.250Z"
    assert body["data"] == {
        "environment": "production",
        "title": NOTICE.title,
        "text": NOTICE.text,
        "run_id": "rollback-d8d0156a",
        "next": ["backout status -e production"],
        "live_version": "4301c1f1",
        "verified": "yes",
    }


def test_the_same_notice_has_the_same_id_and_a_new_time(server: ScriptedServer) -> None:
    """Receivers deduplicate by the id, and refuse old timestamps."""
    server.will(answer({}))
    webhook = Webhook(server.url, SECRET)
    webhook.send(NOTICE, 1_800_000_000.9)
    webhook.send(NOTICE, 1_800_000_060.0)
    first, second = server.asked
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == make_message_id(NOTICE.key)
    assert "." not in first.headers["webhook-id"]
    assert (first.headers["webhook-timestamp"], second.headers["webhook-timestamp"]) == ("1800000000", "1800000060")
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]
    assert all(verified(asked.headers, asked.body, SECRET) for asked in server.asked)


def test_two_secrets_sign_both(server: ScriptedServer) -> None:
    """While a secret is replaced, a receiver may know the old one or the new one."""
    server.will(answer({}))
    Webhook(server.url, f"{SECRET} {OTHER}").send(NOTICE, time.time())
    assert verified_now(server.asked[0], SECRET)
    assert verified_now(server.asked[0], OTHER)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_***"])
def test_a_secret_that_cannot_sign(secret: str) -> None:
    """Nothing unsigned, or signed with a weak key, is ever sent; the message does not show it."""
    with pytest.raises(SendFailed, match="whsec_") as failed:
        Webhook("https://hooks.example.com/x", secret or "nothing")
    assert "c2hvcnQ" not in failed.value.why


@pytest.mark.parametrize(
    "url", ["hooks.example.com", "ftp://h/x", "https://user:word@h/x", "https://h/a b", "https://"]
)
def test_a_url_that_cannot_be_used(url: str) -> None:
    """The message says so without the URL: it may be a secret."""
    with pytest.raises(SendFailed, match="its URL") as failed:
        Slack(url)
    assert "word" not in failed.value.why


@pytest.mark.parametrize(
    ("status", "permanent"),
    [
        (400, True), (401, True), (403, True), (404, True), (410, True), (422, True),
        (408, False), (425, False), (429, False), (500, False), (502, False), (503, False), (504, False),
        (301, False), (307, False),
    ],
)  # fmt: skip
def test_what_each_status_means(server: ScriptedServer, status: int, permanent: bool) -> None:
    """4xx ends it, except those that say "later"; everything else is tried again."""
    server.will(answer({}, status))
    with pytest.raises(SendFailed, match=str(status)) as failed:
        Webhook(f"{server.url}/secret-path", SECRET).send(NOTICE, time.time())
    assert failed.value.permanent is permanent
    assert failed.value.retry_after_s is None
    assert "secret-path" not in failed.value.why


def test_retry_after_is_handed_on(server: ScriptedServer) -> None:
    """In seconds, or as a date."""
    server.will(answer({}, 503, Retry_After="120"), answer({}, 429, Retry_After="Fri, 15 Jan 2027 08:00:30 GMT"))
    for wait_s in (120.0, 30.0):
        with pytest.raises(SendFailed) as failed:
            Webhook(server.url, SECRET).send(NOTICE, 1_800_000_000.0)
        assert failed.value.retry_after_s == wait_s


def test_a_redirect_is_not_followed(server: ScriptedServer) -> None:
    """What is signed for one receiver goes to no other."""
    with scripted_server() as other:
        other.will(answer({}))
        server.will(answer({}, 307, Location=f"{other.url}/x"))
        with pytest.raises(SendFailed, match="not followed"):
            Webhook(server.url, SECRET).send(NOTICE, time.time())
        assert other.asked == []


def test_nobody_there_and_a_broken_answer(server: ScriptedServer) -> None:
    """Both are tried again."""
    server.will(reset(), raw_answer(b"not http\r\n\r\n"))
    for url in (refused_url(), server.url, server.url):
        with pytest.raises(SendFailed) as failed:
            Slack(f"{url}/services/T0/B0/secret").send(NOTICE, time.time())
        assert not failed.value.permanent
        assert "services" not in failed.value.why


def test_a_receiver_that_says_much_has_it_all_the_same(server: ScriptedServer) -> None:
    """2xx is delivered, however long the answer is: sending it again would tell it twice."""
    server.will(answer(b"x" * 200_000))
    Webhook(server.url, SECRET).send(NOTICE, time.time())


def test_a_long_notice_stays_small() -> None:
    """Receivers expect less than 20 kB."""
    long = Notice(
        NoticeKind.FAILED, "production", 0.0, "t" * 9_000, "x" * 50_000, key="k", facts={"what": "y" * 50_000}
    )
    assert len(make_payload(long)) < 12_000


def test_slack_gets_text_and_blocks_within_its_limits(server: ScriptedServer) -> None:
    """Header at most 150 characters, sections 3,000; no mention or link can be smuggled in."""
    server.will(answer(b"ok"))
    text = "<!channel> <https://evil.example|click> & " + "x" * 5_000
    notice = Notice(
        NoticeKind.HELD, "production", 0.0, "t" * 400, text, key="k", run="guard-1", next=("a" * 9_000,), facts={}
    )
    Slack(f"{server.url}/services/T/B/x").send(notice, time.time())
    body = json.loads(server.asked[0].body)
    assert body == make_message(notice)
    header, section, commands, context = body["blocks"]
    assert len(header["text"]["text"]) <= 150
    assert len(section["text"]["text"]) <= 3_000
    assert len(commands["text"]["text"]) <= 3_000
    assert commands["text"]["text"].startswith("```")
    assert commands["text"]["text"].endswith("```")
    assert "<" not in section["text"]["text"] + body["text"]
    assert "guard-1" in context["elements"][0]["text"]
    assert len(body["text"]) <= 4_000


def test_pagerduty_gets_an_alert_and_its_end(server: ScriptedServer) -> None:
    """A change that is over resolves the alert that it began; every other notice is an alert of its own."""
    server.will(answer({"status": "success", "message": "Event processed", "dedup_key": "x"}, 202))
    channel = PagerDuty("canary-routing-key", f"{server.url}/v2/enqueue")
    change = replace(NOTICE, kind=NoticeKind.CHANGED, run="", facts={"deployment_id": "d1", "change": "began"})
    sent = [
        NOTICE,
        replace(NOTICE, kind=NoticeKind.HELD, key="other"),
        change,
        replace(change, key="ended", facts={"deployment_id": "d1", "change": "ended"}),
        replace(NOTICE, kind=NoticeKind.UNPROTECTED),
        replace(NOTICE, kind=NoticeKind.PROTECTED, key="later"),
        *(
            replace(NOTICE, kind=NoticeKind.INCIDENT, key=f"i1 {state}", facts={"incident": "i1", "state": state})
            for state in ("open", "acknowledged", "resolved")
        ),
        replace(NOTICE, kind=NoticeKind.TEST, title="t" * 3_000 + "\x1b[31m", key="k" * 400),
    ]
    for notice in sent:
        channel.send(notice, time.time())
    events = [json.loads(asked.body) for asked in server.asked]
    assert {event["routing_key"] for event in events} == {"canary-routing-key"}
    assert [(event["event_action"], event["payload"]["severity"]) for event in events] == [
        ("trigger", "warning"),
        ("trigger", "critical"),
        ("trigger", "critical"),
        ("resolve", "info"),
        ("trigger", "critical"),
        ("resolve", "info"),
        ("trigger", "critical"),
        ("acknowledge", "critical"),
        ("resolve", "info"),
        ("trigger", "info"),
    ]
    keys = [event["dedup_key"] for event in events]
    assert (keys[2], keys[4]) == (keys[3], keys[5])
    assert keys[6] == keys[7] == keys[8]
    assert len(set(keys)) == len(keys) - 4
    payload = events[0]["payload"]
    assert (payload["summary"], payload["source"]) == (NOTICE.title, "production")
    assert payload["timestamp"] == "2027-01-15T08:00:00.250Z"
    assert payload["custom_details"]["next"] == ["backout status -e production"]
    assert len(events[-1]["payload"]["summary"]) <= 1_024
    assert len(keys[-1]) <= 255


@pytest.mark.parametrize(("status", "permanent"), [(400, True), (429, False), (500, False)])
def test_pagerduty_refuses_for_good_or_for_now(server: ScriptedServer, status: int, *, permanent: bool) -> None:
    """Its key is in no message."""
    server.will(answer({"status": "invalid event", "errors": ["routing_key is invalid"]}, status))
    with pytest.raises(SendFailed) as failed:
        PagerDuty("canary-routing-key", f"{server.url}/v2/enqueue").send(NOTICE, time.time())
    assert failed.value.permanent is permanent
    assert "canary" not in failed.value.why


def test_slacks_reason_is_shown(server: ScriptedServer) -> None:
    """Its answers are single words; anything else stays unread."""
    server.will(answer(b"no_service", 404), answer(b"<html>secret</html>", 404))
    for shown in (True, False):
        with pytest.raises(SendFailed) as failed:
            Slack(f"{server.url}/x").send(NOTICE, time.time())
        assert ("no_service" in failed.value.why) is shown
        assert "secret" not in failed.value.why


def test_the_page_of_a_notice_is_linked() -> None:
    """Where `backout serve` answers: Slack gets a link that nothing can break out of, PagerDuty its own field."""
    page = make_page_url("https://b.example.com/", replace(NOTICE, environment="pro d|>", run="a/../b"))
    assert page == "https://b.example.com/env/pro%20d%7C%3E/run/a%2F..%2Fb"
    linked = replace(NOTICE, facts={**NOTICE.facts, PAGE: page})
    assert f"<{page}|What happened, and what you can do>" in json.dumps(make_message(linked))
    assert "What happened" not in json.dumps(make_message(NOTICE))
    event = make_event(linked)
    assert (event["client_url"], event["links"]) == (page, [{"href": page, "text": "What happened"}])
    assert "links" not in make_event(NOTICE)
    assert json.loads(make_payload(linked))["data"]["page"] == page
    body = compose(linked, "a@example.com", ("b@example.com",), 0.0).get_content()
    assert f"  {page}\n" in body
    assert "page:" not in body
    about = replace(NOTICE, run="", facts={"incident": "incident-1"})
    assert make_page_url("https://b.example.com", about) == "https://b.example.com/env/production/incident/incident-1"
    assert make_page_url("https://b.example.com", replace(about, facts={})) == "https://b.example.com/env/production"
