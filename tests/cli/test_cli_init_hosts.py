"""`backout init --home hosts`: a configuration for releases behind Caddy, and a unit that systemd accepts."""

from __future__ import annotations

import json
import shutil
import subprocess
import tomllib
from typing import TYPE_CHECKING

from cli_shell import backout
from hypothesis import given, settings
from hypothesis import strategies as st

from backout.model.release import Release
from backout.model.secrets import SecretValues
from backout.providers.caddy.variables import format_unit_environment
from backout.twin.hosts.caddy import find_program
from backout.wiring.units import check_unit

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = {"name": "@acme/web shop", "scripts": {"start": "node src/server.js --production"}}


def make_project(folder: Path, **changed: object) -> None:
    (folder / "package.json").write_text(json.dumps({**PACKAGE, **changed}))
    (folder / ".env.example").write_text("DATABASE_URL=\nSMTP_URL=\nJWT_SECRET=\n")
    (folder / "prisma" / "migrations").mkdir(parents=True)


def test_what_is_written_is_valid_and_the_unit_is_checked(tmp_path: Path) -> None:
    """One environment with what the folder tells; the unit by `systemd-analyze verify` where that is there."""
    make_project(tmp_path)
    done = backout(tmp_path, "init", "--home", "hosts", "--json")
    assert done.code == 0
    found = tomllib.loads((tmp_path / "backout.toml").read_text())["environments"]["production"]
    assert found["platform"]["caddy"] == {
        "releases": "/srv/acme-web-shop/releases",
        "access_log": "/var/log/caddy/acme-web-shop.log",
        "ports": [9100, 9199],
        "start": "systemctl --user enable --now acme-web-shop@{release}",
        "stop": "systemctl --user disable --now acme-web-shop@{release}",
    }
    assert found["services"] == {"database": "critical", "email": "degradable"}
    assert found["secrets"]["required"] == ["DATABASE_URL", "SMTP_URL", "JWT_SECRET"]
    assert (found["database"]["migrations"], found["guard"]["mode"]) == ("prisma", "observe")
    unit = done.json["unit"]
    assert isinstance(unit, dict)
    text = (tmp_path / "backout-hosts" / "acme-web-shop@.service").read_text()
    assert unit["text"] == text
    assert "ExecStart=/usr/bin/env node src/server.js --production\n" in text
    assert unit["checked"] is (True if shutil.which("systemd-analyze") else None)
    assert "not run here" in done.err
    assert backout(tmp_path, "config", "check").code == 0
    route = backout(tmp_path, "release", "route", "--json").json["route"]
    assert "/srv/acme-web-shop/releases/live/000" in json.dumps(route)


def test_a_whole_configuration_is_one_that_caddy_takes(tmp_path: Path) -> None:
    """For a name by HTTPS, for an address by HTTP; what is neither is an error."""
    make_project(tmp_path)
    backout(tmp_path, "init", "--home", "hosts")
    configuration = tmp_path / "backout.toml"
    configuration.write_text(configuration.read_text().replace("/srv/acme-web-shop", "srv").replace("/var/log", "log"))
    (tmp_path / "srv" / "releases").mkdir(parents=True)
    for site, listens in (("shop.example.com", [":443"]), ("127.0.0.1:8080", ["127.0.0.1:8080"])):
        printed = backout(tmp_path, "release", "route", "--site", site).out
        assert json.loads(printed)["apps"]["http"]["servers"]["site"]["listen"] == listens
        (tmp_path / "caddy.json").write_text(printed)
        words = (find_program(), "validate", "--config", "caddy.json")
        environment = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
        assert (done.returncode, "Valid configuration" in done.stdout) == (0, True), done.stderr
    wrong = backout(tmp_path, "release", "route", "--site", "https://shop.example.com")
    assert (wrong.code, "neither a name nor HOST:PORT" in wrong.err) == (2, True)


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    """A dry run writes nothing; a unit that was edited stays, and is what is checked."""
    make_project(tmp_path, name="shop", scripts={"start": "set -e; node server.js", "build": "true"})
    shown = backout(tmp_path, "init", "--home", "hosts", "--dry-run").out
    assert ("ExecStart=/usr/bin/env npm run start" in shown, (tmp_path / "backout.toml").exists()) == (True, False)
    unit = tmp_path / "backout-hosts" / "shop@.service"
    unit.parent.mkdir()
    unit.write_text("[Service]\nExecStart=/usr/bin/env node mine.js\nRestart=sometimes\n")
    first = backout(tmp_path, "init", "--home", "hosts")
    assert (first.code, "mine.js" in unit.read_text()) == (0, True)
    assert "stays as it is" in first.err
    assert ("Failed to parse Restart" in first.err) is bool(shutil.which("systemd-analyze"))
    again = backout(tmp_path, "init", "--home", "hosts")
    assert (again.code, "is there already" in again.err) == (3, True)
    assert backout(tmp_path, "init", "--home", "hosts", "--force").code == 0
    assert "mine.js" not in unit.read_text()


def test_without_a_worker_the_other_home_is_named(tmp_path: Path) -> None:
    """Where there is no wrangler configuration."""
    assert "backout init --home hosts" in backout(tmp_path, "init").err


def test_a_machine_without_systemd_says_that_nothing_was_checked(tmp_path: Path) -> None:
    """No claim is made of a unit that nobody looked at."""
    make_project(tmp_path)
    done = backout(tmp_path, "init", "--home", "hosts", variables={"PATH": str(tmp_path)})
    assert "not checked (there is no systemd-analyze here), and not run here" in done.err


def test_a_wrong_unit_is_found() -> None:
    """What `systemd-analyze` says, without the folder that it was checked in."""
    found = check_unit("[Service]\nExecStart=/nonexistent/node\n", "a@.service")
    if not shutil.which("systemd-analyze"):
        assert found is None
        return
    assert found is not None
    assert any("/nonexistent/node is not executable" in line for line in found)


@settings(max_examples=25)
@given(st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True), st.text(st.characters(
    exclude_characters="\0", exclude_categories=("Cs",)), max_size=12), max_size=3))  # fmt: skip
def test_a_unit_reads_the_variables_as_they_are(values: dict[str, str]) -> None:
    """Whatever is in them: read by a POSIX shell, whose dialect EnvironmentFile= has."""
    values = {f"A{name}": value for name, value in values.items()}
    release = Release("06eb2307cfc428cb", 1, 0.0, "", "127.0.0.1:9107")
    text = format_unit_environment(release, SecretValues(values))
    names = [*values, "PORT", "RELEASE"]
    shown = "".join(f'printf "%s\\0" "${name}"; ' for name in names)
    done = subprocess.run(["/bin/sh", "-c", f"{text}{shown}"], capture_output=True, check=True, env={})
    assert done.stdout.decode().split("\0")[:-1] == [*values.values(), "9107", "06eb2307cfc428cb"]
