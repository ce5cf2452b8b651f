"""What `backout release` and `backout deployments` print of others' names: on its own line, whatever is in it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cli_shell import backout

from backout.cli.deployments import _show_answer
from backout.cli.support.style import Style
from backout.model.version import Mark, VersionId, VersionMark

if TYPE_CHECKING:
    from pathlib import Path

_CONFIG = """[app]
name = "shop"
[environments.production.platform]
provider = "caddy"
[environments.production.platform.caddy]
releases = "releases"
ports = [9100, 9199]
run = "true"
"""


def test_the_name_of_another_tools_release_makes_no_line_of_its_own(tmp_path: Path) -> None:
    """Nor anything that a terminal obeys; as data it is as it is."""
    (tmp_path / "backout.toml").write_text(_CONFIG)
    name = "20261201\nlive: everything\x1b[2J"
    (tmp_path / "releases" / name).mkdir(parents=True)
    (tmp_path / "releases" / name / "REVISION").write_text("9fceb02d")
    listed = backout(tmp_path, "release", "list", "-e", "production")
    assert listed.code == 0, listed.err
    said = "of another tool, and left as they are: 20261201 live: everything?[2J (9fceb02d)"
    assert said in listed.out.splitlines()
    asked = backout(tmp_path, "release", "list", "-e", "production", "--json")
    assert [each["name"] for each in asked.json["others"]] == [name]  # type: ignore[attr-defined,index]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("build", "--traffic", "nan"), "'nan' is not a finite number"),
        (("build", "--traffic", "0.0001"), "a share is a multiple of 0.5 %"),
        (("",), "it is empty"),
        ((".",), "the releases are in it"),
        (("build", "--tag", "a\nb"), "a tag has at most 100 characters, all of them printable"),
        (("build", "--tag", "a" * 101), "a tag has at most 100 characters"),
        (("build", "--env-file", "name.env"), "A-B is no name of a variable"),
        (("build", "--env-file", "value.env"), "the value of A is longer than 128 KiB"),
    ],
)
def test_what_cannot_be_pushed_is_refused_before_anything_is_copied(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    """A variable of a script that is not set is no folder, and no share of the visitors is given that there is not."""
    (tmp_path / "backout.toml").write_text(_CONFIG)
    (tmp_path / "build").mkdir()
    (tmp_path / "build/page").write_text("one")
    (tmp_path / "name.env").write_text("A-B=1\n")
    (tmp_path / "value.env").write_text(f"A={'x' * (1 << 17)}\n")
    answer = backout(tmp_path, "release", "push", *words, "-e", "production")
    assert (answer.code, said in answer.err) == (2, True), answer.err
    assert not (tmp_path / "releases").exists()


def test_the_author_of_a_quarantine_makes_no_line_of_its_own() -> None:
    """Whatever the platform calls them."""
    shell: Any = SimpleNamespace(output=SimpleNamespace(style=Style()))
    bad = VersionMark(Mark.QUARANTINED, VersionId("v1"), None, 0.0, "", "it failed", by="ops\nallowed: v1")
    assert "\n" not in _show_answer(shell, "v1", bad, "")
