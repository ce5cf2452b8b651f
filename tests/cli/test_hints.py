"""Command lines that the program itself tells somebody to type: each names a command and options that exist."""

from __future__ import annotations

import ast
import re
import shlex
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click
from source_trees import tree_of

from backout.cli.app import root

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).parents[2] / "src" / "backout"
_TYPED = re.compile(r"(?<![\w./\[-])backout (?=[a-z-])[^`;,()|#\n\"]*")
_QUOTED = re.compile(r"`(backout [^`\n]+)`")
_SHOWN = re.compile(r"^ {2,}(?:\$ )?(backout [^#\n]+)", re.MULTILINE)
_TOLD = frozenset({"hint", "next", "undo", "resume", "mend"})
"""Arguments whose text is what to type next."""
PROSE = frozenset({"applies", "as", "has", "may", "on", "that", "watches", "..."})
"""What follows the program's name in sentences about it."""
LABELS = frozenset({"backout mark 1"})
"""Texts that nobody types: what a signature is of."""


COMMANDS = frozenset(root.list_commands(click.Context(root)))


def text_of(node: ast.AST) -> str:
    """Return the text of a string or an f-string, with an X where a value is put in; "" for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) if isinstance(part, ast.Constant) else "X" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text_of(node.left) + text_of(node.right)
    return ""


def lines_in(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, what to type): what stands in backticks or on an example's line, begins a text, or is a hint."""
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    hints = any(isinstance(node, ast.ImportFrom) and node.module == "backout.model.hint" for node in ast.walk(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg in _TOLD:
            for inner in ast.walk(node.value):
                if id(inner) not in parts:
                    yield from ((inner.lineno, line) for line in _TYPED.findall(text_of(inner)))
        if hints and isinstance(node, ast.Call) and getattr(node.func, "id", "") == "suggest_command" and node.args:
            yield node.lineno, f"backout {text_of(node.args[0])}"  # `backout.model.hint.suggest_command`
        if isinstance(node, (ast.Constant, ast.JoinedStr)) and id(node) not in parts:
            text = text_of(node)
            found = [*_QUOTED.findall(text), *_SHOWN.findall(text)]
            if text.startswith("backout ") and "\n" not in text and not text.endswith("."):
                found += _TYPED.findall(text)[:1]
            yield from ((node.lineno, line) for line in found)
            named = (line.rstrip(" .:") for line in _TYPED.findall(text))  # anywhere in a sentence, its options too
            yield from ((node.lineno, line) for line in named if len(line.split()) > 1 and line.split()[1] in COMMANDS)


@cache
def trees() -> dict[Path, ast.AST]:
    """Return the source, parsed: by the tests that read it, for every worker imports this file."""
    parsed = {path: path.read_text(encoding="utf-8") for path in sorted(SOURCE.rglob("*.py"))}
    return {path: tree_of(path) for path, text in parsed.items() if "backout " in text or " suggest_command(" in text}


@cache
def lines() -> list[tuple[str, int, str]]:
    """Return (file, line, what to type) of all that the program tells."""
    return sorted(
        {
            (str(path.relative_to(SOURCE)), number, " ".join(line.split()))
            for path, tree in trees().items()
            for number, line in lines_in(tree)
            if line not in LABELS
        }
    )


def wrong_with(line: str) -> str:
    """Return what in a command line does not exist; "" when all of it does. What follows it is not read."""
    command: click.Command = root
    known = {option for param in root.params for option in (*param.opts, *param.secondary_opts)}
    words = re.split(r" [|>&]", line)[0].split()[1:]
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words[0].rstrip("X")
        if not name or name.isupper() or name in PROSE:
            return ""
        found = command.get_command(click.Context(command), name)
        if found is None:
            return f"no command {name!r} in {command.name}"
        command, words = found, words[1:]
    params = command.get_params(click.Context(command))
    known |= {option for param in params for option in (*param.opts, *param.secondary_opts)} | {"--help"}
    ours = words[: words.index("--")] if "--" in words else words
    options = [word.partition("=")[0].rstrip(":.'") for word in ours if word.startswith("-")]
    return "".join(f"no option {option} of {command.name}" for option in options if option not in {*known, "-"})


def test_there_are_lines_to_check() -> None:
    """The patterns find what the program tells."""
    assert len(lines()) > 150
    said = {line for _, _, line in lines()}
    assert {"backout runs list", "backout init", "backout config check"} <= said


def test_a_wrong_line_is_found() -> None:
    """The check itself: commands, inner commands and options that do not exist; values and prose are let be."""
    assert wrong_with("backout nonsense -e production") == "no command 'nonsense' in backout"
    assert wrong_with("backout db nonsense") == "no command 'nonsense' in db"
    assert wrong_with("backout rollback --nonsense") == "no option --nonsense of rollback"
    for line in (
        "backout rollback X --force=schema X",
        "backout runs resume X",
        "backout db",
        "backout status shows it",
    ):
        assert wrong_with(line) == ""


def test_every_command_that_the_program_names_exists() -> None:
    """Nobody is told to type what there is not."""
    wrong = [f"{file}:{number}: {line}: {why}" for file, number, line in lines() if (why := wrong_with(line))]
    assert not wrong, "\n".join(wrong)


def commands(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield (words, command) of a command and of all below it."""
    yield words, command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), name)
            assert found is not None
            yield from commands(found, (*words, name))


def pasted(line: str) -> list[str]:
    """Return what a shell would give to backout for a line of the help, comments left out; [] for another program's."""
    words = shlex.split(line, comments=True)
    place = next((place for place, word in enumerate(words) if word == "backout"), len(words))
    mine = words[place + 1 :]
    ends = (place for place, word in enumerate(mine) if word in ("|", "<", ">", ">>", ";"))
    return mine[: next(ends, len(mine))]


def pasting_fails(words: list[str]) -> str:
    """Return why these words are no command with its arguments; "" when they are."""
    command: click.Command = root
    while isinstance(command, click.Group) and words:
        found = command.get_command(click.Context(command), words[0])
        if found is None:
            break
        command, words = found, words[1:]
    context = click.Context(command)
    try:
        _, left, _ = command.make_parser(context).parse_args(list(words))
    except click.ClickException as error:
        return error.format_message()
    return "" if not left else f"{command.name} takes no {' '.join(map(str, left))}"


def test_examples_can_be_pasted() -> None:
    """Each line below "Examples:" in the help is a command as a shell reads it: what explains it is a comment."""
    seen, wrong = 0, []
    for words, command in commands(root):
        for line in (command.epilog or "").partition("Examples:")[2].splitlines():
            typed = pasted(line)
            seen += bool(typed)
            why = pasting_fails(typed) if typed else ""
            if "  " in line.partition("#")[0].strip() or why:
                wrong.append(f"{' '.join(words)}: {line}: {why or 'words behind it that are no comment'}")
    assert seen > 60
    assert wrong == []


def test_an_example_that_cannot_be_pasted_is_found() -> None:
    """Words behind it, an option that does not exist, a comment that the shell does not take for one."""
    for line in (
        "backout guard -e production watch the newest",
        "backout guard --nonsense",
        "backout rollback 3f2a91 --dry-run the plan, nothing else",
    ):
        assert pasting_fails(pasted(line)), line
    assert not pasting_fails(pasted("openssl rand 4 | backout secrets put A -e staging  # from a pipe"))


ROOT = SOURCE.parents[1]
_NAMED = re.compile(r"(?<![\w./@:'\[-])(?<!<!-- )backout ([a-z][a-z-]*[a-z])(?![\w-])(?![\w.-]*[/=@])")
_WORDS = """
acts alone and asks began begin behaves brings can cannot changes crashes developers did does follows gives holds is
it itself keeps knows looks made masked meets needs never or promises provides put puts raises reaches reads recognise
relies retries rolls says sends set starts then to uploads useful uses waits within works would writes wrote
"""
SENTENCES = frozenset(_WORDS.split())
"""What follows the program's name in sentences about it, on all pages."""
UNTYPED = {
    *(("analysis/history/seal.py", "mark"), ("providers/files/reports.py", "run"), ("report/redact.py", "backup")),
    *((f"docs/examples/incident-{name}.md", "run") for name in ("guard", "person", "rows")),
}
"""Marks within files, and a list of words."""


def texts() -> Iterator[tuple[str, str]]:
    """Yield (where, text) of all that a user may read: every string of the source, the catalogue, the pages."""
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.Constant, ast.JoinedStr)) and "backout " in (text := text_of(node)):
                yield f"{path.relative_to(SOURCE)}:{node.lineno}", text
    pages = [*SOURCE.rglob("*.toml"), *ROOT.glob("*.md"), *ROOT.glob("*.yml"), *(ROOT / "docs").rglob("*.md")]
    pages += [*(ROOT / "examples").rglob("*.md"), *(ROOT / "examples").rglob("*.yml")]
    for path in sorted(pages):
        if "node_modules" not in path.parts:
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def test_no_text_names_a_command_that_there_is_not() -> None:
    """Also where nothing marks it as something to type: in a sentence, a comment of a page, a table."""
    known = {*root.list_commands(click.Context(root)), *PROSE, *SENTENCES}
    found = [
        f"{where}: backout {word}"
        for where, text in texts()
        for word in _NAMED.findall(text)
        if word not in known
        and (where.partition(":")[0], word) not in UNTYPED
        and f"not built yet** (`{word}`)" not in text
    ]
    assert not found, "\n".join(sorted(set(found)))


def test_a_command_in_a_sentence_is_found() -> None:
    """The pattern: what could be missed in the words of an error."""
    assert _NAMED.findall("free some space, next: backout physician, or backout status") == ["physician", "status"]


_FROM_AN_INDEX = re.compile(r"(?:pip|uv tool|pipx) install ['\"]?backout\b")


def test_no_text_installs_a_package_of_our_name_from_an_index() -> None:
    """Nothing is published under it: what somebody else publishes there would be installed beside the tokens."""
    sources = ((str(path.relative_to(SOURCE)), path.read_text(encoding="utf-8")) for path in trees())
    found = {where for where, text in (*texts(), *sources) if _FROM_AN_INDEX.search(text)}
    assert found - {"CHANGELOG.md"} == set()  # what it was before stands there


def test_an_install_from_an_index_is_found() -> None:
    """With an extra or without; a checkout and a file are none."""
    told = "pip install 'backout[twin]', pip install backout, pip install '.[twin]', uv tool install ."
    assert len(_FROM_AN_INDEX.findall(told)) == 2
