"""Keys of backout.toml that can run programs: the schema's marks, the documentation and the tests name the same."""

from __future__ import annotations

import re
from pathlib import Path

from backout.config.programs import list_program_keys

ROOT = Path(__file__).parents[2]


def documented() -> set[str]:
    """Return the keys of the list in docs/config.md."""
    page = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## Programs that the file can run\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    return set(re.findall(r"^\| `([\w.]+)` \|", section, re.MULTILINE))


def named_in_the_tests() -> set[str]:
    """Return the keys of which tests/safety/test_no_commands.py has a file each."""
    page = (ROOT / "tests" / "safety" / "test_no_commands.py").read_text(encoding="utf-8")
    return set(
        re.findall(r'^    "([\w.]+)": ?(?:f|$)', page.partition("NAMED = {")[2].partition("\n}")[0], re.MULTILINE)
    )


def test_the_documentation_lists_every_key_that_can_run_a_program() -> None:
    """The marks of the schema, the list in docs/config.md, and the files above are one set."""
    assert documented() == set(list_program_keys()) == named_in_the_tests()


def test_each_command_line_of_the_schema_is_marked() -> None:
    """A key by a name that says so (command, start, stop, build, binaries, program, script to run) has the mark."""
    pages = sorted((ROOT / "src" / "backout" / "config" / "schema").rglob("*.py"))
    page = "\n".join(each.read_text(encoding="utf-8") for each in pages)
    suspicious = re.findall(
        r"^    (?:(?:\w*(?:command|program|binar|executable)\w*|start|stop|show|build|run|shell): "
        r"(?!PlatformCommands|CommandsPart).*"
        r"|\w+: Words .*)$",
        page,
        re.MULTILINE,
    )
    assert len(suspicious) == len(list_program_keys()) - 2  # files that name programs: pgbackrest's, and that of ssh
    assert all(any(word in line for word in ("RUNS", "CommandLine", "Words")) for line in suspicious)
