"""The part of a workflow's runner that composite actions need: action.yml read, its `run` steps run in order with bash.

The YAML read here is the small part that action.yml keeps to: block maps and lists, plain and quoted words, `|`, `>-`.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).resolve().parents[3]
_KEY = re.compile(r"^([A-Za-z_][\w-]*):(?: (.*))?$")
_EXPRESSION = re.compile(r"\$\{\{ *([\w.-]+) *\}\}")


def read_yaml(text: str) -> Any:
    """Return the maps, lists and strings of a text in that part of YAML; AssertionError for anything else."""
    lines = [line.rstrip() for line in text.splitlines()]
    value, rest = _block(lines, 0, 0)
    assert not any(line.strip() for line in lines[rest:])
    return value


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _skipped(lines: list[str], at: int) -> int:
    while at < len(lines) and (not lines[at].strip() or lines[at].lstrip().startswith("#")):
        at += 1
    return at


def _block(lines: list[str], at: int, indent: int) -> tuple[Any, int]:
    at = _skipped(lines, at)
    return _list(lines, at, indent) if lines[at].lstrip().startswith("- ") else _map(lines, at, indent)


def _list(lines: list[str], at: int, indent: int) -> tuple[list[Any], int]:
    found = []
    while (at := _skipped(lines, at)) < len(lines) and _indent(lines[at]) == indent:
        assert lines[at].lstrip().startswith("- "), lines[at]
        lines[at] = lines[at].replace("- ", "  ", 1)
        item, at = _map(lines, at, indent + 2)
        found.append(item)
    return found, at


def _map(lines: list[str], at: int, indent: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    while (at := _skipped(lines, at)) < len(lines) and _indent(lines[at]) == indent:
        matched = _KEY.match(lines[at].strip())
        assert matched, lines[at]
        name, rest = matched[1], (matched[2] or "").strip()
        assert name not in found, f"{name} twice"
        at += 1
        if rest in ("|", ">-"):
            found[name], at = _text(lines, at, indent, folded=rest == ">-")
        elif rest:
            found[name] = _word(rest)
        else:
            below = _skipped(lines, at)
            found[name], at = _block(lines, below, _indent(lines[below]))
    return found, at


def _text(lines: list[str], at: int, indent: int, *, folded: bool) -> tuple[str, int]:
    end = at
    while end < len(lines) and (not lines[end] or _indent(lines[end]) > indent):
        end += 1
    inner = min(_indent(line) for line in lines[at:end] if line)
    own = [line[inner:] for line in lines[at:end]]
    return (" ".join(own).strip() if folded else "\n".join(own).rstrip() + "\n"), end


def _word(text: str) -> str:
    if text.startswith('"'):
        assert text.endswith('"')
        return text[1:-1]
    assert not text.startswith(("'", "[", "{", "&", "*", "!", "%", "@", "`")), text
    assert ": " not in text, text
    assert " #" not in text, text
    return text


@dataclass
class Ran:
    """How an action ended."""

    code: int = 0
    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""
    log: str = ""


@dataclass
class Job:
    """A job on a runner: its folders, its variables, and the action's folder."""

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    action: Path = ROOT
    uses: int = 0

    @property
    def workspace(self) -> Path:
        """Where the user's repository lies."""
        return self.folder / "workspace"

    def prepare(self) -> Job:
        """Make the folders."""
        for name in ("workspace", "temp"):
            (self.folder / name).mkdir(parents=True)
        return self

    def installed(self) -> Job:
        """Have the program lie where the action's first step would put it: this repository's own."""
        pins = (self.action / "requirements" / "guard.txt").read_bytes()
        place = self.folder / "temp" / f"backout-{hashlib.sha256(pins).hexdigest()[:16]}"
        place.mkdir()
        for part in ("bin", "lib", "pyvenv.cfg"):
            (place / part).symlink_to(ROOT / ".venv" / part)
        (place / ".installed").touch()
        return self

    def use(self, inputs: Mapping[str, str], meanwhile: Callable[[subprocess.Popen[str]], None] | None = None) -> Ran:
        """Use the action once; `meanwhile` sees the process of each step."""
        self.uses += 1
        action = read_yaml((self.action / "action.yml").read_text(encoding="utf-8"))
        assert set(inputs) <= set(action["inputs"])
        context = {f"inputs.{name}": str(each.get("default", "")) for name, each in action["inputs"].items()}
        context |= {f"inputs.{name}": value for name, value in inputs.items()}
        ran = Ran()
        for number, step in enumerate(action["runs"]["steps"]):
            files = self.folder / f"use-{self.uses}" / str(number)
            files.mkdir(parents=True)
            ran.code = self._run(step, context, files, ran, meanwhile)
            outputs = read_outputs((files / "output").read_text(encoding="utf-8"))
            context |= {f"steps.{step['id']}.outputs.{name}": value for name, value in outputs.items()}
            ran.summary += (files / "summary").read_text(encoding="utf-8")
            if ran.code:
                break
        ran.outputs = {name: filled(each["value"], context) for name, each in action["outputs"].items()}
        return ran

    def _run(
        self,
        step: Mapping[str, Any],
        context: Mapping[str, str],
        files: Path,
        ran: Ran,
        meanwhile: Callable[[subprocess.Popen[str]], None] | None,
    ) -> int:
        assert step["shell"] == "bash"
        (files / "script.sh").write_text(step["run"], encoding="utf-8")  # as it is: no expression in a script
        for name in ("output", "summary"):
            (files / name).touch()
        variables = {
            "PATH": os.environ["PATH"], "HOME": str(self.folder), "LANG": "C.UTF-8", "CI": "true",
            "GITHUB_ACTIONS": "true", "GITHUB_ACTION_PATH": str(self.action), "GITHUB_WORKSPACE": str(self.workspace),
            "GITHUB_OUTPUT": str(files / "output"), "GITHUB_STEP_SUMMARY": str(files / "summary"),
            "RUNNER_TEMP": str(self.folder / "temp"),
            "GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "owner/app", "GITHUB_RUN_ID": "4711",
            **self.variables,
            **{name: filled(value, context) for name, value in step.get("env", {}).items()},
        }  # fmt: skip
        process = subprocess.Popen(
            ["/bin/bash", "--noprofile", "--norc", "-eo", "pipefail", str(files / "script.sh")],
            cwd=self.workspace / filled(step.get("working-directory", "."), context),
            env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            if meanwhile is not None:
                meanwhile(process)
            log, _ = process.communicate(timeout=PATIENCE_S)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.communicate()
        ran.log += log
        return process.returncode


def filled(text: str, context: Mapping[str, str]) -> str:
    """Return a text with its expressions evaluated; an output that was not set is empty."""
    return _EXPRESSION.sub(lambda found: context.get(found[1], ""), text)


def read_outputs(text: str) -> dict[str, str]:
    """Return the outputs of a step as a runner reads them from its file."""
    found: dict[str, str] = {}
    lines = iter(text.splitlines())
    for line in lines:
        name, mark, value = re.split(r"(<<|=)", line, maxsplit=1)
        if mark == "=":
            found[name] = value
            continue
        several = []
        for inner in lines:
            if inner == value:
                break
            several.append(inner)
        found[name] = "\n".join(several)
    return found


@dataclass
class Followed:
    """How a workflow went: each step that began, by its name, and the exit code of the last one."""

    steps: dict[str, Ran] = field(default_factory=dict)
    code: int = 0


def follow(job: Job, workflow: str, context: Mapping[str, str]) -> Followed:
    """Run the steps of a workflow's one job until one fails; each `uses` is this action.

    Args:
        context: the values of expressions, such as `inputs.fixes`.
    """
    (steps,) = [each["steps"] for each in read_yaml(workflow)["jobs"].values()]
    followed = Followed()
    for step in steps:
        if "uses" in step:
            ran = job.use({name: filled(value, context) for name, value in step["with"].items()})
        else:
            argv, variables = ["/bin/bash", "-eo", "pipefail", "-c", step["run"]], {**os.environ, **job.variables}
            done = subprocess.run(
                argv, cwd=job.workspace, env=variables, check=False, capture_output=True, text=True, timeout=PATIENCE_S
            )
            ran = Ran(done.returncode, log=done.stdout + done.stderr)
        followed.steps[step["name"]], followed.code = ran, ran.code
        if ran.code:
            break
    return followed
