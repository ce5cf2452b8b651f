"""What backout writes down is for its owner alone, whatever the umask is, and does not end up in a repository."""

from __future__ import annotations

import ast
import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_shell import backout
from source_trees import nodes_of

from backout.providers.files.reports import FileReports

from private import write_private
from twin_harness import ACCOUNT, TOKEN, running_api

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twin_harness import Api

SOURCE = Path(__file__).parents[2] / "src" / "backout"
GIVEN = {"CLOUDFLARE_API_TOKEN": TOKEN}


@pytest.fixture
def everybody_may() -> Iterator[None]:
    """Set the umask that takes nothing away."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    (tmp_path / "twin").mkdir()
    with running_api(tmp_path / "twin") as found:
        found.upload("fm5")
        yield found


def write_config(folder: Path, api: Api) -> None:
    folder.mkdir(mode=0o755)
    platform = (
        f'{{ provider = "cloudflare", script = "fm5", account_id = "{ACCOUNT}", api_base_url = "{api.url}/client/v4" }}'
    )
    write_private(folder / "backout.toml", f'[app]\nname = "x"\n[environments.production]\nplatform = {platform}\n')


def seen_by_others(folder: Path) -> list[str]:
    """Return the files and folders below one that somebody else may read or write."""
    return [
        f"{path.relative_to(folder)} {stat.S_IMODE(path.lstat().st_mode):04o}"
        for path in sorted(folder.rglob("*"))
        if path.lstat().st_mode & 0o077 and not path.is_symlink()
    ]


def test_reports_cards_holds_and_the_journal_are_for_their_owner(tmp_path: Path, api: Api, everybody_may: None) -> None:
    """Files, and each folder that was made for them, under a umask that forbids nothing."""
    folder = tmp_path / "app"
    write_config(folder, api)
    assert backout(folder, "card", "--write", variables=GIVEN).code == 0
    assert backout(folder, "hold", "-m", "why", variables=GIVEN).code == 0
    backout(folder, "rollback", "-m", "why", variables=GIVEN)
    FileReports(folder / ".ai" / "incidents").write("run-1", "one", "what the application said")
    assert {path.name for path in folder.iterdir()} >= {".ai", ".backout", "backout.toml"}
    assert seen_by_others(folder) == []
    (report,) = (folder / ".ai" / "incidents").iterdir()
    assert "what the application said" in report.read_text()


def test_a_card_that_was_open_to_all_is_closed(tmp_path: Path, api: Api, everybody_may: None) -> None:
    """One of an earlier version is replaced, with its mode."""
    folder = tmp_path / "app"
    write_config(folder, api)
    (folder / ".backout").mkdir(mode=0o700)
    (folder / ".backout" / "card-production.md").touch(0o666)
    assert backout(folder, "card", "--write", variables=GIVEN).code == 0
    assert seen_by_others(folder) == []


def test_git_does_not_take_what_lies_in_our_folder(tmp_path: Path, api: Api) -> None:
    """`git add -A` leaves it alone: a journal in a repository would be anybody's, and is refused."""
    folder = tmp_path / "app"
    write_config(folder, api)
    assert backout(folder, "hold", "-m", "why", variables=GIVEN).code == 0
    for words in (("init", "-q"), ("add", "-A")):
        subprocess.run(["/usr/bin/env", "git", "-C", str(folder), *words], check=True, capture_output=True)
    listed = ["/usr/bin/env", "git", "-C", str(folder), "ls-files"]
    assert subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split() == ["backout.toml"]
    assert backout(folder, "unhold", variables=GIVEN).code == 0


OPEN_TO_SOME = {
    "providers/postgres/restore/side.py", "providers/postgres/restore/wal_search.py",
    "providers/postgres/rescue/kept.py", "providers/postgres/server/template.py",
    "providers/postgres/restore/side_files.py", "providers/archive/taking.py",
    "cli/config/workflow.py",
}  # fmt: skip
"""Folders of a Postgres, which its own unprivileged account has to reach: they lie in one that is ours alone.
And one of the project's repository."""


def test_folders_are_made_in_one_place() -> None:
    """`mkdir(parents=True)` gives what lies between to everybody: whoever makes folders asks `private_folder`."""
    makers = set()
    for path in SOURCE.rglob("*.py"):
        name = str(path.relative_to(SOURCE))
        for node in nodes_of(path):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "mkdir":
                makers |= {name} if any(keyword.arg == "parents" for keyword in node.keywords) else set()
    assert {name for name in makers if not name.startswith("twin/")} - OPEN_TO_SOME == set()
