"""`backout recover` as it is typed: what it refuses before anything is asked of a provider."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cli_shell import backout

if TYPE_CHECKING:
    from pathlib import Path

FILE = """
[app]
name = "shop"
[environments.production]
protected = true
platform = { provider = "cloudflare", account_id = "0123456789abcdef0123456789abcdef", script = "shop" }
"""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no --to, and no interrupted recovery to go on with"),
        (("--undo", "--to", "14:03"), "has no moment and no parts"),
        (("--list", "--mark", "x"), "two commands"),
        (("--accept", "--swap"), "has no moment and no parts"),
        (("--accept", "--undo"), "two commands"),
        (("--accept", "-m", "seen"), "there is no interrupted recovery to go on with"),
        (("--to", "14:03", "--deadline", "soon"), "--deadline"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    (tmp_path / "backout.toml").write_text(FILE, encoding="utf-8")
    variables = {"CLOUDFLARE_API_TOKEN": "t" * 40}
    answer = backout(tmp_path, "recover", "-e", "production", *words, variables=variables)
    assert answer.code == 2, answer.err
    assert said in answer.err


def test_only_a_recovery_is_taken_back_by_its_run(tmp_path: Path) -> None:
    (tmp_path / "backout.toml").write_text(FILE, encoding="utf-8")
    answer = backout(tmp_path, "runs", "undo", "recover-1a2b3c4d", "-e", "production")
    assert answer.code == 2
    assert "no run 'recover-1a2b3c4d'" in answer.err
