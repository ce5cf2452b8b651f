"""README and docs against the program: commands that parse, links that lead somewhere, nothing of this machine."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import click
import pytest
from command_lines import parsed, quoted
from pages import RENDERER

from backout.cli.app import root
from backout.cli.commands import list_entries

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*/README.md")])
PICTURE = ROOT / "docs" / "demo.svg"
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PATH = re.compile(r"(?<![\w./-])(?:src|tests|tools|docs|benchmarks|examples)/[\w./-]*[\w/]")
_REGISTRIES = ("pypi.org", "pythonhosted", "npmjs", "cdnjs", "jsdelivr", "unpkg", "googleapis", "proxy.golang")
WRITTEN_BY_MAKE = {"docs/research/proofs.md"}
"""Not in the repository before `make proof` has run."""


QUOTED = sorted({(page.name, line) for page, text in TEXTS.items() for line in quoted(text)})


def test_there_are_pages_and_commands_to_check() -> None:
    """The patterns above find what a reader would find."""
    assert {page.name for page in PAGES} >= {"README.md", "quickstart.md", "design.md", "runbook.md", "providers.md"}
    assert len(QUOTED) > 60
    assert {"deployments list", "rollback", "guard replay", "twin fault set", "runs resume"} <= {
        " ".join(parsed(line)) for _, line in QUOTED
    }


@pytest.mark.parametrize(("page", "line"), QUOTED, ids=lambda value: value[:60])
def test_every_quoted_command_line_parses(page: str, line: str) -> None:
    """Command, subcommand and options exist; nothing is run."""
    try:
        parsed(line)
    except click.UsageError as error:
        pytest.fail(f"{page}: `{line}`: {error.format_message()}")


@pytest.mark.parametrize(
    "line",
    [
        "backout rolback",
        "backout rollback --dry",
        "backout runs list extra",
        "backout guard -z",
        "backout twin fault set x",
    ],
)
def test_a_wrong_command_line_is_found(line: str) -> None:
    """The check above can fail."""
    with pytest.raises(click.UsageError):
        parsed(line)


def test_every_command_is_written_about() -> None:
    """Each command, and each subcommand of a group, stands in the README or in docs."""
    paths = {" ".join(parsed(line)) for _, line in QUOTED}
    expected = set()
    for name in list_entries():
        command = root.get_command(click.Context(root), name)
        assert command is not None
        inner = command.list_commands(click.Context(command)) if isinstance(command, click.Group) else []
        expected |= {f"{name} {sub}" for sub in inner} or {name}
    named = {f"{first} {second}" for first, second in re.findall(r"`(\w+) (\w+)", "\n".join(TEXTS.values()))}
    assert expected - paths - named == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    """To a file, and to a heading of it where one is named."""
    for target in _LINK.findall(TEXTS[page]):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, heading = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        if heading:
            slugs = {
                re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
                for line in file.read_text(encoding="utf-8").splitlines()
                if line.startswith("#")
            }
            assert heading in slugs, f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lists_tables_and_headings_are_set_off(page: Path) -> None:
    """By an empty line, inner lists by four blanks: what GitHub reads without, the site's renderer takes for text."""
    lines = TEXTS[page].splitlines()
    depth = 0
    for token in RENDERER.parse(TEXTS[page]):
        if token.type in {"bullet_list_open", "ordered_list_open"}:
            first = lines[token.map[0]] if token.map else ""
            assert len(first) - len(first.lstrip()) == 4 * depth, f"{page.name}: {first}"
            depth += 1
        elif token.type in {"bullet_list_close", "ordered_list_close"}:
            depth -= 1
        if token.type in {"bullet_list_open", "ordered_list_open", "table_open", "heading_open"} and token.map:
            begins = token.map[0]
            if begins and depth <= 1 and not lines[begins - 1].startswith("<!--"):
                assert not lines[begins - 1].strip(), f"{page.name}: {lines[begins]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_of_the_repository_exists(page: Path) -> None:
    """Paths in the text, links aside: from the root, or from the page's own folder."""
    for name in _PATH.findall(re.sub(r"\]\([^)]*\)", "]", TEXTS[page])):
        if name not in WRITTEN_BY_MAKE and "NAME" not in name:
            assert (ROOT / name).exists() or (page.parent / name).exists(), f"{page.name}: {name}"


@pytest.mark.parametrize("page", [*PAGES, PICTURE], ids=lambda page: page.name)
def test_nothing_of_a_machine_and_no_registry(page: Path) -> None:
    """No absolute path of whoever wrote it, no address that a package or a font would come from."""
    text = page.read_text(encoding="utf-8")
    assert str(ROOT) not in text
    assert re.search(r"(?<![\w.])/(?:home|root|work|Users|tmp)/", text) is None
    assert [host for host in _REGISTRIES if host in text] == []


def test_the_picture_is_whole_and_asks_nobody() -> None:
    """Well-formed XML with the end of a demo in it, and no address but its own namespace and loopback."""
    tree = ET.parse(PICTURE)  # noqa: S314 - our own file
    words = "".join(tree.getroot().itertext()).replace("\u00a0", " ")
    assert "regressed" in words
    assert "8 of 8 criteria passed" in words
    assert "verified" in words
    addresses = re.findall(r"https?://[^\s\"'<)&]+", PICTURE.read_text(encoding="utf-8"))
    assert {re.sub(r":\d+.*", "", a.partition("//")[2]).rstrip(",") for a in addresses} <= {
        "www.w3.org/2000/svg",
        "127.0.0.1",
    }


def test_the_readme_is_short() -> None:
    """A newcomer reads it in one go."""
    assert len(TEXTS[ROOT / "README.md"].split()) <= 700


@pytest.mark.parametrize(
    "page", [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "research").glob("*.md")], ids=lambda page: page.name
)
def test_a_page_says_first_for_whom_it_is(page: Path) -> None:
    """In its first sentence, so that nobody reads what they do not need."""
    _, _, text = TEXTS[page].partition("\n\n")
    assert text.startswith("For "), f"{page.name}: begin with `For ...`"


_ASKED = re.compile(r"^\$ (?P<line>backout [^\n]*)\n(?P<said>(?:(?!\$ |```)[^\n]*\n)*)", re.MULTILINE)
_LABEL = re.compile(r"^  (?P<label>[a-z][a-z ]*?)(?: {2,}\S|$)", re.MULTILINE)


def test_transcripts_have_the_rows_that_a_status_has() -> None:
    """What was recorded is recorded anew when a row gets another name: tools/record_quickstart.py, record_night.py."""
    rooms = [ROOT / "src" / "backout" / "cli" / name for name in ("status.py", "support/in_need.py")]
    trees = [ast.walk(ast.parse(room.read_text(encoding="utf-8"))) for room in rooms]
    known = {node.value for tree in trees for node in tree if isinstance(node, ast.Constant)}
    shown = 0
    for page in (ROOT / "docs" / "quickstart.md", ROOT / "docs" / "examples" / "night.md"):
        for found in _ASKED.finditer(page.read_text(encoding="utf-8")):
            if found["line"].startswith("backout status ") and found["said"].strip():
                labels = {each["label"] for each in _LABEL.finditer(found["said"])}
                assert labels <= known, (page.name, labels - known)
                shown += len(labels)
    assert shown > 30
