"""`backout diagnose build` on real failing builds: the step that failed, the line that says why, and exit 1."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from backout.twin.wrangler import find_cli, find_node

from drillbook import PROGRAM, Result
from polling import PATIENCE_S
from private import write_private
from scripted_server import answer, scripted_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drillbook import Drillbook, Trial
    from scripted_server import ScriptedServer

pytestmark = pytest.mark.rotating("failed builds", 2)

NODE = find_node()
NPM = NODE.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
WRANGLER = find_cli(Path(__file__))
TSC = WRANGLER.parents[2] / "typescript" / "lib" / "tsc.js"
WRONG_TYPE = 'const total: number = "three";\nexport default total;\n'
TS2322 = "app.ts(1,7): error TS2322: Type 'string' is not assignable to type 'number'."
SHA = "9d3ac17b20f84a1e8c2d45e6f7a8b9c0d1e2f304"


def manifest(folder: Path, **more: object) -> None:
    (folder / "package.json").write_text(json.dumps({"name": "shop", "version": "1.0.0", **more}), encoding="utf-8")


def built(folder: Path, *words: object, show: bool = False) -> Result:
    """Run a build there under `diagnose build`; nothing of it reaches a network, or a folder outside."""
    environment = {
        "PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "COLUMNS": "80",
        "WRANGLER_SEND_METRICS": "false",
        "WRANGLER_HIDE_BANNER": "true",
        "WRANGLER_LOG_PATH": str(folder / "logs"),
        "npm_config_offline": "true",
        "npm_config_cache": str(folder / "cache"),
        "npm_config_update_notifier": "false",
    }
    argv = [str(PROGRAM), "diagnose", "build", *(() if show else ("--json",)), "--", str(NODE), *map(str, words)]
    done = subprocess.run(
        argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)


def failed(ended: Result, cause: str, line: str) -> dict[str, Any]:
    """Check what every failed build has in common, and return the answer."""
    assert ended.code == 1, ended.err
    found = ended.json
    assert found["schema"] == "backout.diagnosis/1"
    assert (found["scenario"], found["cause"]) == ("S2_build_failure", cause), ended.out
    assert found["confidence"] >= 0.8
    assert found["rollback"] == "not_needed"
    assert any(line in quote["text"] for quote in found["evidence"]), found["evidence"]
    return found


def test_a_lock_file_that_does_not_fit(tmp_path: Path) -> None:
    """`npm ci` says what is missing from it."""
    (tmp_path / "one").mkdir()
    manifest(tmp_path / "one")
    manifest(tmp_path, dependencies={"one": "file:one"})
    lock = {"name": "shop", "version": "1.0.0", "lockfileVersion": 3, "packages": {"": {"name": "shop"}}}
    (tmp_path / "package-lock.json").write_text(json.dumps(lock), encoding="utf-8")
    ended = built(tmp_path, NPM, "ci")
    found = failed(ended, "build_lockfile_mismatch", "Missing: one@1.0.0 from lock file")
    assert "npm-cli.js ci" in found["title"]
    assert "can only install packages when" in ended.err  # shown while it ran


@pytest.mark.long
def test_code_that_does_not_pass_the_type_checker(tmp_path: Path) -> None:
    """A script of the package runs tsc: its command is the step, not only the script's name."""
    (tmp_path / "app.ts").write_text(WRONG_TYPE, encoding="utf-8")
    manifest(tmp_path, scripts={"build": f"node {TSC} --noEmit app.ts"})
    found = failed(built(tmp_path, NPM, "run", "build"), "build_typescript_error", TS2322)
    assert "npm-cli.js run build" in found["title"]
    assert "tsc.js --noEmit app.ts" in found["title"]


@pytest.mark.long
def test_a_build_that_passes(tmp_path: Path) -> None:
    """Exit 0, and nothing is told but that."""
    (tmp_path / "app.ts").write_text("export const total: number = 3;\n", encoding="utf-8")
    ended = built(tmp_path, TSC, "--noEmit", "app.ts")
    assert (ended.code, ended.json["scenario"], ended.json["title"]) == (0, "S0_no_action", "the build passed")


@pytest.mark.parametrize(
    ("code", "cause", "line"),
    [
        pytest.param(
            'import { x } from "./nothing.js";\nexport default { fetch() { return new Response(x) } };\n',
            "build_missing_dependency",
            'Could not resolve "./nothing.js"',
            id="import",
        ),
        pytest.param(
            'export default { fetch() { return new Response("a" };\n',
            "build_lint_or_test_failure",
            'Expected ")" but found "}"',
            id="syntax",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "",
            "deploy_validation_failed",
            "Could not detect a directory",
            id="no-configuration",
            marks=pytest.mark.long,
        ),
    ],
)
def test_what_wrangler_refuses_before_it_asks_anybody(tmp_path: Path, code: str, cause: str, line: str) -> None:
    """Broken code, and a folder without any."""
    named = ("worker.js", "--name", "shop", "--compatibility-date", "2026-01-01") if code else ()
    if code:
        (tmp_path / "worker.js").write_text(code, encoding="utf-8")
    ended = built(tmp_path, WRANGLER, "deploy", *named, "--dry-run")
    failed(ended, cause, line)
    assert "\x1b" not in ended.err


