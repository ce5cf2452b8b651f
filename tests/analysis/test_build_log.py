"""The failing step of a build's log and its lines: output of real tools, framed as the runners of builds frame it."""

from __future__ import annotations

from pathlib import Path

import pytest

from backout.analysis.diagnosis.build_log import LONGEST_LINE, MOST_LINES, find_failed_step

LOGS = Path(__file__).parent / "data" / "build_logs"


def read(name: str) -> str:
    return (LOGS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "step", "command", "code", "evidence"),
    [
        ("workflow-tsc.log", "npm run build", "tsc -p . && vite build", 2, "error TS2322: Type 'string'"),
        ("workflow-vitest-then-always.log", "npm test", "vitest run", 1, "AssertionError: expected 2 to be 3"),
        ("workflow-printed-with-job-and-step.log", "npm ci", None, 1, "Missing: left-pad@1.3.0 from lock file"),
        ("workflow-pytest.log", "python -m pytest -q", None, 1, "test_a.py:2: AssertionError"),
        (
            "platform-build-fails.log",
            "npm run build",
            "vite build",
            1,
            "[UNRESOLVED_IMPORT] Could not resolve './nothere'",
        ),
        ("platform-deploy-refused.log", "npx wrangler deploy", None, None, "[code: 10021]"),
        (
            "image-out-of-memory.log",
            "[build 5/6] RUN npm run build",
            "vite build",
            134,
            "JavaScript heap out of memory",
        ),
        ("npm-workspace.log", "", "node -e 'throw new Error(1)'", 1, "Error: 1"),
        ("yarn-script.log", "", "eslint .", 1, "'foo' is not defined"),
    ],
)
def test_step_command_code_and_lines(
    name: str, step: str, command: str | None, code: int | None, evidence: str
) -> None:
    found = find_failed_step(read(name))

    assert found is not None
    assert (found.step, found.command, found.exit_code) == (step, command, code)
    assert any(evidence in line.text for line in found.lines), [line.text for line in found.lines]
    assert 1 <= len(found.lines) <= MOST_LINES


def test_a_build_that_passes_has_no_failed_step() -> None:
    assert find_failed_step(read("healthy.log")) is None
    assert find_failed_step("") is None


def test_lines_keep_their_number_and_the_runners_time() -> None:
    log = read("workflow-tsc.log")

    found = find_failed_step(log)

    assert found is not None
    for line in found.lines:
        raw = log.splitlines()[line.number - 1]
        assert line.text in raw
        assert line.at is not None
        assert raw.startswith(line.at)
        assert "\x1b" not in line.text


def test_the_first_marked_step_counts_and_not_one_behind_it() -> None:
    log = (
        "##[group]Run make lint\n##[endgroup]\na.py:1:8: F401 `os` imported but unused\n"
        "##[error]Process completed with exit code 1.\n"
        "##[group]Run make report\n##[endgroup]\nError: no report\n##[error]Process completed with exit code 3.\n"
    )

    found = find_failed_step(log)

    assert found is not None
    assert (found.step, found.exit_code) == ("make lint", 1)
    assert [line.text for line in found.lines] == ["a.py:1:8: F401 `os` imported but unused"]


def test_a_step_that_says_nothing_shows_that_it_failed() -> None:
    found = find_failed_step("##[group]Run ./x.sh\n##[endgroup]\n##[error]Process completed with exit code 7.\n")

    assert found is not None
    assert found.exit_code == 7
    assert [line.text for line in found.lines] == ["Process completed with exit code 7."]


def test_long_lines_are_cut_and_repeated_ones_are_shown_once() -> None:
    found = find_failed_step("Error: " + "x" * 100_000 + "\n" + "Error: again\n" * 50)

    assert found is not None
    assert [len(line.text) for line in found.lines] == [LONGEST_LINE, len("Error: again")]
