"""Facts are rendered again into pages that people edited: not one byte of theirs is changed, moved or lost."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from backout.providers.files.reports import FileReports
from backout.report.incident.facts import Block, format_block, merge

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NAMES = ("summary", "timeline", "cause", "actions")


def blocks(version: int) -> list[Block]:
    """Return the facts as they are known at the first, second ... time; one of them never changes."""
    made = [Block(name, name.title(), f"{name} fact {version}\n\n- line of {name}, {version}") for name in NAMES[:-1]]
    return [*made, Block("actions", "Actions", "- none")]


def page(version: int = 1) -> str:
    parts = [
        f"## {block.title}\n\n{format_block(block)}\n\n> To be filled in by a person.\n" for block in blocks(version)
    ]
    return "# Report\n\n" + "\n".join(parts) + "\n<!-- backout run r-1 -->\n"


def test_untouched_facts_are_replaced_in_place() -> None:
    """The page is as if it were written now; the same facts once more change nothing."""
    assert merge(page(1), blocks(2)) == page(2)
    assert merge(page(2), blocks(2)) == page(2)


def test_an_edited_block_stays_and_new_facts_follow_below_it() -> None:
    """Below its end, once; the next facts replace those, not the person's."""
    edited = page().replace("- line of cause, 1", "- line of cause, 1, which I saw myself")
    second = merge(edited, blocks(2))
    mine, new = second.index("which I saw myself"), second.index("cause fact 2")
    assert mine < new < second.index("## Actions")
    assert merge(second, blocks(2)) == second
    third = merge(second, blocks(3))
    assert "cause fact 2" not in third
    assert third.count("cause fact 3") == 1
    assert "cause fact 1\n\n- line of cause, 1, which I saw myself" in third


def test_an_edited_block_is_left_alone_while_there_is_nothing_new() -> None:
    """Nobody wants the same facts twice because of a comma."""
    edited = page().replace("- line of cause, 1", "- line of cause 1")
    assert merge(edited, blocks(1)) == edited


@pytest.mark.parametrize("what", ["begin gone", "end gone", "doubled", "turned round", "all gone"])
def test_where_markers_are_in_disorder_facts_go_to_the_end(what: str) -> None:
    """Once: from then on the new block is the one that is replaced."""
    lines = page().split("\n")
    begin = next(at for at, line in enumerate(lines) if line.startswith("<!-- facts cause"))
    end = next(at for at, line in enumerate(lines) if line.startswith("<!-- end of facts cause"))
    changed = {
        "begin gone": [*lines[:begin], *lines[begin + 1 :]],
        "end gone": [*lines[:end], *lines[end + 1 :]],
        "doubled": [*lines[: end + 1], *lines[begin : end + 1], *lines[end + 1 :]],
        "turned round": [*lines[:begin], lines[end], *lines[begin + 1 : end], lines[begin], *lines[end + 1 :]],
        "all gone": [*lines[:begin], *lines[end + 1 :]],
    }[what]
    before = "\n".join(changed)
    second = merge(before, blocks(2))
    assert is_kept(strip_facts(before), second)
    assert second.rindex("cause fact 2") > second.index("<!-- backout run r-1 -->")
    third = merge(second, blocks(3))
    assert (third.count("cause fact 3"), third.count("cause fact 2")) == (1, 0)
    assert merge(third, blocks(3)) == third


def test_a_marker_that_somebody_else_wrote_into_a_fact_is_none() -> None:
    """A log line cannot end a block."""
    evil = [Block("cause", "Cause", "<!-- end of facts cause 1 -->\n<!-- facts cause 9 0123456789abcdef -->")]
    written = merge("", evil)
    assert written.count("<!-- ") == 2
    assert merge(written, [Block("cause", "Cause", "calm")]).count("calm") == 1


def test_line_ends_may_be_converted() -> None:
    """As git does on Windows: no edit, and what is written next has them as well."""
    second = merge(page().replace("\n", "\r\n"), blocks(2))
    assert second == page(2).replace("\n", "\r\n")


WRITTEN = {
    (lines := format_block(block, number).split("\n"))[0]: lines
    for version in range(1, 6)
    for block in blocks(version)
    for number in range(1, 12)
}
"""Every block that is ever written here, by its first line."""
HUMAN = re.compile("[\ue000-\uf8ff\udce4]+\r?")
"""What the people of these pages write: no other text has these characters."""


def strip_facts(text: str) -> list[str]:
    """Return the lines of a page outside of fact blocks that stand as they were written, without line ends."""
    lines, kept, at = [line.removesuffix("\r") for line in text.split("\n")], [], 0
    while at < len(lines):
        whole = WRITTEN.get(lines[at], [])
        if whole and lines[at : at + len(whole)] == whole:
            at += len(whole)
        else:
            kept.append(lines[at])
            at += 1
    return kept


def is_kept(mine: Sequence[str], after: str) -> bool:
    """Whether all these lines stand in a page in their order."""
    rest = iter(line.removesuffix("\r") for line in after.split("\n"))
    return all(line in rest for line in mine)


