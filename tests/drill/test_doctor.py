"""`backout doctor` on real parts: everything there, the platform down, and an application that hides its version."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

import pytest

from private import write_private
from receivers import SECRET, verified_now
from scripted_server import answer, scripted_server

if TYPE_CHECKING:
    from drillbook import Drillbook, Result

pytestmark = pytest.mark.calm

NOTIFY = '[notify.webhook]\nurl_file = "webhook-url"\nsecret_file = "webhook-secret"\n\n[journal]'


def checks(result: Result) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in result.json["checks"]}


def gaps(result: Result) -> set[str]:
    """Return what must be there and is not."""
    fine = ("ok", "allowed")
    return {name for name, each in checks(result).items() if each["level"] == "must" and each["state"] not in fine}


@pytest.mark.long
def test_doctor_finds_nothing_missing_and_sends_a_test_notice(drillbook: Drillbook) -> None:
    """Pinned, with a channel, after a watch: ready; the notice is signed and arrives."""
    drillbook.make_good_live()
    trial = drillbook.trial()
    with scripted_server() as hook:
        hook.will(answer({}, 204))
        for name, content in (("webhook-url", f"{hook.url}/in"), ("webhook-secret", SECRET)):
            write_private(trial.folder / name, content)
        trial.replace((r"\[journal\]", NOTIFY))
        assert trial.run("init", "--pin").code == 0
        found = trial.run("doctor", "--send", "--json")
    assert (found.code, gaps(found)) == (0, set()), found.out
    told = checks(found)
    expected = ("token", "token_permissions", "platform", "pin", "health", "health_version", "traffic", "database")
    assert {told[name]["state"] for name in (*expected, "migrations", "stable_version", "last_watch", "hold")} == {"ok"}
    assert drillbook.good in told["health_version"]["why"]
    assert told["channel_webhook"]["why"] == "a test notice was sent just now"
    assert [verified_now(asked) for asked in hook.asked] == [True]


@pytest.mark.long
def test_doctor_without_the_platform_says_what_it_could_not_ask(drillbook: Drillbook) -> None:
    """The rest is told: health, counts, database, the journal's last watch; nothing is called missing for it."""
    trial = drillbook.trial()
    with drillbook.fault("api-down"):
        found = trial.run("doctor", "--json")
    told = checks(found)
    unmeasured = {"token", "platform", "pin", "stable_version", "hold"}
    assert {told[name]["state"] for name in unmeasured} == {"unmeasured"}
    assert {told[name]["state"] for name in ("health", "health_version", "database", "journal", "last_watch")} == {"ok"}
    assert found.code == 1
    assert gaps(found) == {"token", "platform", "pin", "stable_version", "channels"}


def test_an_application_that_does_not_name_its_version_is_told_online_and_by_doctor(drillbook: Drillbook) -> None:
    """Both say what it costs and how it is mended; `config check` goes on to answer 0 for it."""
    with scripted_server() as health:
        health.will(answer({"status": "ok", "services": {"database": {"status": "ok"}}}))
        trial = drillbook.trial().replace((r'health = \{ url = "[^"]*"', f'health = {{ url = "{health.url}/health"'))
        online, found = trial.run("config", "check", "--online"), trial.run("doctor", "--json")
        as_json = trial.run("config", "check", "--online", "--json")
    assert online.code == 0, online.err
    said = " ".join(online.out.split())
    assert "/health does not say which version answers" in said
    assert '"version": {"id": env.CF_VERSION.id}' in said
    assert as_json.json["online"]["health_version"]["state"] == "missing"
    check = checks(found)["health_version"]
    assert (check["level"], check["state"]) == ("must", "missing")
    assert "version_metadata" in check["next"]


AS_IT_IS = ("card", "config check", "db check", "deployments list", "diagnose", "runs", "secrets check", "status")
"""Commands that change nothing, or write a page on this machine: they are typed as they are said."""


@pytest.mark.long
def test_what_doctor_says_to_type_is_typed(drillbook: Drillbook) -> None:
    """What changes nothing is run, the rest with --help; a card that was never written is there after it."""
    trial = drillbook.trial()
    found = checks(trial.run("doctor", "--json"))
    assert found["card"]["next"] == "backout card --write -e production"
    said = [line for each in found.values() for line in re.split(r"; then: | && ", each["next"] or "")]
    typed = {line.partition("  #")[0] for line in said if line.startswith("backout ")}
    assert len(typed) >= 5
    for line in typed:
        words = shlex.split(line)[1:]
        more = [] if line.startswith(tuple(f"backout {name}" for name in AS_IT_IS)) else ["--help"]
        ended = trial.run(*(words[: words.index("-e")] if "-e" in words else words), *more)
        assert ended.code in (0, 1), (line, ended.err)
    assert checks(trial.run("doctor", "--json"))["card"]["state"] == "ok"
