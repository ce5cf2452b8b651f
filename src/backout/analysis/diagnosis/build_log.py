"""Reads a build log: the failed step, and its relevant lines; pure.

It reads the logs of a workflow's runner (a group of lines a step, `##[error]` where it failed), of a platform's own
builds, of image builds and of package managers' scripts, and plain output of a tool.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from backout.analysis.diagnosis.log_text import ERROR_MARK, RUNNER, strip_colours
from backout.model.value import Value

MOST_LINES: Final = 5
LONGEST_LINE: Final = 300
"""Characters that are kept of a line."""
_MOST_READ: Final = 4096
"""Characters that are read of a line."""

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z|\d\d:\d\d:\d\d(?:\.\d+)?")
_STEPS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"^##\[group\]Run (?P<step>.+)$",
        r"^Executing user (?:(?:build|deploy|version) )?command: (?P<step>.+)$",
        r"^(?P<step>Installing project dependencies: .+)$",
        r"^#\d+ (?P<step>\[[^\]]*\d+/\d+\] .+)$",
        r"^Step \d+/\d+ : (?P<step>.+)$",
        r"^==> Running (?:build|start|pre-deploy) command '(?P<step>.+)'\.*$",
        r'^Running "(?P<step>[^"]+)"$',
        r"^-----> (?P<step>.+)$",
    )
)
"""How runners announce a step. A later announcement ends the step before it."""
_SCRIPT: Final = re.compile(r"^> (?:(?P<package>@?[\w./-]+)@\S+ )?(?P<script>[\w:.-]+)(?: [/\w.:\\-]+)?$")
_SCRIPT_COMMAND: Final = re.compile(r"^[>$] (?P<command>\S.*)$")
_FAILED: Final = re.compile(
    r"""(?i)^\s*+(?:
        (?:error:\ )?process\ completed\ with\ exit\ code\ (?P<a>[1-9]\d*)
      | failed:\ .*?\bexited\ with\ (?:error\ )?code:\ (?P<b>\d+)
      | failed:\ error\ (?:occurred\ )?while
      | (?:error\ )?command\ failed\ with\ exit\ code\ (?P<c>\d+)
      | \W*ELIFECYCLE\b.*?(?:exit\ code\ (?P<d>\d+))?
      | npm\ (?:err!|error)\ (?:lifecycle\ script|code\ (?P<e>\d+)$)
      | error:\ (?:script\ "[^"]+"|command\ "[^"]+")\ exited\ with\ (?:code\ )?(?P<f>\d+)
      | .*did\ not\ complete\ successfully:\ exit\ code:\ (?P<g>\d+)
      | the\ operation\ was\ canceled
      | exit(?:ed)?\ (?:code|status)[:\ ]+(?P<h>[1-9]\d*)\s*$
    )""",
    re.VERBOSE,
)
"""Lines that say that something failed, but not what."""
_STRONG: Final = re.compile(
    r"error (?:TS|ts\()\d+|\bTS\d{4}:|^\s*Type error:"
    r"|\[code: \d+\]|^\s*(?:\S+ )?✘ \[ERROR\]"
    r"|npm (?:ERR!|error) (?:code E|404 |notarget |notsup )|\bERR_[A-Z_]+|\bYN00(?!00|13|19|85)\d\d:"
    r"|can only install|Missing:.*from lock file|lockfile|(?i:out of date)"
    r"|Can't resolve|Could not (?:resolve|find)|Cannot find|No matching|(?:command )?not found$|^\[[A-Z_]{6,}\]"
    r"|^\s*(?:FAIL|FAILED|ERROR)\s\S|^--- FAIL|^E   |^\s*(?:[✖\u00d7]|●)\s|coverage threshold|No test"
    r"|AssertionError|\b\w*(?:Error|Exception):\s|\bpanicked at\b|^fatal:|^\s*error(?:\[\w+\])?:"
    r"|^\s*\d+:\d+\s+(?:error|✖)\s|^\S+:\d+:\d+:\s|too many warnings|would reformat|Code style issues"
    r"|heap out of memory|^\s*Killed\b|SIGKILL|\bdenied\b"
)
"""The output of build tools that names a cause."""
_WEAK: Final = re.compile(
    r"(?i)\b(?:errors?|failed|failure|fatal|invalid|missing|(?:un)?expected|couldn't|cannot|exception|denied|refused|exceeded)\b"
)
_INSTALLER: Final = re.compile(r"^npm (?:ERR!|error)(?: (?:code|[a-z]+)\b)?")
_PLACE: Final = re.compile(r"^\s*(?:\u276f |-->\s|\./)?[\w@./\[\]()+-]+\.\w+[:(]\d+(?:[:,]\d+)?\)?:?\s*$")
_EMPTY: Final = re.compile(
    r"(?i:a complete log of this run|logs were written to|if you think this is a bug|please open an issue)"
    r"|^\W*$|^[>$] |^##\[(?:end)?group\]|^\s*(?:at|throw|return|info|warning)\b|^\s*[▲⚠]|\[Getter/Setter\]"
    r"|npm (?:ERR!|error) (?:path|location|workspace|command|in workspace)\b|^\s*npm (?:warn|notice|WARN)"
    r"|\b0 (?:errors?|failed|vulnerabilities)|^\s*(?:✘ \[ERROR\] )?Build failed with \d+ errors?:?$"
    r"|^\s*(?:error during build|Failed to compile)[:.]?\s*$"
)
"""What stands in every log, or around a cause."""


class LogLine(Value, frozen=True):
    """One line of a log. `number`: from 1. `at`: the time that the runner printed, as printed; None without one."""

    number: int
    text: str
    at: str | None = None


class FailedStep(Value, frozen=True):
    """The failure of a build.

    Args:
        step: as the runner names it, "" when the log names none.
        command: the innermost script's command, where a package manager printed it.
        exit_code: None when the log does not say.
        lines: up to five lines that say what failed, in the log's order; they may hold secrets of the build.
    """

    step: str
    command: str | None
    exit_code: int | None
    lines: tuple[LogLine, ...]


def find_failed_step(log: str) -> FailedStep | None:
    """Return the step that failed first, or None when no line of the log mentions a failure."""
    lines = _read_lines(log)
    end, code = _find_failure(lines)
    steps = [(at, name) for at, line in enumerate(lines[: end + 1]) if (name := _parse_step(line.text)) is not None]
    start, step = steps[-1] if steps else (0, "")
    inside = lines[start : end + 1]
    chosen = _choose_lines(inside)
    if not chosen and code is None:
        return None
    return FailedStep(step, _find_command(inside), code, chosen)


def _read_lines(log: str) -> list[LogLine]:
    found = []
    for number, raw in enumerate(strip_colours(log).splitlines(), 1):
        line = raw[:_MOST_READ]
        prefix = RUNNER.match(line)
        at = _TIME.search(prefix[0]) if prefix else None
        found.append(LogLine(number, line[prefix.end() :] if prefix else line, at[0] if at else None))
    return found


def _find_failure(lines: list[LogLine]) -> tuple[int, int | None]:
    """Return the index of the last line of the failing step, and the exit code.

    A runner marks what failed, and goes on: steps that clean up, and others that always run, come behind it.
    """
    for at, line in enumerate(lines):
        marked = line.text.startswith("##[error]")
        found = _FAILED.match(ERROR_MARK.sub("", line.text))
        if marked and found:
            return at, _parse_code(found)
    marked_lines = [at for at, line in enumerate(lines) if line.text.startswith("##[error]")]
    codes = [code for line in lines if (found := _FAILED.match(line.text)) and (code := _parse_code(found)) is not None]
    code = codes[-1] if codes else None
    if marked_lines:
        return marked_lines[0], code
    said = [at for at, line in enumerate(lines) if _FAILED.match(line.text)]
    return (said[-1] if said else len(lines) - 1), code


def _parse_code(found: re.Match[str]) -> int | None:
    return next((int(value) for value in found.groupdict().values() if value), None)


def _parse_step(text: str) -> str | None:
    for pattern in _STEPS:
        if found := pattern.match(text):
            return found["step"].strip()[:LONGEST_LINE]
    return None


def _find_command(lines: list[LogLine]) -> str | None:
    """Return the command of the last script that a package manager announced: its name on one line, it on the next."""
    command = None
    for line, following in pairwise(lines):
        text = following.text if _SCRIPT.match(line.text) else line.text if line.text.startswith("$ ") else ""
        if found := _SCRIPT_COMMAND.match(text):
            command = found["command"][:LONGEST_LINE]
    return command


def _choose_lines(lines: list[LogLine]) -> tuple[LogLine, ...]:
    weights: list[tuple[int, int]] = []
    seen: set[str] = set()
    for at, line in enumerate(lines):
        text = ERROR_MARK.sub("", line.text)
        weight = 0 if text.strip() in seen else _weigh_text(text)
        if weight:
            seen.add(text.strip())
            weights.append((weight, at))
    best = sorted(weights, key=lambda each: (-each[0], each[1]))[:MOST_LINES]
    top = best[0][0] if best else 0
    kept = sorted(at for weight, at in best if weight > 1 or top == 1)
    return tuple(
        LogLine(line.number, ERROR_MARK.sub("", line.text).rstrip()[:LONGEST_LINE], line.at)
        for line in (lines[at] for at in kept)
    )


def _weigh_text(text: str) -> int:
    """Return how much a line reveals about the cause: 4 much, 0 nothing."""
    if _parse_step(text) is not None or _EMPTY.search(text):
        return 0
    if _FAILED.match(text):
        return 1
    if _STRONG.search(text):
        return 4
    if _PLACE.match(text):
        return 3
    return 2 if _WEAK.search(_INSTALLER.sub("", text)) else 0
