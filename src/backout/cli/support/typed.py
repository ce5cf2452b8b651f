"""Command lines shown for a person to type, with the options that make them work where they are pasted."""

from __future__ import annotations

import re
import shlex
from typing import Final

_WORD: Final = r"(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s`;,()#&|\"'])+"
_LINE: Final = re.compile(
    rf"(?P<lead>^|`|\(|&& |then: )(?P<line>backout (?:[a-z][a-z-]*)(?: +{_WORD})*)(?=$|`|\)| *(?:&& |;|,|#)|\n)",
    re.MULTILINE,
)
_ANYWHERE: Final = (
    "completion",
    "config example",
    "conformance",
    "demo",
    "diagnose classify",
    "explain",
    "help",
    "twin",
)
"""Commands that ask no environment and read no configuration."""


def add_given_options(text: str, *, config: str | None, environment: str | None) -> str:
    """Return the text with `-e` and `--config` in each of its command lines that needs them and has none.

    Args:
        text: a command line, or words with some: between backticks, in brackets, behind "then:".
        config, environment: what was given to this command, None for nothing.

    >>> add_given_options("look (backout runs list), then: mv a b", config="b.toml", environment="staging")
    'look (backout runs list -e staging --config b.toml), then: mv a b'
    """
    if not (config or environment) or "backout " not in text:
        return text
    from backout.cli.commands import list_entries

    given = [("-e", "--environment", environment), ("--config", "--config", config)]

    def complete_line(found: re.Match[str]) -> str:
        line = found["line"]
        words = line.split()
        if (
            words[1] not in list_entries()
            or line.startswith(tuple(f"backout {name}" for name in _ANYWHERE))
            or _makes_a_file(words)
        ):
            return found[0]
        more = [
            f"{short} {shlex.quote(value)}" for short, long, value in given if value and not {short, long} & set(words)
        ]
        ours, dashes, theirs = line.partition(" -- ")
        return f"{found['lead']}{' '.join([ours, *more])}{dashes}{theirs}"

    return _LINE.sub(complete_line, text)


def _makes_a_file(words: list[str]) -> bool:
    return words[1:2] == ["init"] and "--pin" not in words
