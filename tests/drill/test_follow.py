"""Guard that follows, through the real program: after a healthy watch it tells of trouble, and switches nothing."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from polling import PATIENCE_S, until
from private import write_private
from receivers import SECRET, verified_now
from scripted_server import answer, scripted_server
from streamed import await_line

if TYPE_CHECKING:
    import subprocess

    from drillbook import Drillbook
    from scripted_server import ScriptedServer

pytestmark = pytest.mark.rotating("drills", 5)

CHANNEL = '[notify.webhook]\nurl_file = "webhook-url"\nsecret_file = "webhook-secret"\n\n[journal]'


def line(process: subprocess.Popen[str], **wanted: str) -> dict[str, Any]:
    """Read the stream up to the first line that has these values."""
    read: dict[str, Any] = json.loads(await_line(process, lambda text: wanted.items() <= json.loads(text).items()))
    return read


def changes(server: ScriptedServer) -> list[dict[str, Any]]:
    """Return what was told of changes, once both have arrived, rightly signed."""
    asked = [each for each in server.asked if json.loads(each.body)["type"] == "backout.changed"]
    assert all(map(verified_now, asked))
    return [json.loads(each.body)["data"] for each in asked] if len(asked) == 2 else []


@pytest.mark.long
def test_trouble_after_a_healthy_watch_is_told_and_nothing_is_switched(drillbook: Drillbook) -> None:
    """Half of all requests fail, with no deployment to explain it: an event, a notice, and after its end one more."""
    trial = drillbook.trial()
    trial.make_live(drillbook.good)
    with scripted_server() as server:
        server.will(answer({}))
        write_private(trial.folder / "webhook-url", f"{server.url}/hook")
        write_private(trial.folder / "webhook-secret", SECRET)
        trial.replace((r"\[journal\]", CHANNEL), (r'watch = "\d+s"', 'watch = "6s"'))
        process = trial.start("guard", "--follow", "--json")
        try:
            ended = line(process, type="result")
            assert ended["action"] != "rollback", ended
            before = [each.id for each in trial.tools().deployments.history()]
            with drillbook.fault("errors", drillbook.good, share=0.5):
                began = line(process, type="event", kind="change.began")
            over = line(process, type="event", kind="change.ended")
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE_S)
        first, last = until(lambda: changes(server), 10, "both are told")
    assert (began["schema"], began["run_id"], began["step"]) == ("backout.guard/1", "", None)
    assert began["data"]["cause"] == "errors"
    assert began["data"]["version"] == drillbook.good
    assert began["data"]["share"] > 0.05
    assert "errors rose at" in began["data"]["sentence"]
    assert over["data"]["share"] < 0.05
    assert [each.id for each in trial.tools().deployments.history()] == before
    assert (first["title"], last["title"]) == (began["data"]["sentence"], over["data"]["sentence"])
    assert "backout rollback --dry-run -e production" in first["next"]
    assert first["live_version"] == drillbook.good
