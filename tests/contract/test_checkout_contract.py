"""Port Checkout on real git: what HEAD contains, and when nothing is concluded."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from backout.providers.git.checkout import GitCheckout

from polling import PATIENCE_S

if TYPE_CHECKING:
    from pathlib import Path

GIT = shutil.which("git") or "git"
IDENTITY = ("-c", "user.name=dev", "-c", "user.email=dev@example.com", "-c", "commit.gpgsign=false")


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [GIT, *IDENTITY, "-C", str(folder), *words], check=True, capture_output=True, text=True, timeout=PATIENCE_S
    )
    return done.stdout.strip()


def commit(folder: Path, name: str) -> str:
    """Return the id of a new commit."""
    git(folder, "commit", "-q", "--allow-empty", "-m", name)
    return git(folder, "rev-parse", "HEAD")


def test_head_contains_what_it_descends_from(tmp_path: Path) -> None:
    """Itself and its ancestors, also by a prefix and from a folder below; not what came later or elsewhere."""
    git(tmp_path, "init", "-q", "-b", "main")
    first, second = commit(tmp_path, "one"), commit(tmp_path, "two")
    (tmp_path / "app").mkdir()
    checkout = GitCheckout(tmp_path / "app")
    assert [checkout.contains(sha) for sha in (first, second, first[:8])] == [True, True, True]
    git(tmp_path, "checkout", "-q", "--detach", first)
    assert [checkout.contains(sha) for sha in (first, second)] == [True, False]
    assert checkout.contains("f" * 40) is False


def test_a_shallow_clone_does_not_know_the_past(tmp_path: Path) -> None:
    """What it has is contained; what it does not have may be."""
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    origin.mkdir()
    git(origin, "init", "-q", "-b", "main")
    first, second = commit(origin, "one"), commit(origin, "two")
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{origin}", str(clone))
    checkout = GitCheckout(clone)
    assert (checkout.contains(second), checkout.contains(first)) == (True, None)


def test_nothing_is_concluded_without_a_working_copy_or_a_commit(tmp_path: Path) -> None:
    """No repository, no commit yet, no such folder, no commit id."""
    assert GitCheckout(tmp_path).contains("a" * 40) is None
    assert GitCheckout(tmp_path / "gone").contains("a" * 40) is None
    git(tmp_path, "init", "-q")
    assert GitCheckout(tmp_path).contains("a" * 40) is None
    commit(tmp_path, "one")
    for text in ("", "--all", "HEAD", "v1.2", "abc"):
        assert GitCheckout(tmp_path).contains(text) is None


def test_no_hook_runs(tmp_path: Path) -> None:
    """A repository's own programs are not started by asking."""
    git(tmp_path, "init", "-q")
    sha = commit(tmp_path, "one")
    spy = tmp_path / "spy"
    spy.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    spy.chmod(0o755)
    git(tmp_path, "config", "core.fsmonitor", str(spy))
    git(tmp_path, "config", "core.pager", str(spy))
    assert GitCheckout(tmp_path).contains(sha) is True
    assert not (tmp_path / "ran").exists()


def partial(folder: Path, url: str, *settings: tuple[str, str]) -> None:
    """Make a repository a partial clone: what it does not have is fetched from `url` when it is asked for."""
    git(folder, "init", "-q", "-b", "main")
    commit(folder, "one")
    promised = [("remote.origin.url", url), ("remote.origin.promisor", "true"), ("extensions.partialClone", "origin")]
    for key, value in (("core.repositoryFormatVersion", "1"), *promised, *settings):
        git(folder, "config", key, value)


DOORS = {
    "core.sshCommand": ("ssh://example.invalid/x", "core.sshCommand"),
    "the remote's uploadpack": ("file:///", "remote.origin.uploadpack"),
    "core.gitProxy": ("git://example.invalid/x", "core.gitProxy"),
    "core.fsmonitor": ("file:///", "core.fsmonitor"),
}


@pytest.mark.parametrize("door", list(DOORS))
def test_no_program_that_a_repository_names_is_run(tmp_path: Path, door: str) -> None:
    """A stranger's `.git/config`: git itself would fetch what is missing, by a program that it names there."""
    program, trace = tmp_path / "program", tmp_path / "was-run"
    program.write_text(f"#!/bin/sh\ntouch {trace}\nexit 1\n")
    program.chmod(0o755)
    url, key = DOORS[door]
    folder = tmp_path / "clone"
    folder.mkdir()
    partial(folder, url, (key, str(program)))
    assert GitCheckout(folder).contains("f" * 40) is not True
    assert not trace.exists()


def test_git_gets_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the process holds, its child git is given a few variables."""
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\nenv > {tmp_path}/env\n")
    fake.chmod(0o755)
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "canary-token")
    monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
    GitCheckout(tmp_path).contains("f" * 40)
    seen = (tmp_path / "env").read_text()
    assert "canary-token" not in seen
    assert "GIT_NO_LAZY_FETCH=1" in seen
