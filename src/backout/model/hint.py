"""How to close a gap: commands to type, with their environment, or words where there is no command."""

from __future__ import annotations

import re
import shlex
from typing import Final

from backout.model.setting import PATTERN
from backout.model.value import Value

_COMMAND: Final = re.compile(r"backout [^,;`\n]+")
_NOTE: Final = "  # "


class Hint(Value, frozen=True):
    """How to close a gap, in the order of doing it: words, a setting, commands.

    Args:
        words: what a person does, "" for nothing.
        setting: what to set, as worded by `setting`.
        lines: command lines, each on its own.
        note: what the last of them does, "" where that is clear.
    """

    words: str = ""
    setting: str = ""
    lines: tuple[str, ...] = ()
    note: str = ""

    def __str__(self) -> str:
        """Return it on one line, for the answer in JSON."""
        typed = " && ".join(self.lines) + (f"{_NOTE}{self.note}" if self.note else "")
        return "; then: ".join(part for part in (self.words, self.setting, typed) if part)

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.words or self.setting or self.lines)


NO_HINT: Final = Hint()


def suggest_command(words: str, environment: str, note: str = "") -> Hint:
    """Return a command of backout's own about an environment.

    >>> str(suggest_command("guard", "my shop", "it keeps what it watches"))
    "backout guard -e 'my shop'  # it keeps what it watches"
    """
    return Hint(lines=(f"backout {words} -e {shlex.quote(environment)}",), note=note)


def suggest_line(text: str, note: str = "") -> Hint:
    """Return a line of another program, or of ours that is about no environment."""
    return Hint(lines=(text,), note=note)


def suggest_words(text: str) -> Hint:
    """Return what a person does, where there is no line for it."""
    return Hint(words=text)


def suggest_setting(setting: str, *lines: Hint) -> Hint:
    """Return what is to be set, and what is typed after that."""
    return Hint(setting=setting, lines=tuple(each for hint in lines for each in hint.lines))


def parse_hint(text: str, environment: str) -> Hint:
    """Return the hint of an error as a value: errors know no environment, so a command of ours gets it here.

    >>> parse_hint("backout runs list", "staging").lines, parse_hint("free some space", "staging").words
    (('backout runs list -e staging',), 'free some space')
    """
    if PATTERN.fullmatch(text):
        return Hint(setting=text)
    if not _COMMAND.fullmatch(text):
        return Hint(words=text)
    typed, _, note = text.partition(_NOTE)
    about = {"-e", "--environment"} & set(typed.split()) or typed.startswith(("backout config example", "backout help"))
    return Hint(lines=(typed if about else f"{typed} -e {shlex.quote(environment)}",), note=note)
