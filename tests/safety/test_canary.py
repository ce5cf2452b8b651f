"""Canaries in every place a secret can come from: after all commands, none of them is in anything that was left."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from backout.errors import UsageError

from private import write_private
from receivers import mailbox
from scripted_server import answer, refused_url, scripted_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from drillbook import Drillbook, Trial
    from receivers import Mailbox
    from scripted_server import ScriptedServer

WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"canary of the webhook secret!").decode()
PLANTED = {
    "webhook path": "canary-webhook-7b1c",
    "webhook secret": WEBHOOK_SECRET,
    "slack path": "T0C/B0C/canarySlack91d2",
    "dead man path": "canary-dead-man-3f0a",
    "mail password": "pass-canary-word",
    "health header": "canary-health+head/er==",
    "pipeline token": "ghs_canary0Pipeline1Token2",
    "secret of the application": "canary0Of1The2Application3Q",
}
EVERYTHING = (
    ("config", "show", "-v"),
    ("config", "check", "--online"),
    ("init", "--pin"),
    ("status",),
    ("preflight", "--allow", "card", "-m", "REASON", "--fixes", "REASON"),
    ("card", "--write"),
    ("notify", "test"),
    ("guard",),
    ("panic", "-m", "REASON"),
    ("hold", "-m", "REASON"),
    ("unhold", "-m", "REASON"),
    ("deployments", "release", "BAD", "-m", "REASON", "--confirm", "production"),
    ("hold", "-m", "REASON", "--local"),
    ("unhold", "-m", "REASON", "--local"),
    ("deployments", "list"),
    ("guard", "report"),
    ("runs", "list"),
    ("timeline",),
    ("notify", "list"),
)


@dataclass
class Planted:
    """A trial with every channel, each behind a secret; `left` is all that the program wrote to its streams."""

    trial: Trial
    servers: dict[str, ScriptedServer]
    mail: Mailbox
    secrets: dict[str, str]
    left: dict[str, str] = field(default_factory=dict)

    def run(self, *args: str, variables: dict[str, str] | None = None) -> int:
        """Run the program, and keep what it wrote."""
        known = {"HEALTH_CANARY": PLANTED["health header"], "GITHUB_TOKEN": PLANTED["pipeline token"]}
        ended = self.trial.run(*args, variables={**known, **(variables or {})})
        self.left[" ".join(args)[:60] + f" #{len(self.left)}"] = ended.out + ended.err
        return ended.code

    def everywhere(self) -> Iterator[tuple[str, str]]:
        """Yield (where, text) of all that was written, kept or sent, the files that hold the secrets left out."""
        yield from self.left.items()
        for path in self.trial.folder.rglob("*"):
            if path.is_file() and path.parent.name != "planted":
                yield str(path), path.read_bytes().decode("latin-1")
        for name, server in self.servers.items():
            yield from ((f"body of {name}", asked.body.decode()) for asked in server.asked)
        yield from (("mail", mail.as_string() + mail.get_content()) for mail in self.mail.mails)

    def leaks(self) -> list[str]:
        """Return where which canary stands."""
        return [
            f"{name} in {where}: …{text[max(0, at - 60) : at + 60]!r}…"
            for where, text in self.everywhere()
            for name, secret in self.secrets.items()
            for spelling in spellings(secret)
            if (at := text.find(spelling)) >= 0
        ]


def spellings(secret: str) -> set[str]:
    """Return how a secret may be written: as it is, URL-encoded, in JSON, in base64 at any place."""
    aligned = {base64.b64encode(b"x" * lead + secret.encode())[4:-4].decode() for lead in range(3)}
    return {secret, quote(secret, safe=""), quote(secret), secret.replace("/", "\\/"), *aligned}


@pytest.fixture
def planted(drillbook: Drillbook) -> Iterator[Planted]:
    """Return a trial on the bad version with every channel, secrets in files of a folder of their own."""
    with scripted_server() as webhook, scripted_server() as slack, scripted_server() as dead_man, mailbox() as mail:
        for server in (webhook, slack, dead_man):
            server.will(answer(b"ok"))
        trial = drillbook.trial()
        trial.make_live(drillbook.good)
        folder = trial.folder / "planted"
        folder.mkdir()
        stage = drillbook.stage.directory
        for name, text in {
            "webhook-url": f"{webhook.url}/in/{PLANTED['webhook path']}",
            "webhook-secret": WEBHOOK_SECRET,
            "slack-url": f"{slack.url}/services/{PLANTED['slack path']}",
            "dead-man": f"{dead_man.url}/{PLANTED['dead man path']}",
            "mail-password": PLANTED["mail password"],
            "app.env": f"STRIPE={PLANTED['secret of the application']}",
        }.items():
            write_private(folder / name, text)
        trial.replace((r'(health = \{ url = "[^"]*)"', r'\1", headers_env = { "X-Canary" = "HEALTH_CANARY" }'))
        with trial.config.open("a", encoding="utf-8") as file:
            file.write(channels(mail.port))
        token = (stage / "twin" / "api-token").read_text().strip()
        database = (stage / "database-url").read_text().strip()
        secrets = {**PLANTED, "api token": token, "database": database}
        secrets["database password"] = database.partition("@")[0].rpartition(":")[2]
        servers = {"webhook": webhook, "slack": slack, "dead man": dead_man}
        yield Planted(trial, servers, mail, secrets)


def channels(mail_port: int) -> str:
    """Return the tables of all channels."""
    return f"""
