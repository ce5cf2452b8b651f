"""Who is told, as it is written down: what needs each other, what is missing, and what no secret of is shown."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from backout import config
from backout.errors import AuthError
from backout.model.incident.notice import NoticeKind
from backout.providers.notify.channel import SendFailed
from backout.wiring.telling import list_routes, make_notifier

from private import write_private

BASE = """
[app]
name = "fm5"
[environments.production]
platform = { provider = "cloudflare", script = "fm5-production" }
"""
ACT = BASE + 'guard = { mode = "act" }\nhealth = { url = "https://fm5.example.com/health" }\n'
SMTP = '[notify.smtp]\nhost = "mail.example.com"\nfrom = "a@example.com"\nto = ["b@example.com"]\n'


def load(folder: Path, text: str, variables: dict[str, str] | None = None) -> config.Config:
    (folder / "backout.toml").write_text(text)
    return config.load(config.Environment(variables or {}), start=folder)


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ('[notify.webhook]\nurl_env = "X"\n', "notify.webhook: needs secret_env"),
        ('[notify.webhook]\nsecret_file = "x"\n', "notify.webhook: needs url_env"),
        ("[notify.slack]\n", "notify.slack: needs url_env"),
        ("[notify.pagerduty]\n", "notify.pagerduty: needs routing_key_env"),
        (
            '[notify.pagerduty]\nrouting_key_env = "K"\nregion = "de"\n',
            "notify.pagerduty.region: expected 'us' or 'eu'",
        ),
        (SMTP + 'user = "me"\n', "notify.smtp: user and password_env"),
        (SMTP + 'password_env = "X"\n', "notify.smtp: user and password_env"),
        (SMTP.replace('["b@example.com"]', "[]"), "notify.smtp.to: expected something that is not empty"),
        (SMTP + "port = 0\n", "notify.smtp.port: expected a number at least 1 and at most 65535"),
        (SMTP + 'security = "ssl"\n', "notify.smtp.security: expected 'starttls', 'tls' or 'none'"),
        (SMTP + 'passwort_env = "X"\n', "notify.smtp.passwort_env: unknown key, did you mean 'password_env'"),
        ('[notify]\nkinds = ["rolledback"]\n', "notify.kinds[0]: expected"),
        ('[notify]\nwebhook_env = "X"\n', "notify.webhook_env: unknown key"),
    ],
)
def test_mistakes(text: str, mistake: str) -> None:
    """Each with its line and key."""
    found = config.find_mistakes(BASE + text, Path("backout.toml"))
    assert any(mistake in each for each in found), found


def test_every_kind_is_wanted_by_default_and_shown_in_the_example(tmp_path: Path) -> None:
    """A kind that the example forgot would look as if it could not be told."""
    assert load(tmp_path, BASE).settings.notify.kinds == tuple(NoticeKind)
    example = (resources.files("backout") / "catalogue" / "backout.toml").read_text()
    assert load(tmp_path, example).settings.notify.kinds == tuple(NoticeKind)


def test_warnings(tmp_path: Path) -> None:
    """Acting without telling anybody, and mail in the clear to another machine."""
    told = [w for w in config.list_warnings(load(tmp_path, ACT)) if "notify" in w]
    assert told == [
        "notify: no channel is set up, and guard acts by itself in production: no one will be told",
    ]
    assert not [w for w in config.list_warnings(load(tmp_path, ACT + SMTP)) if "notify" in w]
    assert not [w for w in config.list_warnings(load(tmp_path, BASE)) if "notify" in w]
    clear = ACT + SMTP + 'security = "none"\n'
    told = [w for w in config.list_warnings(load(tmp_path, clear)) if "notify" in w]
    assert told == ["notify.smtp.security is 'none': mail is not encrypted"]
    local = (clear + 'user = "u"\npassword_env = "P"\n').replace("mail.example.com", "localhost")
    assert not [w for w in config.list_warnings(load(tmp_path, local)) if "notify" in w]


def test_a_missing_secret_breaks_its_channel_alone(tmp_path: Path) -> None:
    """A rollback must not fail because somebody cannot be told; the channel itself says what is missing."""
    text = BASE + SMTP + '[notify.webhook]\nurl_env = "HOOK"\nsecret_env = "HOOK_SECRET"\n'
    loaded = load(tmp_path, text, {"HOOK": "https://hooks.example.com/x"})
    assert make_notifier(loaded) is not None
    webhook, smtp = list_routes(loaded)
    assert (webhook.name, webhook.problem) == ("webhook", "a signing secret is needed, and HOOK_SECRET is not set")
    with pytest.raises(SendFailed, match="HOOK_SECRET"):
        webhook.open()
    assert (smtp.name, smtp.problem) == ("smtp", "")
    smtp.open()
    assert make_notifier(load(tmp_path, BASE)) is None


def test_the_secrets_of_channels_are_masked(tmp_path: Path) -> None:
    """What is read for a channel is known to the mask before anything is told; a file works as well."""
    seen: list[str] = []
    text = BASE + '[notify.slack]\nurl_file = "slack-url"\n[notify.webhook]\nurl_env = "HOOK"\nsecret_env = "S"\n'
    write_private(tmp_path / "slack-url", "https://hooks.slack.example/services/canary\n")
    (tmp_path / "backout.toml").write_text(text)
    variables = config.Environment({"HOOK": "https://h.example/canary", "S": "whsec_canary"}, seen.append)
    list_routes(config.load(variables, start=tmp_path))
    assert seen == ["https://h.example/canary", "whsec_canary", "https://hooks.slack.example/services/canary"]
    (tmp_path / "slack-url").unlink()
    loaded = config.load(variables, start=tmp_path)
    with pytest.raises(AuthError, match="slack"):
        loaded.notify_secret("slack", None, tmp_path / "slack-url", "a URL")


def test_an_armed_guard_wants_signed_marks(tmp_path: Path) -> None:
    """Without a key whoever may deploy could write a mark; where guard only observes, nothing is said."""
    (told,) = [w for w in config.list_warnings(load(tmp_path, ACT)) if w.startswith("marks")]
    assert "anyone who may deploy can stop it" in told
    assert not [w for w in config.list_warnings(load(tmp_path, BASE)) if w.startswith("marks")]
    signed = ACT + '[marks]\nkey_env = "BACKOUT_MARKS_KEY"\n'
    assert not [w for w in config.list_warnings(load(tmp_path, signed)) if w.startswith("marks")]


@pytest.mark.parametrize(
    ("value", "keys"),
    [
        ("0123456789abcdef", 1),
        ("0123456789abcdef, 1123456789abcdef\n", 2),
        ("a passphrase of several words\nand another one of them", 2),
    ],
)
def test_the_key_of_marks_may_be_two(tmp_path: Path, value: str, keys: int) -> None:
    """While it is changed: by a comma or a line; each is masked from then on."""
    heard: list[str] = []
    (tmp_path / "backout.toml").write_text(BASE + '[marks]\nkey_env = "BACKOUT_MARKS_KEY"\n')
    loaded = config.load(config.Environment({"BACKOUT_MARKS_KEY": value}, heard.append), start=tmp_path)
    found = loaded.marks_keys()
    assert len(found) == keys
    assert {key.reveal() for key in found} <= set(heard)


@pytest.mark.parametrize(
    ("value", "next_"),
    [
        ("short", "openssl rand -hex 32  # makes one"),
        ("0123456789abcdef,short", "openssl rand -hex 32  # makes one"),
        (",".join(["0123456789abcdef"] * 3), "drop the oldest"),
    ],
)
def test_a_key_of_marks_that_is_none(tmp_path: Path, value: str, next_: str) -> None:
    """Too short: exit 4, and how to make one; more than two: which one goes."""
    loaded = load(tmp_path, BASE + '[marks]\nkey_env = "BACKOUT_MARKS_KEY"\n', {"BACKOUT_MARKS_KEY": value})
    with pytest.raises(AuthError) as told:
        loaded.marks_keys()
    assert told.value.hint == next_
    assert value not in str(told.value)
