"""No text from outside makes a pattern work for long: the work grows about as the text does, for every pattern.

`re` holds all threads while it looks: one text that makes it backtrack stops a watch, its probes and its notices.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest
from pumping import ENDS, find_growth, list_pumped
from source_trees import SOURCE

BOUNDED = {
    # These grow with the square of their text, which is short, or which nobody outside writes.
    "analysis.compatibility.judging._QUOTED": "SQL of the project's own migrations",
    "analysis.diagnosis.build_log._STEPS": "4,096 characters of a line",
    "analysis.diagnosis.build_log._STRONG": "4,096 characters of a line",
    "analysis.diagnosis.log_text._FRAME": "lines of 2,000 characters at most",
    "analysis.diagnosis.masking._CREDENTIALS": "300 characters of a message",
    "analysis.diagnosis.masking._GIVEN": "300 characters of a message",
    "analysis.diagnosis.masking._QUERY": "300 characters of a message",
    "analysis.diagnosis.masking._SHAPES": "300 characters of a message",
    "cli.incident.pages._ESCAPED": "a line of a report of ours, in which texts from outside are cut",
    "config.init.pinning._DOTTED": "a line of backout.toml",
    "config.init.project._REMOTE": "the configuration of the user's own clone",
    "config.jsonc._TOKEN": "the project's own wrangler.jsonc",
    "config.scalars._PART": "a duration in backout.toml or in a command",
    "model.setting.PATTERN": "hints of ours",
    "plan.restore._BETWEEN": "a target that a person typed",
    "providers.events.text._EVENT": "20,000 characters of a line, which a person piped in",
    "providers.files.sql_migrations._UNDO_FILE": "a file's name of 255 bytes at most",
    "providers.postgres.backup.dumps._NO_ROLE": "an error of pg_restore, with a name of 63 bytes",
    "providers.postgres.backup.script_extensions._EXTENSION": "the part of a dump that pg_dump wrote, without rows",
    "providers.postgres.backup.script_extensions._SCHEMA": "the same",
    "providers.postgres.provenance.wal_chains._LIST": "a line of pg_waldump",
    "providers.postgres.provenance.wal_writes._LINE": "a line of pg_waldump",
    "providers.postgres.restore.side_settings._LACKED": "what a Postgres of ours writes when it starts",
    "providers.postgres.restore.wal_search._COMMIT": "a line of pg_waldump",
    "providers.postgres.restore.wal_search._MADE": "a line of pg_waldump",
    "providers.postgres.restore.wal_search._RUNNING": "a line of pg_waldump",
    "providers.postgres.schema.definition_changes._NAMED": "a definition that Postgres wrote",
    "providers.postgres.server.own_server._WAITS": "the settings of a server of ours",
    "report.spellings._compile_byte": "a run of encoded bytes: it matches everywhere",
    "twin.api.graphql._DATASET": "a query to the twin, of a client on this machine",
    "twin.api.graphql._VARIABLE": "a query to the twin, of a client on this machine",
    "twin.database.querycache._LITERALS": "SQL that an application on this machine sends to the twin",
}


class Found(NamedTuple):
    """A pattern of the source, and how it is used there."""

    pattern: re.Pattern[Any]
    ways: tuple[str, ...]


@functools.cache
def list_patterns() -> dict[str, list[Found]]:
    """Return the patterns that modules have or compile when they are first used, and those of the Workers, by name."""
    found: dict[str, list[Found]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        place = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        if place.endswith(("__main__", "__init__")):
            continue
        text = path.read_text(encoding="utf-8")
        if "re.compile" not in text:
            continue
        for name, value in vars(importlib.import_module(f"backout.{place}")).items():
            made = value() if name.startswith("_compile") and _is_plain(value) else value
            patterns = [Found(each, _list_ways(name, text)) for each in _list_compiled(made)]
            if patterns and re.search(rf"^(?:def )?{name}\b", text, re.MULTILINE):  # and not imported
                found[f"{place}.{name}"] = patterns
    # Scripts of others run in a browser, on pages of ours: what they are is held by their hashes.
    for path in sorted(path for path in SOURCE.rglob("*.js") if "vendor" not in path.parts):
        if literals := [Found(each, ("search",)) for each in _list_literals(path.read_text(encoding="utf-8"))]:
            found[str(path.relative_to(SOURCE))] = literals
    return found


def _is_plain(value: object) -> bool:
    code = getattr(getattr(value, "__wrapped__", value), "__code__", None)
    return callable(value) and code is not None and not code.co_argcount


def _list_compiled(value: object) -> Iterator[re.Pattern[Any]]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from _list_compiled(each)
    elif isinstance(value, Mapping):
        for each in value.items():
            yield from _list_compiled(each)


def _list_ways(name: str, text: str) -> tuple[str, ...]:
    """Return the methods by which a module uses a pattern; "sub" looks everywhere and stands for all others."""
    used = set(re.findall(rf"\b{name}(?:\(\))?\.(\w+)\(", text))
    handed_on = len(re.findall(rf"\b{name}\b", text)) > 1 + len(re.findall(rf"\b{name}(?:\(\))?\.\w+\(", text))
    return tuple(used) if used and used <= {"match", "fullmatch"} and not handed_on else ("sub",)


_LITERAL = re.compile(
    r"(?<=[=(,:?|] )/(?![/*])((?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n\[])+)/([a-z]*)"
    r"|(?<=[(\n ])/(?![/*])((?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n\[])+)/([a-z]*)(?=[.,;)])"
)


def _list_literals(text: str) -> Iterator[re.Pattern[str]]:
    """Yield the regular expressions of a script: those of ours mean the same in Python."""
    bare = re.sub(r"(?m)^\s*//.*$| // .*$", "", text)
    for found in _LITERAL.finditer(bare):
        yield re.compile(found[1] or found[3], re.IGNORECASE if "i" in (found[2] or found[4] or "") else re.NOFLAG)


def find_hostile(found: Found, *, full: bool) -> str:
    """Return a text for which a pattern's work grows too fast, "" where there is none."""
    pattern = found.pattern
    for way in found.ways:
        work = _use(pattern, way)
        for before, unit in list_pumped(pattern, full=full):
            for end in ENDS if full else ENDS[:1]:
                if growth := find_growth(work, before, unit, end):
                    return f"{pattern.pattern!r}.{way}: {before!r}, many {unit!r}, {end!r}: {growth}"
    return ""