[environments.production.secrets.source]
from = "file"
path = "planted/app.env"
[notify.webhook]
url_file = "planted/webhook-url"
secret_file = "planted/webhook-secret"
[notify.slack]
url_file = "planted/slack-url"
[notify.dead_man]
url_file = "planted/dead-man"
[notify.smtp]
host = "127.0.0.1"
port = {mail_port}
security = "none"
from = "backout@example.com"
to = ["on-call@example.com"]
"""


def reason(planted: Planted) -> str:
    """Return a reason into which a person pasted secrets, as they are and encoded."""
    token, database = planted.secrets["api token"], planted.secrets["database"]
    password = planted.secrets["database password"]
    encoded = base64.b64encode(f"x:{token}".encode()).decode()
    theirs = planted.secrets["secret of the application"]
    return f"pasted {token} {quote(database, safe='')} Basic {encoded} {theirs} the password is {password}"


@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
def test_no_canary_is_left_anywhere(drillbook: Drillbook, planted: Planted) -> None:
    """All commands, once as a person and once as a program, with a rollback of guard in the middle."""
    outputs, page = (str(planted.trial.folder / name) for name in ("outputs", "page.md"))
    told = ("--summary", page, "--outputs", outputs, "--deployment-status")
    for more in ((), ("--json",)):
        drillbook.trial().make_live(drillbook.bad)
        gone_back = planted.run("rollback", "-m", reason(planted), "--confirm", "production", "--no-wait", *more)
        assert gone_back == 0, planted.left
        drillbook.trial().make_live(drillbook.bad)
        for command in EVERYTHING:
            words = {"REASON": reason(planted), "BAD": drillbook.bad}
            args = [words.get(word, word) for word in command]
            code = planted.run(*args, *(told if command == ("guard",) else ()), *more)
            assert code != UsageError.exit_code, f"{command} did nothing: {[*planted.left.values()][-1]}"
    planted.run("conformance", "--dry-run", "--account-id", "a", variables={"CLOUDFLARE_API_TOKEN": "canary-api-tok"})
    assert planted.servers["webhook"].asked
    assert planted.mail.mails
    assert list((planted.trial.folder / "incidents").glob("*.md"))
    assert not (leaks := planted.leaks()), "\n".join(leaks)


@pytest.mark.long
@pytest.mark.calm
def test_no_canary_is_in_what_fails(drillbook: Drillbook, planted: Planted) -> None:
    """Receivers that refuse, hang up or are away; a URL that is none; a wrong token; with tracebacks (-v)."""
    drillbook.trial().make_live(drillbook.bad)
    for server in planted.servers.values():
        server.will(answer({"error": "no"}, 404))
    planted.run("notify", "test", "-v")
    write_private(planted.trial.folder / "planted" / "slack-url", f"{refused_url()}/{PLANTED['slack path']}")
    write_private(planted.trial.folder / "planted" / "webhook-url", f"nonsense {PLANTED['webhook path']}")
    write_private(planted.trial.folder / "planted" / "dead-man", f"http://x:{PLANTED['dead man path']}@[bad/")
    planted.run("notify", "test", "-v")
    planted.run("guard", "--for", "2s", "--observe", "-v")
    planted.run("status", "-v")
    config = planted.trial.config.read_text(encoding="utf-8")
    wrong = re.sub(r'url_file = "[^"]*database-url"', 'url_env = "DATABASE_CANARY"', config)
    planted.trial.config.write_text(wrong, encoding="utf-8")
    planted.secrets["wrong database"] = "canary%20Data+base"
    for url in ("postgres://u:canary%20Data+base@127.0.0.1:1/x", "postgres://u:canary%20Data+base@[bad/x", "nonsense"):
        planted.run("status", "-v", variables={"DATABASE_CANARY": url})
        planted.run("config", "check", "--online", "-v", variables={"DATABASE_CANARY": url})
    assert not (leaks := planted.leaks()), "\n".join(leaks)


@pytest.mark.calm
def test_the_files_of_secrets_are_closed_to_others(planted: Planted) -> None:
    """What notices, holds and code are kept in is for its owner alone."""
    planted.run("hold", "-m", "closed")
    planted.run("status")
    kept: list[Path] = [*planted.trial.folder.glob("*notices*"), *(planted.trial.folder / ".backout").rglob("*")]
    assert kept
    assert planted.run("unhold") == 0
    assert [path for path in kept if path.is_file() and path.stat().st_mode & 0o077 and "card" not in path.name] == []
