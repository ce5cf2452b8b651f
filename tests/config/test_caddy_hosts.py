"""Mistakes in `platform.caddy.hosts`: each is named, before anything is asked of a host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backout import config
from backout.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

START = 'start = "systemctl start shop@{release}"\nstop = "systemctl stop shop@{release}"\n'
ENVIRONMENT = """[environments.{name}.platform]
provider = "caddy"
[environments.{name}.platform.caddy]
releases = "{releases}"
{run}[environments.{name}.platform.caddy.hosts]
{hosts}
"""


def load(folder: Path, *environments: str) -> None:
    """Load a configuration with these environments."""
    (folder / "backout.toml").write_text('[app]\nname = "shop"\n' + "".join(environments))
    config.load(config.Environment(), start=folder, environment="production")


def write(hosts: str, *, run: str = START, releases: str = "/srv/shop/releases", name: str = "production") -> str:
    """Return an environment."""
    return ENVIRONMENT.format(name=name, releases=releases, run=run, hosts=hosts)


TWO = 'web1 = { ssh = "deploy@web1" }\nweb2 = { ssh = "web2", ports = [9200, 9299] }'


def test_hosts_behind_ssh_are_read(tmp_path: Path) -> None:
    """Also those of another environment with the same folder on other hosts."""
    load(tmp_path, write(TWO), write('web1 = { ssh = "stage1" }', name="staging"))


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (write(TWO, run='run = "node server.js"\n'), "hosts behind ssh need start and stop"),
        (write(TWO, releases="releases"), "expected an absolute path"),
        (write('a = { ssh = "web1" }\nb = { ssh = "web1" }'), "the same folder on the same host"),
        (write('a = { ssh = "-oProxyCommand=evil" }'), "hosts.a.ssh"),
        (write('a = { ssh = "web1 rm" }'), "hosts.a.ssh"),
        (write(TWO) + write('x = { ssh = "web2" }', name="staging"), "the same folder of releases"),
    ],
)
def test_each_mistake_is_named(tmp_path: Path, environment: str, said: str) -> None:
    """With its key, and what is expected."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, environment)
    assert said in "\n".join(caught.value.mistakes)
