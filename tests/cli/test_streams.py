"""Streams that cannot be written to, readers that go away, and Ctrl-C before a command has begun: one sentence."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest
from typed import Typist, shared_typist

from backout.cli.app import root
from backout.cli.commands import list_entries

from extent import sampled
from polling import PATIENCE_S

if TYPE_CHECKING:
    from pathlib import Path

VARIABLES = {"LANG": "C.UTF-8"}
COMMANDS = (("--version",), ("--help",), ("config", "example"), ("config", "example", "--json"), ("help", "exit-codes"))
NOWHERE = {"/dev/full": b"No space left on device", "-": b"it is closed"}


def pages() -> list[tuple[str, ...]]:
    """Return the command line of every page of help."""
    found: list[tuple[str, ...]] = []

    def add(command: click.Command, words: tuple[str, ...]) -> None:
        found.append((*words, "--help"))
        if isinstance(command, click.Group):
            for name in command.list_commands(click.Context(command)):
                inner = command.get_command(click.Context(command), name)
                assert inner is not None
                add(inner, (*words, name))

    for name in list_entries():
        command = root.get_command(click.Context(root), name)
        assert command is not None
        add(command, (name,))
    return found


@pytest.fixture
def typing() -> Typist:
    return shared_typist()


def check_unread(typing: Typist, folder: Path, arguments: tuple[str, ...]) -> None:
    """Look at what a command does whose answer cannot be written: it is said, once, and the code is not 0."""
    for place, why in NOWHERE.items():
        ended = typing.type(folder, *arguments, variables=VARIABLES, stdout=place)
        assert (ended.code, ended.err.count(b"\n")) == (1, 1), ended
        assert ended.err.startswith(b"error: the answer could not be written to standard output: " + why), ended
        both = typing.type(folder, *arguments, variables=VARIABLES, stdout=place, stderr=place)
        assert (both.code, both.out, both.err) == (1, b"", b"")
    silent = typing.type(folder, *arguments, variables=VARIABLES, stderr="-")
    assert (silent.code, silent.err) == (0, b"")
    assert silent.out


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_an_answer_that_cannot_be_written(typing: Typist, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """`> /dev/full` and `>&-`, and both streams gone."""
    check_unread(typing, tmp_path, arguments)


@pytest.mark.rotating("tables of everything", 2)
@pytest.mark.long
def test_no_page_of_help_ends_in_a_traceback(typing: Typist, tmp_path: Path) -> None:
    """The same for each command that there is."""
    found = pages()
    assert len(found) > 60
    for number in sampled(len(found), 4, everything=3):
        arguments = found[number]
        check_unread(typing, tmp_path, arguments)


def test_an_error_keeps_its_code(typing: Typist, tmp_path: Path) -> None:
    """What a command found counts, whether or not it can be read; nothing was written to standard output here."""
    for place in NOWHERE:
        ended = typing.type(tmp_path, "runs", "list", variables=VARIABLES, stdout=place)
        assert ended.code == 2
        assert b"could not be written" not in ended.err
        as_json = typing.type(tmp_path, "runs", "list", "--json", variables=VARIABLES, stdout=place)
        assert (as_json.code, as_json.err.count(b"could not be written")) == (2, 1)


def test_a_file_never_gets_the_number_of_a_closed_stream(typing: Typist, tmp_path: Path) -> None:
    """A journal that is opened while standard output is closed has none of its words in it."""
    wrangler = tmp_path / "wrangler.toml"
    wrangler.write_text('name = "shop"\n')
    ended = typing.type(tmp_path, "init", variables=VARIABLES, stdout="-", stderr="-")
    assert ended.code == 1
    assert wrangler.read_text() == 'name = "shop"\n'
    assert "error" not in (tmp_path / "backout.toml").read_text()


START = '{"type":"start","deploy_ts":0,"old":"a","new":"b","split":1}'
TICK = '{"type":"tick","ts":1}'


def test_verdicts_that_nobody_reads_end_a_replay(tmp_path: Path) -> None:
    """`guard replay - | head -1` does not go on for ever."""
    command = f"{{ echo '{START}'; yes '{TICK}'; }} | '{sys.executable}' -m backout guard replay - | head -1"
    done = subprocess.run(
        ["/bin/sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr


STOPPED = """
import os, signal, sys

class Stop:
    def find_spec(self, name, path=None, target=None):
        if {wanted!r} == "":
            print(name, file=sys.__stderr__)
        elif name == {wanted!r}:
            os.kill(os.getpid(), signal.SIGINT)

from backout.__main__ import main
sys.meta_path.insert(0, Stop())
sys.argv = ["backout", *{arguments!r}]
main()
"""


def stopped(folder: Path, wanted: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to which Ctrl-C comes while it imports a module; "": tell which modules it imports."""
    code = STOPPED.format(wanted=wanted, arguments=arguments)
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )


def check_stopped(folder: Path, names: list[str]) -> None:
    """Look that Ctrl-C during the import of each of these is an interruption, in words and in JSON."""
    for name in names:
        ended = stopped(folder, name, "config", "example")
        assert (ended.returncode, ended.stderr.lstrip("\n")) == (130, "error: interrupted\n"), (name, ended)
    ended = stopped(folder, names[0], "config", "example", "--json")
    assert (ended.returncode, json.loads(ended.stdout)["error"]) == (130, "Interrupted")


def test_ctrl_c_before_a_command_has_begun(tmp_path: Path) -> None:
    """Whichever module is just being imported: the first, and the parser of command lines."""
    check_stopped(tmp_path, ["backout.startup", "click"])


def test_ctrl_c_while_the_entry_point_is_imported(tmp_path: Path) -> None:
    """What installers write imports `backout.__main__`, before anything of ours can catch."""
    code = STOPPED.format(wanted="backout.streams", arguments=())
    first = "from backout.__main__ import main\n"
    code = code.replace(first, "").replace("main()", f"{first}main()")
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "error: interrupted\n")


@pytest.mark.long
def test_ctrl_c_during_any_import(tmp_path: Path) -> None:
    """Each fourth module of all that a command imports."""
    names = stopped(tmp_path, "", "config", "example").stderr.split()
    assert len(names) > 40
    check_stopped(tmp_path, names[::4])
