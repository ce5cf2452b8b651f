"""The lines that a person types instead of backout, run by a real shell with hostile names."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from backout.providers.cloudflare.lines import Place, Sources, make_card_lines, make_equivalents

from polling import PATIENCE_S

if TYPE_CHECKING:
    from pathlib import Path

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
    """Type the line in a shell whose variables hold a secret, and return what was called."""
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
    return [json.loads(each) for each in done.stdout.splitlines()]


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