def _use(pattern: re.Pattern[Any], way: str) -> Callable[[str], object]:
    if isinstance(pattern.pattern, bytes):
        method = getattr(pattern, way)
        if way == "sub":
            return lambda text: method(b"", text.encode("utf-8", "replace"))
        return lambda text: method(text.encode("utf-8", "replace"))
    if way == "sub":
        return lambda text: pattern.sub("", text)
    return getattr(pattern, way)


@pytest.mark.long
def test_what_would_freeze_guard_is_found() -> None:
    """Patterns of which it is known: exponential, by the square, and by the square only where it looks everywhere."""
    for text, way in ((r"a(?:b*(?:_+b*)*)", "fullmatch"), (r"\b[a-z][a-z.]*://", "sub"), (r"\s+$", "search")):
        assert find_hostile(Found(re.compile(text), (way,)), full=False)
    for text, way in ((r"\s+$", "match"), (r"(?<![a-z.])[a-z][a-z.]*://", "sub"), (r"(?:_[a-z]+)*!", "fullmatch")):
        assert not find_hostile(Found(re.compile(text), (way,)), full=False)


def test_every_pattern_is_looked_at() -> None:
    """Also those of the recorder; whoever is said to be bounded is there."""
    found = list_patterns()
    assert sum(map(len, found.values())) > 250
    assert {each.pattern.pattern for each in found["catalogue/recorder/recorder.js"]} >= {"[_-]+", r"\[\]$"}
    assert BOUNDED.keys() <= found.keys()


def test_work_grows_as_the_text_does() -> None:
    """Repetitions of every pattern, each with what it takes, 1,500 characters of it, and behind what leads there."""
    patterns = {name: found for name, found in list_patterns().items() if name not in BOUNDED}
    hostile = {
        name: [text for each in found if (text := find_hostile(each, full=False))] for name, found in patterns.items()
    }
    assert {name: texts for name, texts in hostile.items() if texts} == {}


@pytest.mark.long
@pytest.mark.rotating("pairs of characters", 4)
@pytest.mark.parametrize("part", range(4))
def test_work_grows_as_the_text_does_for_pairs_of_characters_too(part: int) -> None:
    """The same with more units, and with ends of several kinds; a quarter of the files at a time."""
    files = sorted(list_patterns().items())[part::4]
    patterns = {name: found for name, found in files if name not in BOUNDED}
    hostile = {
        name: [text for each in found if (text := find_hostile(each, full=True))] for name, found in patterns.items()
    }
    assert {name: texts for name, texts in hostile.items() if texts} == {}
