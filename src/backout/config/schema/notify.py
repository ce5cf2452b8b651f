"""Who is notified, and on which channels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from backout.config.scalars import TlsUrl
from backout.config.schema.types import Section, Text
from backout.model.incident.notice import NoticeKind


class NotifyWebhook(Section, frozen=True):
    """A receiver of signed webhooks; its URL may hold a secret, so only where it is kept stands in the file."""

    url_env: Text | None = None
    url_file: Path | None = None
    secret_env: Text | None = None
    secret_file: Path | None = None


class NotifySmtp(Section, frozen=True):
    """A mail server, and the sender and recipients of its mail."""

    host: Text
    sender: Text = msgspec.field(name="from")
    to: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: Text | None = None
    password_env: Text | None = None
    password_file: Path | None = None


class NotifySlack(Section, frozen=True):
    """An incoming webhook of Slack; its URL is a secret."""

    url_env: Text | None = None
    url_file: Path | None = None


class NotifyPagerDuty(Section, frozen=True):
    """A service of PagerDuty, by the key of its integration "Events API v2"."""

    routing_key_env: Text | None = None
    routing_key_file: Path | None = None
    region: Literal["us", "eu"] = "us"


class NotifyDeadMan(Section, frozen=True):
    """A URL outside that is asked every minute while guard watches (safety rule 19); it may hold a secret."""

    url_env: Text | None = None
    url_file: Path | None = None


class Notify(Section, frozen=True):
    """Who is notified, and of what (safety rule 18).

    `updates`: the channels that get the sentences for customers. `pages`: where `backout serve` answers, for the link.
    """

    kinds: tuple[NoticeKind, ...] = tuple(NoticeKind)
    updates: tuple[Literal["webhook", "smtp", "slack", "pagerduty"], ...] = ()
    pages: TlsUrl | None = None
    webhook: NotifyWebhook | None = None
    smtp: NotifySmtp | None = None
    slack: NotifySlack | None = None
    pagerduty: NotifyPagerDuty | None = None
    dead_man: NotifyDeadMan | None = None

    @property
    def has_channel(self) -> bool:
        """Whether any channel is set up."""
        return any(channel is not None for channel in (self.webhook, self.smtp, self.slack, self.pagerduty))
