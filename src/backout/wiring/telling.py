"""The notifier and the dead-man's switch; nothing starts before there is a notice to send."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import AuthError
from backout.escaping import make_printable
from backout.providers.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.config import Config
    from backout.ports import (
        DeadMan,
        Notifier,
    )
    from backout.providers.notify.channel import Channel, Route
    from backout.providers.notify.outbox import Outbox
    from backout.providers.notify.trial import Tried


def make_notifier(config: Config) -> Notifier | None:
    """Return the notifier, or None without a channel; nothing starts before there is a notice."""
    if not config.settings.notify.has_channel:
        return None
    from backout.providers.notify.dispatcher import Dispatcher

    kinds = config.settings.notify.kinds
    masked = config.variables.mask_text
    return Dispatcher(
        list_routes(config),
        open_outbox(config),
        SystemClock(),
        kinds=kinds,
        updates=config.settings.notify.updates,
        redact=lambda text: make_printable(masked(text)),
        pages=str(config.settings.notify.pages or ""),
    )


def open_outbox(config: Config) -> Outbox:
    """Return the outbox beside the journal; reading it creates nothing."""
    from backout.providers.notify.outbox import Outbox

    return Outbox(config.places.outbox)


def list_routes(config: Config) -> tuple[Route, ...]:
    """Return the channels that are set up; one whose secret is missing says so instead of sending."""
    from backout.providers.notify.channel import Route, make_broken

    made: list[Route] = []
    makers = {"webhook": _make_webhook, "smtp": _make_smtp, "slack": _make_slack, "pagerduty": _make_pagerduty}
    for name, open_with in makers.items():
        if getattr(config.settings.notify, name) is None:
            continue
        try:
            made.append(Route(name, open_with(config)))
        except AuthError as error:
            made.append(make_broken(name, error.what))
    return tuple(made)


def try_channels(config: Config, now: float, within_s: float | None = None) -> tuple[Tried, ...]:
    """Send a test notice once through every channel, and return how each took it.

    Args:
        now: Unix seconds.
        within_s: no channel is waited for longer; None: longer than any takes.
    """
    from backout.model.incident.notice import Notice, NoticeKind
    from backout.providers.notify.trial import WITHIN_S, try_all
    from backout.report.incident.notice import describe_trial
    from backout.wiring.records import find_actor

    words = describe_trial(config.name, find_actor())
    key = f"{config.name}:test:{now:.3f}"
    notice = Notice(
        NoticeKind.TEST, config.name, now, words.title, words.text, key=key, next=words.next, facts=words.facts
    )
    return try_all(list_routes(config), notice, now, WITHIN_S if within_s is None else within_s)


def _make_webhook(config: Config) -> Callable[[], Channel]:
    settings = config.settings.notify.webhook
    assert settings is not None
    url = config.notify_secret("webhook", settings.url_env, settings.url_file, "a URL").reveal()
    secret = config.notify_secret("webhook", settings.secret_env, settings.secret_file, "a signing secret").reveal()

    def open_channel() -> Channel:
        from backout.providers.notify.webhook import Webhook

        return Webhook(url, secret)

    return open_channel


def _make_smtp(config: Config) -> Callable[[], Channel]:
    settings = config.settings.notify.smtp
    assert settings is not None
    password = ""
    if settings.user:
        password = config.notify_secret("smtp", settings.password_env, settings.password_file, "a password").reveal()

    def open_channel() -> Channel:
        from backout.providers.notify.smtp import Server, Smtp

        server = Server(settings.host, settings.port, settings.security, settings.user or "", password)
        return Smtp(server, settings.sender, settings.to)

    return open_channel


def _make_slack(config: Config) -> Callable[[], Channel]:
    settings = config.settings.notify.slack
    assert settings is not None
    url = config.notify_secret("slack", settings.url_env, settings.url_file, "a URL").reveal()

    def open_channel() -> Channel:
        from backout.providers.notify.slack import Slack

        return Slack(url)

    return open_channel


def _make_pagerduty(config: Config) -> Callable[[], Channel]:
    settings = config.settings.notify.pagerduty
    assert settings is not None
    named = settings.routing_key_env, settings.routing_key_file
    key = config.notify_secret("pagerduty", *named, "a routing key").reveal()

    def open_channel() -> Channel:
        from backout.providers.notify.pagerduty import URLS, PagerDuty

        return PagerDuty(key, URLS[settings.region])

    return open_channel


def make_dead_man(config: Config, say: Callable[[str], None]) -> DeadMan | None:
    """Return the URL that is asked while guard watches, None where none is set up."""
    if config.settings.notify.dead_man is None:
        return None
    from backout.providers.deadman.ping import HttpDeadMan

    return HttpDeadMan(lambda: config.dead_man_url().reveal(), say)
