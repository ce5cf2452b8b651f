"""What lies in the folder of the restores may have been written by anyone: it says nothing about other folders."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from cli_shell import backout

from backout.config import Environment, load
from backout.errors import Refused, Untrusted
from backout.model.database.recovery import SideOrder
from backout.providers.postgres.restore.side import PostgresSides
from backout.providers.postgres.server.binaries import find_binaries
from backout.wiring.db.restore import make_sides

if TYPE_CHECKING:
    from pathlib import Path

GIVEN = {"DB": "postgresql://app:word@127.0.0.1:1/shop"}
CONFIG = """
[app]
name = "x"
[environments.production]
platform = { provider = "cloudflare", script = "x", account_id = "acc" }
database = { provider = "postgres", url_env = "DB" }
"""


def plant(root: Path, name: str, **changes: Any) -> Path:
    """Write what tells of a side instance, and return its folder."""
    folder = root / "sides" / name
    (folder / "data").mkdir(parents=True)
    order = msgspec.to_builtins(SideOrder(name, "b1", 1 << 24, 1, ("000000010000000000000001",)))
    laid = {"order": order | changes.pop("order", {}), "superuser": "postgres", "how": "copy", "lower": "", **changes}
    (folder / "laid.json").write_text(json.dumps(laid))
    return folder


def sides(root: Path) -> PostgresSides:
    no_backups: Any = None
    return PostgresSides(root, find_binaries(None), no_backups, lambda: "postgres")


def a_victim(folder: Path) -> Path:
    """Return a folder with something in it that belongs to the user."""
    (folder / "victim").mkdir()
    (folder / "victim" / "thesis").touch()
    return folder / "victim"


@pytest.mark.parametrize("name", ["proof", "swap-x", "other"])
def test_a_planted_instance_leads_to_the_removal_of_no_other_folder(tmp_path: Path, name: str) -> None:
    """What is removed with an instance is computed; what is left of a planted one is its own folder, which goes."""
    victim = a_victim(tmp_path)
    folder = plant(tmp_path / "restore", name, order={"place": str(victim)})
    found = sides(tmp_path / "restore")
    assert found.find(name) is None
    found.drop(name)
    assert (victim / "thesis").exists()
    assert not folder.exists()


def test_the_command_that_drops_one_removes_no_other_folder(tmp_path: Path) -> None:
    """As it is typed, with a file that no git repository holds, so that it is not refused for that."""
    victim, project = a_victim(tmp_path), tmp_path / "app"
    project.mkdir()
    (project / "backout.toml").write_text(CONFIG)
    plant(project / ".backout" / "restore" / "production", "proof", order={"place": str(victim)})
    backout(project, "db", "restore", "--drop-side", "proof", "-e", "production", "--no-commands", variables=GIVEN)
    assert (victim / "thesis").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"how": "overlay", "lower": "/etc"},
        {"how": "copy", "lower": "/etc"},
        {"how": "other"},
        {"least": {"archive_command": 1}},
        {"order": {"name": "elsewhere"}},
        {"order": {"backup": "../../b"}},
        {"order": {"wal": ["../../etc/passwd"]}},
    ],
    ids=str,
)
def test_an_instance_that_was_not_laid_out_here_is_none(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Each part that would become a path or a setting is compared with what backout itself would have written."""
    plant(tmp_path, "mine")
    assert sides(tmp_path).find("mine") is not None
    plant(tmp_path, "theirs", **changes)
    assert sides(tmp_path).find("theirs") is None


def test_an_order_for_another_place_is_refused(tmp_path: Path) -> None:
    """A plan names the place, too: it has to be the instance's own."""
    victim = a_victim(tmp_path)
    order = SideOrder("swap-x", "b1", 1 << 24, 1, (), place=str(victim))
    with pytest.raises(Refused, match="cannot stand there"):
        sides(tmp_path / "restore").start(order, lambda *_: None)
    assert (victim / "thesis").exists()


def test_a_base_that_others_could_have_unpacked_is_laid_under_nothing(tmp_path: Path) -> None:
    """It would get past the signature of a stored one: it is refused, and nothing is started on it."""
    (tmp_path / "backout.toml").write_text(CONFIG)
    (tmp_path / "backout.toml").chmod(0o644)
    bases = tmp_path / ".backout" / "restore" / "production" / "bases"
    bases.mkdir(parents=True, mode=0o700)
    (bases / "ours").mkdir(mode=0o700)
    (bases / "theirs").mkdir()
    (bases / "theirs").chmod(0o777)
    (bases / "linked").symlink_to(tmp_path)
    found = make_sides(load(Environment(GIVEN), start=tmp_path))
    found.prepare("ours", lambda *_: None)
    for name in ("theirs", "linked"):
        with pytest.raises(Untrusted, match="is not trusted"):
            found.prepare(name, lambda *_: None)
