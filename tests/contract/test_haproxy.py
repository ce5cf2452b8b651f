"""The commands that speak for a real HAProxy: what is live is its weights, and they outlive it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platform_schema
import pytest
from haproxy_lab import BACKEND, SCRIPT, haproxy_host

from backout.errors import ProviderUnavailable, WorldMoved
from backout.model.deployment import Share
from backout.model.version import VersionId
from backout.providers.command.platform import CommandDeployments, CommandVersions
from backout.providers.command.protocol import Reached, Request

from extent import by_extent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from haproxy_lab import HaproxyHost

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[HaproxyHost]:
    """Two versions, the first one live; nothing listens behind HAProxy."""
    with haproxy_host(tmp_path) as running:
        for number in (1, 2):
            running.add_server(f"v{number}", 20_000 + number, commit=str(number) * 40)
        open_port(running).activate("v1", message="first")
        yield running


def open_port(host: HaproxyHost) -> CommandDeployments:
    return CommandDeployments(host.make_commands())


def run_script(host: HaproxyHost, **request: object) -> dict[str, Any]:
    """Return what the script answers to a request that is typed by hand."""
    done = subprocess.run(
        [sys.executable, "-I", str(SCRIPT)], input=json.dumps(request), env=host.variables, text=True,
        capture_output=True, check=True,
    )  # fmt: skip
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def test_the_script_is_short_and_needs_nothing() -> None:
    """At most 100 lines, and only the standard library."""
    text = SCRIPT.read_text()
    assert len(text.splitlines()) <= 100
    imported = {line.split()[1] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert imported <= sys.stdlib_module_names


def test_the_schema_is_that_of_the_code() -> None:
    """`python tools/platform_schema.py > docs/platform-command.schema.json` writes it again."""
    assert json.loads((DOCS / "platform-command.schema.json").read_text()) == platform_schema.make_schema()
    page = (DOCS / "platform-command.md").read_text()
    fields = {field for shape in platform_schema.SHAPES for field in shape.__struct_fields__}
    assert [each for each in fields if f"`{each}`" not in page] == []


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_what_is_live_outlives_haproxy(host: HaproxyHost, how: signal.Signals) -> None:
    """Its weights come back from the state file, and with them the deployment."""
    made = open_port(host).deploy((Share(VersionId("v1"), 90.0), Share(VersionId("v2"), 10.0)), message="a tenth")
    host.restart(how)
    assert open_port(host).history()[0] == made
    assert "weight 0" not in host.ask(f"get weight {BACKEND}/v2")
    assert host.ask(f"get weight {BACKEND}/v2").split()[0] == "20"


@pytest.mark.long
def test_a_server_that_was_only_added_at_runtime_is_gone(host: HaproxyHost) -> None:
    """It is no version any more, and what is live is not what was made live."""
    open_port(host).activate("v2", message="second")
    del host.servers["v2"]
    host.restart()
    assert open_port(host).history() == ()
    assert [each.id for each in CommandVersions(host.make_commands()).recent()] == ["v1"]


def test_weights_that_somebody_set_are_a_deployment_of_their_own(host: HaproxyHost) -> None:
    """And void a decision that was made before; the same weights have the same id."""
    port = open_port(host)
    port.history()
    host.ask(f"set server {BACKEND}/v2 weight 100; set server {BACKEND}/v1 weight 0")
    with pytest.raises(WorldMoved, match="hand-v2"):
        port.activate("v1", message="x")
    top = open_port(host).history()[0]
    assert (top.id, top.sole) == ("hand-v2.100", "v2")
    assert open_port(host).history()[0] == top
    assert open_port(host).activate("v1", message="x").sole == "v1"


@pytest.mark.long
def test_a_switch_whose_command_was_killed_is_found(host: HaproxyHost) -> None:
    """It was written down before, and the weights say that it happened; where they do not, it did not."""
    book = Path(host.variables["HAPROXY_BOOK"])
    before = open_port(host).history()
    intended = {
        "id": "killed", "created_at": "2099-01-01T00:00:00Z", "message": "[backout r-1]",
        "shares": [{"version": "v2", "percentage": 100}],
    }  # fmt: skip
    book.write_text(json.dumps({**json.loads(book.read_text()), "intended": intended}))
    assert open_port(host).history() == before
    book.write_text(json.dumps({**json.loads(book.read_text()), "intended": intended}))
    host.ask(f"set server {BACKEND}/v2 weight 200; set server {BACKEND}/v1 weight 0")
    top = open_port(host).history()[0]
    assert (top.id, top.message) == ("killed", "[backout r-1]")


@pytest.mark.long
def test_two_at_once_and_exactly_one_is_made(host: HaproxyHost) -> None:
    """The other is told that something else is live."""
    for _ in range(by_extent(2, 20)):
        ports, ended = (open_port(host), open_port(host)), list[str]()
        for port in ports:
            port.history()

        def race(port: CommandDeployments, version: str, ended: list[str] = ended) -> None:
            try:
                ended.append(port.activate(version, message="race").id)
            except WorldMoved:
                ended.append("")

        threads = [threading.Thread(target=race, args=(port, v)) for port, v in zip(ports, ("v1", "v2"), strict=True)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        (won,) = (each for each in ended if each)
        assert open_port(host).history()[0].id == won


@pytest.mark.long
def test_a_version_is_not_placed_on_an_older_look(host: HaproxyHost) -> None:
    """As `backout conformance` asks it: beside another deployment than was looked at, at 0 % or with visitors."""
    stale, other = open_port(host), open_port(host)
    for port in (stale, other):
        port.history()
    other.activate("v1", message="a newer deployment")
    for part in (0.0, 10.0):
        with pytest.raises(WorldMoved):
            stale.deploy([Share(VersionId("v1"), 100.0 - part), Share(VersionId("v2"), part)], message="stale")
    assert [share.version for share in other.history()[0].shares] == ["v1"]
    assert [each.message for each in open_port(host).history()] == ["a newer deployment", "first"]
    stale.history()
    placed = stale.deploy([Share(VersionId("v1"), 100.0), Share(VersionId("v2"), 0.0)], message="placed")
    assert (placed.sole, placed.serves("v2")) == ("v1", False)


@pytest.mark.long
def test_a_version_is_reached_by_its_name(host: HaproxyHost) -> None:
    """In a header that the configuration of the backend obeys."""
    request = Request(protocol="backout.platform/1", command="probe", version="v2")
    assert host.make_commands().ask("probe", Reached, request).headers == {"X-Backout-Version": "v2"}


def test_a_person_may_type_the_request(host: HaproxyHost) -> None:
    """Without `if_current` it is carried out, whatever is live."""
    made = run_script(host, command="activate", version="v2", message="by hand")["deployment"]
    assert open_port(host).history()[0].id == made["id"]


@pytest.mark.long
def test_what_is_wrong_is_said(host: HaproxyHost) -> None:
    """A closed or a foreign socket, a book that is damaged."""
    book = Path(host.variables["HAPROXY_BOOK"])
    was = book.read_text()
    book.write_text(was[:-20])
    with pytest.raises(ProviderUnavailable, match=r"exit code 1: json\.decoder"):
        open_port(host).history()
    book.write_text(was)
    host.variables["HAPROXY_SOCKET"] += "-gone"
    with pytest.raises(ProviderUnavailable, match="No such file"):
        open_port(host).history()
