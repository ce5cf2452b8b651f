"""The channel Slack: an incoming webhook; text for notifications, blocks for the message, within Slack's limits."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from backout.escaping import escape_line, escape_slack
from backout.model.incident.notice import PAGE
from backout.providers.notify.http_post import Post

if TYPE_CHECKING:
    from backout.model.incident.notice import Notice

_HEADER, _SECTION, _TEXT = 150, 3_000, 4_000
"""Characters that Slack takes in a header and a section, and recommends for the text."""


class Slack:
    """Posts each notice to one incoming webhook. Raises SendFailed when the URL cannot be used."""

    def __init__(self, url: str) -> None:
        self._post = Post(url)

    def send(self, notice: Notice, now: float) -> None:
        """Send it once."""
        self._post.send(json.dumps(make_message(notice), separators=(",", ":")).encode(), {}, now)


def make_message(notice: Notice) -> dict[str, object]:
    """Return what Slack is sent."""
    blocks: list[dict[str, object]] = [
        {"type": "header", "text": {"type": "plain_text", "text": _cut(escape_line(notice.title), _HEADER)}},
        _make_section(_cut(escape_slack(notice.text), _SECTION)),
    ]
    if page := notice.facts.get(PAGE):
        blocks.append(_make_section(f"<{escape_slack(page)}|What happened, and what you can do>"))
    if notice.next:
        commands = _cut(escape_slack("\n".join(notice.next)).replace("```", "'''"), _SECTION - 10)
        blocks.append(_make_section(f"```{commands}```"))
    footer = escape_slack(" ".join(part for part in (notice.environment, notice.kind, notice.run) if part))
    blocks.append({"type": "context", "elements": [_make_text_object(_cut(footer, _SECTION))]})
    text = _cut(escape_slack(f"{notice.title}\n{notice.text}"), _TEXT)
    return {"text": text, "blocks": blocks, "unfurl_links": False, "unfurl_media": False, "link_names": False}


def _make_section(text: str) -> dict[str, object]:
    return {"type": "section", "text": _make_text_object(text)}


def _make_text_object(text: str) -> dict[str, object]:
    """Return a text object in which Slack looks for no addresses, channels and names by itself (`verbatim`)."""
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