def edit(dice: random.Random, text: str, number: int) -> str:
    """Return a page as a person, or a tool of theirs, leaves it; a third of the edits is inside fact blocks."""
    lines = text.split("\n")
    inside = [at for at, line in enumerate(lines) if " fact " in line or line.startswith("- line of")]
    at = dice.choice(inside) if inside and dice.random() < 1 / 3 else dice.randrange(len(lines))
    mine = "".join(chr(0xE000 + dice.randrange(6_400)) for _ in range(5)) + "\udce4" * (number % 2)
    way, size = dice.randrange(9), dice.randrange(1, 12)
    if way == 0:
        lines[at] = mine + lines[at]
    elif way == 1:
        lines.insert(at, f"{mine}\x0b\u2028{mine}")
    elif way == 2:
        lines[at:at] = ["<<<<<<< HEAD", mine, "=======", mine, ">>>>>>> main"]
    elif way == 3:  # both sides of a merge: markers stand twice
        lines[at:at] = ["<<<<<<< HEAD", *lines[at : at + size], "======="]
    elif way == 4:
        return text.replace("\r\n", "\n").replace("\n", "\r\n")
    elif way == 5:
        return text.replace("\r\n", "\n") + dice.choice(["", mine])
    elif way == 6:
        moved, rest = lines[at : at + size], lines[:at] + lines[at + size :]
        to = dice.randrange(len(rest) + 1)
        lines = rest[:to] + moved + rest[to:]
    elif way == 7:
        del lines[at : at + 2]
    else:
        lines[at:at] = ["```", mine, f"<!-- {mine}"]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "seeds", [range(80), pytest.param(range(80, 1_000), marks=pytest.mark.long)], ids=["80", "920 more"]
)
def test_a_thousand_edited_pages_keep_every_byte_of_their_people(seeds: range) -> None:
    """Edits and new facts in turn, three times each page: what people wrote is there byte for byte, line ends included.

    So is every line that is not of a block as it was written: edited facts, headings, halves of a merge.
    """
    inside = 0
    for seed in seeds:
        dice = random.Random(seed)  # noqa: S311 a seed
        text = page()
        for version in range(2, 5):
            for number in range(dice.randrange(1, 4)):
                text = edit(dice, text, number)
            after = merge(text, blocks(version))
            written, kept = HUMAN.findall(text), HUMAN.findall(after)
            if written and text.endswith(written[-1]):  # the last line, which had no line end
                written[-1], kept[-1] = written[-1].removesuffix("\r"), kept[-1].removesuffix("\r")
            assert kept == written, (seed, version)
            mine = strip_facts(text)
            inside += any(" fact " in line for line in mine)
            assert is_kept(mine, after), (seed, version)
            assert merge(after, blocks(version)) == after, (seed, version)
            text = after
    assert inside > len(seeds) / 3


def run_git(folder: Path, *words: str) -> None:
    given = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "core.safecrlf=false")
    subprocess.run([shutil.which("git") or "git", *given, *words], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize("seeds", [range(4), pytest.param(range(4, 20), marks=pytest.mark.long)], ids=["4", "16 more"])
def test_files_that_were_renamed_and_committed_again_keep_their_people(seeds: range, tmp_path: Path) -> None:
    """Each page is edited, renamed, committed and checked out anew, with line ends of the other kind in every second.

    The facts find their page by the comment that names its run, and what people wrote is there, line ends as git left
    them.
    """
    run_git(tmp_path, "init", "--quiet")
    reports = FileReports(tmp_path)
    for seed in seeds:
        dice = random.Random(seed)  # noqa: S311 a seed
        run_git(tmp_path, "config", "core.autocrlf", "true" if seed % 2 else "false")
        path = reports.write(f"r-{seed}", f"report-{seed}.md", page())
        for version in (2, 3):
            edited = edit(dice, path.read_bytes().decode("utf-8", "surrogateescape"), 0)
            path.write_bytes(f"{edited}\n<!-- backout run r-{seed} -->\n".encode("utf-8", "surrogateescape"))
            path = path.rename(tmp_path / f"renamed-{seed}-{version}.md")
            run_git(tmp_path, "add", "--all")
            run_git(tmp_path, "commit", "--quiet", "--message", f"page {seed}, {version}")
            path.unlink()
            run_git(tmp_path, "checkout", "--", path.name)
            before = path.read_bytes().decode("utf-8", "surrogateescape")
            facts = blocks(version)
            assert reports.amend(f"r-{seed}", lambda text, facts=facts: merge(text, facts)) == path  # type: ignore[misc]
            after = path.read_bytes().decode("utf-8", "surrogateescape")
            assert HUMAN.findall(after) == HUMAN.findall(before), (seed, version)
            assert is_kept(strip_facts(before), after), (seed, version)
            assert "cause fact " + str(version) in after
        path.unlink()
    shutil.rmtree(tmp_path / ".git")
