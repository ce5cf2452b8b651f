"""The lines that a person types instead of backout, run by a real shell with hostile names."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backout.config import Environment, load
from backout.model.release import ReleaseNote
from backout.model.secrets import SecretValues
from backout.providers import line_templates
from backout.providers.caddy import lines as caddy_lines
from backout.providers.caddy.processes import put_in
from backout.providers.caddy.releases import ReleaseFolder
from backout.providers.cloudflare.lines import Place, Sources, make_card_lines, make_equivalents
from backout.providers.command.lines import Lines
from backout.wiring.lines import make_card_lines as make_all_card_lines
from backout.wiring.lines import make_equivalents as make_lines

from polling import PATIENCE_S

if TYPE_CHECKING:
    from backout.model.incident.card import CardLines
    from backout.model.plan import Equivalents

HOSTILE = 'a\'b "c" $(touch mine) `touch mine`; touch mine #\\'
STUB = f"""#!{sys.executable}
import json, os, sys
piped = sys.stdin.read() if "@-" in sys.argv else ""
print(json.dumps({{"argv": sys.argv[1:], "stdin": piped}}))
"""


@pytest.fixture
def stubs(tmp_path: Path) -> Path:
    """Return a folder whose curl and npx print what they were called with."""
    for name in ("curl", "npx", "psql"):
        (tmp_path / name).write_text(STUB)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def typed(stubs: Path, line: str) -> list[dict[str, object]]:
    """Type the line, and return what was called."""
    return [json.loads(each) for each in run_line(stubs, line).splitlines()]


def run_line(stubs: Path, line: str) -> str:
    """Type the line in a shell whose variables hold a secret, and return what it prints."""
    variables = {"PATH": f"{stubs}:/usr/bin:/bin", "HEALTH": "canary $(x) %s", "OTHER": "canary2"}
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
        env=variables,
        cwd=stubs,
    )
    assert not (stubs / "mine").exists(), line
    return done.stdout


def place(script: str = "app") -> Place:
    """Return a place with a public header and two secret ones."""
    return Place(
        "https://api.example.com/client/v4",
        "account",
        script,
        f"https://app.example.com/health?x={HOSTILE}",
        {"X-Plain": HOSTILE},
        {"Authorization": "HEALTH", "X-Other%": "OTHER"},
    )


def test_secret_headers_reach_curl_through_its_standard_input(stubs: Path) -> None:
    """A header's secret value stands in no argument: everybody on the host can read those."""
    (called,) = typed(stubs, make_equivalents(place()).health)
    assert called["stdin"] == "Authorization: canary $(x) %s\nX-Other%: canary2\n"
    argv = called["argv"]
    assert isinstance(argv, list)
    assert argv[-1] == f"https://app.example.com/health?x={HOSTILE}"
    assert f"X-Plain: {HOSTILE}" in argv
    assert "canary" not in json.dumps(argv)


def test_hostile_names_stay_one_word(stubs: Path) -> None:
    """The Worker's name and the health URL, in every line of a plan and of the card."""
    lines = make_equivalents(place(HOSTILE))
    (status,) = typed(stubs, lines.live)
    assert status["argv"] == ["wrangler", "deployments", "status", "--name", HOSTILE]
    card = make_card_lines(place(HOSTILE), Sources(token_env="T"))
    for line in (*card.health, *(each for each in card.secrets if each.startswith("npx"))):
        assert typed(stubs, line)


def test_a_header_is_never_taken_for_the_place_of_the_version(stubs: Path) -> None:
    """Whatever it is called."""
    asked = Place("https://api.example.com", "account", "app", "https://app.example.com/health", {"X-OVERRIDE": "{1}"})
    (_, called) = typed(stubs, make_equivalents(asked).prove.format(version="v2", leaving="v1"))
    assert called["argv"] == [
        *("-sS", "-m", "10", "-H", "X-OVERRIDE: {1}"),
        *("-H", 'Cloudflare-Workers-Version-Overrides: app="v2"', "https://app.example.com/health"),
    ]


