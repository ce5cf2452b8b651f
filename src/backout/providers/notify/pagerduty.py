"""The channel PagerDuty: alerts by its Events API v2; what is well again resolves the alert that it ends.

Source: PagerDuty developer documentation, "Events API v2", send an alert event (2026): `routing_key`, `event_action`,
`dedup_key` (255 characters), `payload` with `summary` (1,024), `source`, `severity`, `timestamp`, `custom_details`;
`client_url`, `links` with `href` and `text`; an event is accepted with 202, refused for good with 400, and 429 or 5xx
are to be tried again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from backout.escaping import escape_line
from backout.model.clock import to_utc
from backout.model.incident.notice import PAGE, NoticeKind
from backout.providers.notify.http_post import Post

if TYPE_CHECKING:
    from backout.model.incident.notice import Notice

URLS: Final = {
    "us": "https://events.pagerduty.com/v2/enqueue",
    "eu": "https://events.eu.pagerduty.com/v2/enqueue",
}
"""By the region of the account."""
_SUMMARY, _DEDUP, _TEXT, _FACT = 1_024, 255, 8_000, 1_000
_INFO: Final = frozenset(
    {
        *(NoticeKind.SHIFT, NoticeKind.HOLD_SET, NoticeKind.HOLD_ENDS, NoticeKind.SUMMARY, NoticeKind.TEST),
        NoticeKind.UPDATE,
    }
)
_PROTECTION: Final = frozenset({NoticeKind.PROTECTED, NoticeKind.UNPROTECTED})


class PagerDuty:
    """Sends each notice as one event.

    Args:
        routing_key: the integration key of a service.
        url: one of `URLS`.

    Raises:
        SendFailed: the URL cannot be used.
    """

    def __init__(self, routing_key: str, url: str) -> None:
        self._routing_key = routing_key
        self._post = Post(url)

    def send(self, notice: Notice, now: float) -> None:
        """Send it once."""
        event = {"routing_key": self._routing_key, **make_event(notice)}
        self._post.send(json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode(), {}, now)


def make_event(notice: Notice) -> dict[str, object]:
    """Return what PagerDuty is sent, without the routing key."""
    return {
        "event_action": _choose_action(notice),
        "dedup_key": _make_dedup_key(notice)[:_DEDUP],
        "client": "backout",
        **_make_links(notice),
        "payload": {
            "summary": escape_line(notice.title)[:_SUMMARY],
            "source": notice.environment,
            "severity": _find_severity(notice),
            "timestamp": to_utc(notice.at).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "class": str(notice.kind),
            "custom_details": {
                "text": notice.text[:_TEXT],
                "next": [command[:_FACT] for command in notice.next],
                **({"run_id": notice.run[:_FACT]} if notice.run else {}),
                **{name: value[:_FACT] for name, value in notice.facts.items()},
            },
        },
    }


def _make_links(notice: Notice) -> dict[str, object]:
    page = notice.facts.get(PAGE)
    return {"client_url": page, "links": [{"href": page, "text": "What happened"}]} if page else {}


def _choose_action(notice: Notice) -> str:
    if _is_over(notice):
        return "resolve"
    is_taken = notice.kind is NoticeKind.INCIDENT and notice.facts.get("state") == "acknowledged"
    return "acknowledge" if is_taken else "trigger"


def _is_over(notice: Notice) -> bool:
    ended = notice.kind is NoticeKind.CHANGED and notice.facts.get("change") == "ended"
    resolved = notice.kind is NoticeKind.INCIDENT and notice.facts.get("state") == "resolved"
    return ended or resolved or notice.kind is NoticeKind.PROTECTED


def _make_dedup_key(notice: Notice) -> str:
    """Return what joins the events of one alert: of a change, of the protection, or of one notice."""
    if notice.kind is NoticeKind.CHANGED:
        subject = f"changed {notice.facts.get('deployment_id', '')}"
    elif notice.kind in _PROTECTION:
        subject = "protection"
    elif notice.kind is NoticeKind.INCIDENT:
        subject = f"incident {notice.facts.get('incident', '')}"
    else:
        subject = notice.key
    return f"backout {notice.environment} {subject}"


def _find_severity(notice: Notice) -> str:
    if notice.kind in _INFO or _is_over(notice):
        return "info"
    return "critical" if notice.kind.is_critical else "warning"
