"""Hints as somebody at a terminal meets them: what is to be typed is typed, with `--help` behind it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from cli_shell import backout

from backout.model.setting import PATTERN

if TYPE_CHECKING:
    from backout.model.hint import Hint

NOT_OURS = {"echo", "git", "npx", "timedatectl"}
"""Programs of others that a hint may begin with."""
ABOUT_NONE = ("backout config example",)
_QUOTED = re.compile(r"`([^`]+)`")


def wrong_with_hint(hint: Hint, environment: str) -> str:
    """Return what keeps a person from doing what a hint says as it stands; "" for nothing.

    Each command of ours is parsed by the program itself, and is about the environment that was looked at; what is set
    is a setting and nothing behind it, so that it can be shown as lines of a file.
    """
    if hint.setting and not PATTERN.fullmatch(hint.setting):
        return f"no setting, or more than one: {hint.setting}"
    for line in hint.lines:
        wrong = _wrong_with(line, environment)
        if wrong:
            return f"{line}: {wrong}"
    for line in _QUOTED.findall(hint.words):
        code = backout(Path("/"), *shlex.split(line)[1:], "--help").code if line.startswith("backout ") else 0
        if code != 0:
            return f"{line}: exit code {code}"
    return ""


def _wrong_with(line: str, environment: str) -> str:
    if re.search(r" (?:&&|;|#) ", line) or "\n" in line:
        return "more than one line, or words behind it"
    words = shlex.split(line)
    if words[0] in NOT_OURS:
        return ""
    if words[0] != "backout":
        return "no program that is known"
    about = words[words.index("-e") + 1] if "-e" in words[:-1] else ""
    if about != environment and not line.startswith(ABOUT_NONE):
        return "not about the environment"
    answer = backout(Path("/"), *words[1:], "--help")
    return "" if answer.code == 0 else f"exit code {answer.code}: {answer.err.strip()}"