HOST = "{0} of $(touch mine)'s"
"""A host and its file as nobody calls one; in templates braces have a meaning of their own."""


def add_ssh(stubs: Path) -> None:
    """Add an ssh that runs here what is typed for that host, with that file."""
    wanted = shlex.quote(f"-F {HOST} {HOST}")
    (stubs / "ssh").write_text(f'#!/bin/sh\n[ "$1 $2 $3" = {wanted} ] || exit 9\nshift 3\nexec /bin/sh -c "$1"\n')
    (stubs / "ssh").chmod(0o755)


@pytest.mark.parametrize("ssh", ["", HOST])
def test_the_command_of_job_workers_is_typed_as_backout_runs_it(stubs: Path, ssh: str) -> None:
    """Word by word, with the release's own port and folder."""
    add_ssh(stubs)
    folder = ReleaseFolder(stubs / "re{leases} $(touch mine)'s", (9100, 9199))
    folder.prepare()
    (stubs / "code").mkdir()
    (stubs / "code/page").write_text("x")
    release = folder.push(stubs / "code", ReleaseNote(), SecretValues({}), 1.0)
    command = "npx 'a b' {release} {port} at:{port}/{release}! {folder} '{\"port\": {port}}' ''"
    place = caddy_lines.Place(folder.folder, ssh, HOST if ssh else "")
    asked = line_templates.HealthQuestion("https://shop.example.com/{health}")
    lines = caddy_lines.make_equivalents((place,), asked, (command, command))
    expected = [put_in(word, folder, release) for word in shlex.split(command)][1:]
    assert f"at:{release.address.partition(':')[2]}/{release.id}!" in expected
    for line in (lines.stop_jobs, lines.start_jobs):
        (called,) = typed(stubs, line.format(version=release.id))
        assert called["argv"] == expected


@pytest.mark.parametrize("ssh", ["", HOST])
def test_braces_in_names_stay_as_they_are_behind_caddy(stubs: Path, ssh: str) -> None:
    """In each line of a plan and of the card; templates are filled in as the plan does it."""
    add_ssh(stubs)
    releases = stubs / "re{leases} $(touch mine)'s"
    alone = releases / "v1/alone"
    alone.mkdir(parents=True)
    (alone / "deployment").write_text("v1-by-hand")
    (alone / "000").write_text("127.0.0.1:9100")
    (releases / "ledger.jsonl").touch()
    place = caddy_lines.Place(releases, ssh, HOST if ssh else "")
    asked = line_templates.HealthQuestion("https://shop.example.com/{health}?{a}")
    lines = caddy_lines.make_equivalents((place,), asked)
    card = caddy_lines.make_card_lines((place,), asked)
    for line in (lines.activate, *card.deploy):
        run_line(stubs, line.format(version="v1", message="''", words="", shares="", text=""))
        assert (releases / "live").readlink().name == "alone"
    for line in (lines.live, *card.live):
        assert run_line(stubs, line) in ("", "v1-by-hand", "v1-by-hand\n")
    (called,) = typed(stubs, lines.prove.format(version="v1", leaving="v0"))
    address = "http://127.0.0.1:9100/{health}?{a}" if ssh else "https://shop.example.com/{health}?{a}"
    assert address in called["argv"]  # type: ignore[operator]


_HOSTS = """[app]
name = "shop"
[environments.production.health]
url = "https://shop.example.com/health"
headers = { X-Plain = "plain" }
headers_env = { Authorization = "HEALTH", "X-Other%" = "OTHER" }
[environments.production.platform]
provider = "caddy"
[environments.production.platform.caddy]
releases = "releases"
ports = [9100, 9199]
start = "true"
stop = "true"
jobs = { start = "curl {port}", stop = "curl {port}", show = "true" }
"""
_SSH = '[environments.production.platform.caddy.hosts.web1]\nssh = "web1"\n'
_COMMANDS = """[environments.production.platform]
provider = "command"
command = { history = ["true"], current = ["true"], activate = ["true"] }
"""


