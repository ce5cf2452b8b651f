"""The shapes that outside checks read, on the real program: one JSON line, a schema, RFC 3339 times, no secret."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backout.twin.lifecycle import read_status as twin_status

from drillbook import ENV, PROGRAM
from polling import PATIENCE_S

if TYPE_CHECKING:
    from drillbook import Drillbook, Trial

pytestmark = pytest.mark.rotating("drills", 5)

RFC3339 = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")


def backout(folder: Path, *args: str, typed: str = "") -> tuple[int, list[str], str]:
    """Run the program in a folder without a configuration: code, lines of stdout, stderr."""
    done = subprocess.run(
        [str(PROGRAM), *args],
        cwd=folder, input=typed, capture_output=True, text=True, timeout=2 * PATIENCE_S, check=False, env=ENV,
    )  # fmt: skip
    return done.returncode, done.stdout.splitlines(), done.stderr


def times(value: object, key: str = "") -> list[str]:
    """Return every text under a key that names a moment."""
    if isinstance(value, dict):
        return [t for k, v in value.items() for t in times(v, str(k))]
    if isinstance(value, list):
        return [t for item in value for t in times(item, key)]
    return [value] if isinstance(value, str) and (key.endswith("_at") or key in ("at", "live_since")) else []


def secrets_of(trial: Trial) -> list[str]:
    """Return what must never be seen: the token, the Worker's secrets, the database's connection string."""
    stage = trial.book.stage
    lines = (stage.directory / "secrets.env").read_text(encoding="utf-8").split()
    found = [line.partition("=")[2] for line in lines]
    token = Path(str(stage.twin.api_token_file)).read_text(encoding="utf-8").strip()
    return [*found, token, str(stage.twin.postgres_dsn)]


@pytest.mark.calm
@pytest.mark.parametrize(
    "command",
    [
        "status",
        "deployments list",
        "runs list",
        "timeline",
        "incident list",
        "config show",
        "config check",
        "rollback --dry-run",
    ],
)
def test_one_line_with_a_schema(drillbook: Drillbook, command: str) -> None:
    """Each answers one JSON object in one line, with RFC 3339 times; an unknown option is an envelope too."""
    trial = drillbook.trial()
    trial.make_live(drillbook.bad)
    ended = trial.run(*command.split(), "--json")
    (line,) = ended.out.splitlines()
    answer = json.loads(line)
    assert re.fullmatch(r"backout\.[a-z-]+/1", answer["schema"])
    assert all(RFC3339.match(moment) for moment in times(answer)), times(answer)
    assert not [secret for secret in secrets_of(trial) if secret in ended.out + ended.err]
    wrong = trial.run(*command.split(), "--no-such-option", "--json")
    assert (wrong.code, wrong.json["schema"], wrong.json["exit_code"]) == (2, "backout.error/1", 2)


@pytest.mark.long
def test_whole_line_keeps_secrets(drillbook: Drillbook) -> None:
    """Guard's stream ends with the result; no secret is in any output, in the journal or in the report."""
    trial = drillbook.trial()
    trial.make_live(drillbook.good)
    trial.make_live(drillbook.bad)
    ended = trial.run("guard", "--json")
    assert ended.code == 1, ended.err
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert {line["schema"] for line in lines} == {"backout.guard/1"}
    assert [line["type"] for line in lines].count("result") == 1
    result = lines[-1]
    assert (result["type"], result["verdict"], result["action"]) == ("result", "regressed", "rollback")
    assert result["verified"] is True
    assert result["live_version"] == drillbook.good
    report = Path(result["report_path"])
    assert report.is_absolute()
    run = result["run_id"]
    shown = [trial.run(*words, "--json") for words in (("runs", "show", run), ("status",), ("incident", "list"))]
    shown += [trial.run("incident", "show", report.stem), trial.run("config", "show"), ended]
    journal = b"".join(file.read_bytes() for file in trial.folder.glob("journal.sqlite*"))
    seen = "".join(one.out + one.err for one in shown) + report.read_text("utf-8") + journal.decode("latin-1")
    assert not [secret for secret in secrets_of(trial) if secret in seen]


@pytest.mark.long
@pytest.mark.calm
def test_what_drills_deploy_by_the_api_is_what_wrangler_deploys(drillbook: Drillbook) -> None:
    """The same code, bindings and settings, live with the same message."""
    again = drillbook.deploy("throws-on-one-route")
    tools = drillbook.trial().tools()
    bundles, history = tools.rollback.bundles, tools.deployments.history()
    assert bundles is not None
    ours, theirs = bundles.fetch(again), bundles.fetch(drillbook.bad)
    assert ours.metadata == theirs.metadata
    assert [each.name for each in ours.modules] == [each.name for each in theirs.modules]
    assert ours.modules[0] == theirs.modules[0]
    maps = [json.loads(each.modules[1].content) for each in (ours, theirs)]  # their paths are those of the builds
    assert maps[0]["mappings"] == maps[1]["mappings"]
    assert ours.version.code_hash == theirs.version.code_hash
    assert (history[0].sole, history[0].message) == (again, "throws-on-one-route")
    drillbook.make_good_live()


@pytest.mark.long
@pytest.mark.calm
def test_twin_status(drillbook: Drillbook, tmp_path: Path) -> None:
    """Up: the keys of the contract. Down: running false, exit 1."""
    code, (line,), _ = backout(tmp_path, "twin", "status", "--json", "--dir", str(drillbook.stage.directory / "twin"))
    answer = json.loads(line)
    assert code == 0
    assert answer["schema"] == "backout.twin/1"
    assert answer["running"] is True
    assert answer["api_base_url"].endswith("/client/v4")
    keys = "account_id api_token_file ingress_url workers postgres_dsn s3_endpoint s3_credentials_file buckets outbox"
    for key in [*keys.split(), "unknown_routes", "pids"]:
        assert key in answer, key
    assert answer["postgres_dsn"] == twin_status(drillbook.stage.directory / "twin").postgres_dsn
    code, (line,), _ = backout(tmp_path, "twin", "status", "--json")
    assert (code, json.loads(line)["running"]) == (1, False)


def test_guard_replay_ends(tmp_path: Path) -> None:
    """A missing file is 2, no valid line 7, and stdout holds nothing but contract lines."""
    assert backout(tmp_path, "guard", "replay", "missing.jsonl")[0] == 2
    code, lines, _ = backout(tmp_path, "guard", "replay", "-", typed="not json\n{}\n")
    assert (code, lines) == (7, [])
    code, lines, _ = backout(tmp_path, "guard", "replay", "-")
    assert (code, lines) == (7, [])
