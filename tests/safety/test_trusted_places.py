"""What lies in a place of backout's own is backout's only if no one else could have put it there."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from cli_shell import backout

from extent import long
from vendor_lab import LIVE, ORGANIZATION, PROJECT, TOKEN, Neon, served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cli_shell import Answer

SOMEBODY = 1234
GIVEN = {
    "DB": "postgresql://app:word@127.0.0.1:1/shop",
    "VENDOR_TOKEN": TOKEN,
    "CLOUDFLARE_API_TOKEN": "canary-token-of-the-platform",
}
CONFIG = """
[app]
name = "x"
[environments.production]
platform = {{ provider = "cloudflare", script = "x", account_id = "acc", api_base_url = "http://127.0.0.1:1/v4" }}
[environments.production.database]
provider = "postgres"
url_env = "DB"
{more}
"""
MANAGED = f"""managed = {{{{ provider = "neon", project = "{PROJECT}", branch = "{LIVE}", \
organization = "{ORGANIZATION}", api_base_url = "{{url}}/api/v2", token_env = "VENDOR_TOKEN" }}}}"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="NOT SHOWN: only root can give a file to somebody else")

USED_BY = {
    "environments.*.database.backup.directory": (".backout/backups/production", ("db", "backups", "list")),
    "beside journal.path": (".backout/restore/production", ("db", "restore", "--list")),
    "incidents.directory": (".ai/incidents", ("incident", "list")),
    "incidents.runbook": (".ai/runbook-production.md", ("runbook",)),
}
"""Places that only some commands use, and one of these. The card is below, the records in test_trusted_files.py."""


def project(folder: Path, more: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "backout.toml").write_text(CONFIG.format(more=more))
    (folder / "backout.toml").chmod(0o644)
    return folder


def typed(folder: Path, *words: str) -> Answer:
    return backout(folder, *words, "-e", "production", variables=GIVEN)


def committed(folder: Path) -> None:
    git = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example.com"]
    for words in (["init", "-q"], ["add", "-f", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], check=True, capture_output=True)


def a_link(folder: Path, place: Path) -> str:
    (folder.parent / "elsewhere").mkdir()
    place.symlink_to(folder.parent / "elsewhere")
    return "it is a symbolic link"


def a_link_above(folder: Path, place: Path) -> str:
    place.parent.rmdir()
    (folder.parent / "elsewhere" / place.name).mkdir(parents=True)
    place.parent.symlink_to(folder.parent / "elsewhere")
    return "it is a symbolic link"


def everybodys(_folder: Path, place: Path) -> str:
    place.mkdir()
    place.chmod(0o777)
    return "everyone on this machine may write it"


def somebodys(_folder: Path, place: Path) -> str:
    place.mkdir()
    os.chown(place, SOMEBODY, SOMEBODY)
    return "it belongs to uid 1234"


def kept_in_git(folder: Path, place: Path) -> str:
    (place / "below").mkdir(parents=True, mode=0o700)
    (place / "below" / "file").touch(mode=0o600)
    committed(folder)
    return "the git repository holds it"


MAKES = (a_link, a_link_above, everybodys, somebodys, kept_in_git)
PLACES = [
    pytest.param(
        key,
        make,
        marks=[
            *([needs_root] if make is somebodys else []),
            *([] if number % len(USED_BY) == place else [pytest.mark.long]),
        ],
    )
    for place, key in enumerate(USED_BY)
    for number, make in enumerate(MAKES)
]
"""Every way at every place; in `make test` each way at one, and each place with one at least."""


@pytest.mark.parametrize(("key", "make"), PLACES)
def test_a_place_that_a_repository_or_somebody_else_brought_is_not_used(
    tmp_path: Path, key: str, make: Callable[[Path, Path], str]
) -> None:
    """By no command that uses it: exit 78, with what to type. A repository may hold reports, and the runbook."""
    (place, words), folder = USED_BY[key], project(tmp_path / "app")
    (folder / place).parent.mkdir(parents=True, mode=0o700)
    assert typed(folder, *words).code not in {2, 78}, "it is not there yet"
    why = make(folder, folder / place)
    found = typed(folder, *words, "--json")
    if key in ("incidents.directory", "incidents.runbook") and make is kept_in_git:
        assert found.code != 78, found.err
        return
    assert found.code == 78, found.err
    assert why in found.json["mistakes"][0]  # type: ignore[index]
    assert str(found.json["hint"]).startswith(("mv ", "chmod ", "chown ", "git rm --cached "))


def test_planted_backups_are_used_by_no_command(tmp_path: Path) -> None:
    """Neither listed, nor proved, restored, checked or taken into account; nothing of them is unpacked."""
    folder = project(tmp_path / "app")
    (folder / ".backout").mkdir(mode=0o700)
    kept_in_git(folder, folder / ".backout" / "backups" / "production")
    for words in (
        ("backups", "list"), ("backups", "prove"), ("backups", "verify"), ("backup",), ("dumps", "list"), ("dump",),
        ("restore", "latest", "--side"), ("restore", "--list"), ("wal", "status"),
    ):  # fmt: skip
        found = typed(folder, "db", *words, "--no-commands")
        assert found.code == 78, (words, found.err)
        assert "the git repository holds it" in found.err, words
    assert not (folder / ".backout" / "restore").exists()