@pytest.mark.long
def test_how_it_looks(tmp_path: Path) -> None:
    """In 80 columns: what it is, the line, and that nothing reached production."""
    (tmp_path / "app.ts").write_text(WRONG_TYPE, encoding="utf-8")
    ended = built(tmp_path, TSC, "--noEmit", "app.ts", show=True)
    assert ended.code == 1
    lines = ended.out.splitlines()
    assert lines[0].startswith("S2, the build failed: ")
    assert max(map(len, lines)) <= 80
    assert TS2322 in " ".join(ended.out.split())
    assert "nothing of this build reached production" in ended.out


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as running:
        yield running


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What a runner would have kept of the real compiler's words."""
    tmp_path = tmp_path_factory.mktemp("log")
    (tmp_path / "app.ts").write_text(WRONG_TYPE, encoding="utf-8")
    manifest(tmp_path, scripts={"build": f"node {TSC} --noEmit app.ts"})
    said = subprocess.run(
        [str(NODE), str(NPM), "run", "build"], cwd=tmp_path, capture_output=True, text=True, check=False,
        timeout=PATIENCE_S,
        env={"PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)},
    )  # fmt: skip
    lines = ["##[group]Run npm ci", "npm ci", "##[endgroup]", "added 41 packages in 2s", "##[group]Run npm run build"]
    lines += ["npm run build", "##[endgroup]", *said.stdout.splitlines(), *said.stderr.splitlines()]
    lines += ["##[error]Process completed with exit code 2."]
    return "".join(f"2026-03-01T10:00:{n:02}.1234567Z {line}\n" for n, line in enumerate(lines)).encode()


def pipeline(trial: Trial, server: ScriptedServer, log: bytes, conclusion: str = "failure") -> Trial:
    """Have the trial's pipeline answer that its newest run ended so."""
    planted = trial.folder / "planted"
    planted.mkdir()
    token = planted / "github-token"
    token.touch(mode=0o600)
    write_private(token, "ghs_of_the_pipeline_0123456789")
    run = {
        "id": 30, "name": "Deploy", "head_sha": SHA, "head_branch": "main", "event": "push", "status": "completed",
        "conclusion": conclusion, "html_url": "https://github.com/owner/app/actions/runs/30",
        "run_started_at": "2026-03-01T10:00:00Z",
    }  # fmt: skip
    steps = [{"name": "Run npm ci", "status": "completed", "conclusion": "success", "number": 1},
             {"name": "Run npm run build", "status": "completed", "conclusion": conclusion, "number": 2}]  # fmt: skip
    job = {"id": 8, "run_id": 30, "name": "deploy", "status": "completed", "conclusion": conclusion, "steps": steps}
    server.will(
        answer({"total_count": 1, "workflow_runs": [run]}),
        answer({"total_count": 1, "jobs": [job]}),
        answer({"total_count": 0, "check_runs": []}),
        answer({"state": "pending", "statuses": []}),
        answer(b"", 302, Location=f"{server.url}/logs/8.txt"),
        answer(log),
    )
    ci = f'provider = "github", repository = "owner/app", api_base_url = "{server.url}", token_file = "{token}"'
    return trial.replace((r"(?m)^health = ", f"ci = {{ {ci} }}\nhealth = "))


@pytest.mark.long
@pytest.mark.calm
def test_the_newest_run_of_the_pipeline(drillbook: Drillbook, server: ScriptedServer, log: bytes) -> None:
    """Its job and its step are named, its log is quoted, and where to look."""
    trial = pipeline(drillbook.trial(), server, log)
    found = failed(trial.run("diagnose", "build", "--json"), "build_typescript_error", TS2322)
    assert "deploy: Run npm run build" in found["title"]
    assert found["url"] == "https://github.com/owner/app/actions/runs/30"
    assert server.asked[0].target == "/repos/owner/app/actions/runs?per_page=20"


@pytest.mark.calm
def test_a_pipeline_that_passed(drillbook: Drillbook, server: ScriptedServer) -> None:
    """Exit 0."""
    trial = pipeline(drillbook.trial(), server, b"", "success")
    ended = trial.run("diagnose", "build", "--json")
    assert (ended.code, ended.json["scenario"]) == (0, "S0_no_action"), ended.err


@pytest.mark.long
@pytest.mark.calm  # beside other work the answers of a few seconds are slower than those before, and that is told first
def test_production_is_calm_and_the_pipeline_failed(drillbook: Drillbook, server: ScriptedServer, log: bytes) -> None:
    """`diagnose` itself says that the newest build never arrived, and that production is as it was."""
    trial = pipeline(drillbook.trial(), server, log)
    found = failed(trial.run("diagnose", "--json", "--since", "7s"), "build_typescript_error", TS2322)
    assert "deploy: Run npm run build" in found["title"]
    assert any("https://github.com/owner/app/actions/runs/30" in note for note in found["notes"])
    assert found["environment"] == "production"
