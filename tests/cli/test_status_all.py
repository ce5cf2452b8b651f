"""`backout status` without `-e`: every environment, side by side, what needs a person first on top."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from cli_shell import backout

from backout.errors import ProviderUnavailable, Unmeasured
from backout.runbook.incident.status import read_status
from backout.runbook.incident.statuses import UNREAD, Overview, find_incident, read_all

from line import Story, roll_back
from private import write_private
from scripted_server import answer, scripted_server

if TYPE_CHECKING:
    from pathlib import Path

    from scripted_server import ScriptedServer


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """Return a World in which a bad version is live."""
    return Story(tmp_path / "journal.sqlite")


def look(story: Story) -> Overview:
    tools = story.tools()
    return Overview(read_status(tools), find_incident(tools))


def test_one_that_hangs_or_fails_delays_none_of_the_others(story: Story) -> None:
    """Each is read in a thread of its own: what is there in time is shown, the rest is named."""
    never = threading.Event()

    def hang() -> Overview:
        never.wait(60)
        raise AssertionError

    def fail() -> Overview:
        raise ProviderUnavailable("no answer")

    try:
        found = read_all({"hangs": hang, "fails": fail, "well": lambda: look(story)}, within_s=1.0)
    finally:
        never.set()
    assert list(found) == ["hangs", "fails", "well"]
    assert isinstance(found["hangs"], Unmeasured)
    assert str(found["hangs"]) == "it did not answer within 1 s"
    assert str(found["fails"]) == "no answer"
    assert isinstance(found["well"], Overview)


def test_what_needs_a_person_comes_first(story: Story) -> None:
    """Trouble, then what could not be read, then a hold or what is not finished, then what is well."""
    assert look(story).urgency == 0 < UNREAD
    roll_back(story.tools())
    story.world.clock.sleep(600)
    after = look(story)
    assert after.status.troubles == ()
    assert after.urgency > UNREAD
    assert after.incident is None


CONFIG = """[app]
name = "a"
[environments.{name}]
platform = {{ provider = "cloudflare", account_id = "a1", script = "{name}", api_base_url = "{url}" }}
"""


def write_config(folder: Path, **urls: str) -> None:
    parts = [CONFIG.format(name=name, url=url) for name, url in urls.items()]
    write_private(
        folder / "backout.toml", parts[0] + "".join(part.partition("\n")[2].partition("\n")[2] for part in parts[1:])
    )


def ask(folder: Path, *more: str) -> Any:
    return backout(folder, "status", *more, variables={"CLOUDFLARE_API_TOKEN": "canary-token"})


def refuse(server: ScriptedServer) -> ScriptedServer:
    return server.will(answer({"success": False, "errors": [{"code": 10007, "message": "no such Worker"}]}, 404))


def test_every_environment_has_a_line_and_a_record(tmp_path: Path) -> None:
    """Where none is read: all are named with the reason, and the exit code says that nothing is known."""
    with scripted_server() as server:
        refuse(server)
        write_config(tmp_path, production=server.url, staging=server.url)
        shown = ask(tmp_path, "--json")
        assert shown.code == Unmeasured.exit_code
        records = shown.json["environments"]
        assert [(each["environment"], each["live_version"]) for each in records] == [
            ("production", None),
            ("staging", None),
        ]
        assert all("no such Worker" in each["what"] for each in records)
        told = ask(tmp_path)
        assert told.out.count("not read: ") == 2
        assert "next: backout status -e production" in told.err


def test_one_environment_is_shown_as_before(tmp_path: Path) -> None:
    """With a single environment, or with -e, it is the screen of that one."""
    with scripted_server() as server:
        refuse(server)
        write_config(tmp_path, production=server.url, staging=server.url)
        assert "environments" not in ask(tmp_path, "-e", "staging", "--json").json
        write_config(tmp_path, production=server.url)
        assert ask(tmp_path, "--json").json["environment"] == "production"