def test_backups_on_another_disk_are_used(tmp_path: Path) -> None:
    """A folder elsewhere that is ours, through a link of ours: as ever. One that others may write is not."""
    (tmp_path / "disk").mkdir(mode=0o755)
    (tmp_path / "mnt").symlink_to(tmp_path / "disk")
    folder = project(tmp_path / "app", f'backup = {{ directory = "{tmp_path}/mnt/kept" }}')
    committed(folder)
    (tmp_path / "disk" / "kept" / "production").mkdir(parents=True)
    assert typed(folder, "db", "backups", "list").code != 78
    (tmp_path / "disk" / "kept").chmod(0o777)
    assert typed(folder, "db", "backups", "list").code == 78


def test_our_own_places_are_used_where_the_project_is_a_submodule(tmp_path: Path) -> None:
    committed(project(tmp_path / "theirs"))
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "README").touch()
    committed(whole)
    git = ["git", "-C", str(whole), "-c", "protocol.file.allow=always"]
    subprocess.run([*git, "submodule", "add", "-q", "../theirs", "app"], check=True, capture_output=True)
    for place, words in USED_BY.values():
        (whole / "app" / place).mkdir(parents=True, mode=0o700)
        assert typed(whole / "app", *words).code != 78, words


# --- the card --------------------------------------------------------------------------------------------------------


def a_committed_card(folder: Path, card: Path) -> None:
    card.write_text("# go back to 666\n")
    committed(folder)


def a_linked_card(folder: Path, card: Path) -> None:
    (folder / "theirs.md").write_text("# go back to 666\n")
    card.symlink_to("../theirs.md")


def a_card_of_everybody(_folder: Path, card: Path) -> None:
    card.write_text("# go back to 666\n")
    card.chmod(0o666)


@pytest.mark.parametrize(
    ("has_file", "make"),
    [
        (True, a_committed_card),
        (False, a_linked_card),
        (False, a_card_of_everybody),
        long(False, a_committed_card),
        long(True, a_linked_card),
        long(True, a_card_of_everybody),
    ],
)
def test_a_card_that_was_not_written_here_is_not_told_as_ours(
    tmp_path: Path, make: Callable[[Path, Path], None], has_file: bool
) -> None:
    """Panic and card go on, say that they do not use it, and show nothing of it; doctor names it."""
    folder = project(tmp_path / "app")
    (folder / ".backout").mkdir(mode=0o700)
    make(folder, folder / ".backout" / "card-production.md")
    if not has_file:
        (folder / "backout.toml").write_text("nothing that can be read")
    for words in (("panic",), ("card",)):
        found = typed(folder, *words)
        told = " ".join((found.out + found.err).split())
        assert "card-production.md is not trusted" in told, told
        assert "written when all was well" not in told
        assert "go back to 666" not in told
        assert "npx wrangler" in told
    if has_file:
        checks = typed(folder, "doctor", "--json").json["checks"]
        assert isinstance(checks, list)
        assert any("card-production.md is not trusted" in str(each) for each in checks)


def test_a_card_of_ours_is_told_as_ever(tmp_path: Path) -> None:
    folder = project(tmp_path / "app")
    committed(folder)
    (folder / ".backout").mkdir(mode=0o700)
    (folder / ".backout" / "card-production.md").write_text("# a card\n")
    found = typed(folder, "panic")
    assert "the card, written when all was well" in found.err
    assert "not trusted" not in found.err


# --- files of fixed names --------------------------------------------------------------------------------------------


@pytest.fixture
def neon() -> Iterator[str]:
    with served(Neon()) as url:
        yield url


@pytest.mark.parametrize("kept", [True, False])
def test_the_password_of_a_branch_is_written_through_no_link(tmp_path: Path, neon: str, kept: bool) -> None:
    """Neither through one that the repository holds, nor one beside it; and what it leads to stays as it is."""
    folder, target = project(tmp_path / "app", MANAGED.format(url=neon)), tmp_path / "target"
    target.write_text("as it was")
    (folder / ".backout").mkdir(mode=0o700)
    (folder / ".backout" / "main.pg_service.conf").symlink_to(target)
    if kept:
        committed(folder)
    assert typed(folder, "db", "branch", "look", "main").code == 78
    assert target.read_text() == "as it was"
    (folder / ".backout" / "main.pg_service.conf").unlink()
    (folder / "elsewhere").symlink_to(target)
    assert typed(folder, "db", "branch", "look", "main", "--to", "elsewhere").code == 78
    assert target.read_text() == "as it was"