def write_lines(stubs: Path, more: str = "", text: str = _HOSTS) -> tuple[Equivalents, CardLines]:
    """Return the lines of plans and of the card, as a configuration has them; ssh runs here what it is told."""
    (stubs / "ssh").write_text('#!/bin/sh\nfor line; do :; done\nexec /bin/sh -c "$line"\n')
    (stubs / "ssh").chmod(0o755)
    (stubs / "backout.toml").write_text(text.replace('"releases"', json.dumps(str(stubs / "releases"))) + more)
    loaded = load(Environment({}), start=stubs, environment="production")
    return make_lines(loaded), make_all_card_lines(loaded)


@pytest.mark.parametrize("home", ["host", "host behind ssh", "commands"])
def test_the_health_line_sends_the_configured_headers_on_every_platform(stubs: Path, home: str) -> None:
    """Secret ones through its standard input; of a release at 0 % as well, on this host and on another one."""
    (stubs / "releases/v1/alone").mkdir(parents=True)
    (stubs / "releases/v1/alone/000").write_text("127.0.0.1:9100")
    text = _HOSTS.partition("[environments.production.platform]")[0] + _COMMANDS if home == "commands" else _HOSTS
    lines, card = write_lines(stubs, _SSH if home == "host behind ssh" else "", text)
    prove = lines.prove.format(version="v1", leaving="v0")
    assert bool(prove) == (home != "commands")
    for line in (lines.health, *card.health, *([prove] if prove else ())):
        (called,) = typed(stubs, line)
        assert called["stdin"] == "Authorization: canary $(x) %s\nX-Other%: canary2\n"
        assert "X-Plain: plain" in called["argv"]  # type: ignore[operator]
        assert "canary" not in json.dumps(called["argv"])


@pytest.mark.parametrize("more", ["", _SSH], ids=["here", "behind ssh"])
def test_no_line_makes_a_release_live_or_asks_one_that_is_not_there(stubs: Path, more: str) -> None:
    """A name that was mistyped, or pruned since: visitors stay where they are, and nothing else is asked instead."""
    releases = stubs / "releases"
    (releases / "v1/alone").mkdir(parents=True)
    (releases / "live").symlink_to("v1/alone")
    lines, card = write_lines(stubs, more)
    templates = (*card.deploy, *card.put_back, lines.activate, lines.prove, lines.stop_jobs, lines.start_jobs)
    ghost = {"version": "v2", "deployment": "v2", "leaving": "v1", "message": "''"}
    for line in (*(each.format(**ghost) for each in templates), lines.page):
        with pytest.raises(subprocess.CalledProcessError):
            typed(stubs, line)
        assert (releases / "live").readlink() == Path("v1/alone"), line


def test_a_line_that_was_interrupted_does_not_have_the_next_one_switch_to_its_release(stubs: Path) -> None:
    """Its link is still there, and `ln` would lay the next one into the folder that it leads to."""
    releases = stubs / "releases"
    for release in ("v1", "v2"):
        (releases / release / "alone").mkdir(parents=True)
    (releases / ".by-hand").symlink_to("v1/alone")
    run_line(stubs, write_lines(stubs)[0].activate.format(version="v2"))
    assert (releases / "live").readlink() == Path("v2/alone")
    assert not list((releases / "v1/alone").iterdir())


def test_a_folder_is_never_taken_for_the_place_of_the_version(stubs: Path) -> None:
    """Of the team's own commands, which run there."""
    (stubs / "VERSION {0}").mkdir()
    lines = Lines(
        {"activate": ("cat",)}, {"MODE": "{}"}, line_templates.HealthQuestion(), folder=str(stubs / "VERSION {0}")
    )
    (request,) = typed(stubs, lines.list_equivalents().activate.format(version="v1", message="''"))
    assert request["version"] == "v1"
