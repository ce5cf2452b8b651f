"""Help, topics and completion: golden texts, and a start-up that imports nothing a call does not need."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from cli_shell import backout

from backout import __version__
from backout.cli.app import root
from backout.cli.commands import list_entries
from backout.errors import EXIT_CODES

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden_help.txt"
LIGHT = {
    "backout", "backout.__main__", "backout.cli", "backout.cli.app", "backout.cli.commands",
    "backout.cli.support.errors", "backout.cli.support.options", "backout.cli.support.output",
    "backout.cli.support.shell",
    "backout.cli.support.style", "backout.config", "backout.config.environment", "backout.config.secret",
    "backout.errors", "backout.rules", "backout.escaping", "backout.report", "backout.report.redact", "backout.startup",
    "backout.streams", "backout.cli.support",
}  # fmt: skip
NOUNS = {"backout.bounds", "backout.model", "backout.analysis", "backout.report"}
HEAVY = {"msgspec", "rich", "aiohttp", "psycopg", "asyncio", "sqlite3", "ssl", "http.client", "tomllib", "subprocess"}


def imported(*arguments: str) -> set[str]:
    """Return the modules that a call has imported at its end."""
    code = (
        f"import sys\nsys.argv = ['backout', *{arguments!r}]\nfrom backout.__main__ import answer\n"
        "try:\n    answer(sys.argv[1:])\nexcept SystemExit:\n    pass\nprint(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    return set(done.stderr.split())


def own(modules: set[str]) -> set[str]:
    return {module for module in modules if module.split(".")[0] == "backout"}


def test_version_imports_nothing() -> None:
    """`--version` is answered before click, dataclasses and everything else."""
    modules = imported("--version")
    assert own(modules) == {"backout", "backout.__main__", "backout.streams"}
    assert not modules & {"click", "dataclasses", "re", *HEAVY}


def test_help_imports_the_frame_alone() -> None:
    """`--help` comes from the table: no command, no parser, no model."""
    modules = imported("--help")
    assert own(modules) == LIGHT
    assert not modules & HEAVY


@pytest.mark.parametrize("name", list(list_entries()))
def test_the_help_of_a_command_imports_that_command_and_nouns(name: str) -> None:
    """The help of a command never loads a provider, the journal, the twin or a heavy library."""
    modules = imported(name, "--help")
    others = {m for m in own(modules) - LIGHT if not any(m == n or m.startswith(f"{n}.") for n in NOUNS)}
    assert {m for m in others if not m.startswith(("backout.cli.", "backout.config."))} == set()
    assert not modules & HEAVY - {"msgspec"}  # nouns are its structs, which take less than dataclasses do


def test_the_help_at_80_columns() -> None:
    """The golden text; after a wanted change: backout --help > tests/cli/golden_help.txt."""
    done = subprocess.run(
        [sys.executable, "-m", "backout", "--help"],
        env={**os.environ, "COLUMNS": "80"}, capture_output=True, text=True, check=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.stdout == GOLDEN.read_text()
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_every_command_is_there_and_says_what_the_table_says(tmp_path: Path) -> None:
    """Every entry of the table can be imported, has help, and takes the global options."""
    for name, entry in list_entries().items():
        assert len(entry.summary) <= 64
        answer = backout(tmp_path, "help", name)
        assert answer.code == 0, name
        assert answer.out.startswith(f"Usage: backout {name}"), name
        assert "Every command takes" in answer.out, name


@pytest.mark.parametrize("words", [(), ("panic",), ("guard", "accept"), ("twin", "up")])
def test_the_short_flag_is_help_too(tmp_path: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Typed at night on any command: the same text as --help."""
    command: click.Command | None = root
    for word in words:  # as tests and `backout help` look at a command, before it is typed
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), word)
    assert command is not None
    command.get_params(click.Context(command))
    told = []
    for flag in ("-h", "--help"):
        assert backout(tmp_path, *words, flag).code == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    assert told[0].startswith("Usage: backout")


def test_exit_codes_are_a_topic(tmp_path: Path) -> None:
    """The texts come from the error tree itself."""
    answer = backout(tmp_path, "help", "exit-codes")
    assert [int(line.split()[0]) for line in answer.out.splitlines()] == list(EXIT_CODES)
    record = backout(tmp_path, "help", "exit-codes", "--json").json
    assert record["exit_codes"] == [{"code": code, "meaning": meaning} for code, meaning in EXIT_CODES.items()]
    assert backout(tmp_path, "help", "no-such-topic").code == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(tmp_path: Path, shell: str) -> None:
    """Each script names the variable through which the shell asks."""
    answer = backout(tmp_path, "completion", shell)
    assert answer.code == 0
    assert f"_BACKOUT_COMPLETE={shell}_complete" in answer.out


def test_completion_candidates_come_from_the_table_without_loading_commands(tmp_path: Path) -> None:
    """What a shell asks is answered offline."""
    asked = {**os.environ, "_BACKOUT_COMPLETE": "bash_complete", "COMP_WORDS": "backout r", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "backout"], env=asked, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    names = ("rollback", "roll-forward", "release", "recover", "runs", "runbook")
    assert done.stdout.split() == [f"plain,{name}" for name in names]
    asked["COMP_WORDS"] = "backout config "
    asked["COMP_CWORD"] = "2"
    done = subprocess.run(
        [sys.executable, "-m", "backout"], env=asked, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert set(done.stdout.split()) == {"plain,show", "plain,check", "plain,example"}


def test_the_version_is_the_packages() -> None:
    """Alone and beside other options."""
    for arguments in (["--version"], ["--version", "--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "backout", *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE_S,
        )
        assert done.stdout == f"backout {__version__}\n"


def test_every_json_answer_is_documented() -> None:
    """docs/json.md names each schema that a command writes; a new one without a word there fails here."""
    written = {"error"}
    for file in (ROOT / "src" / "backout" / "cli").rglob("*.py"):
        written |= set(re.findall(r"\.(?:result|line)\(\s*\"([a-z-]+)\"", file.read_text()))
    documented = set(re.findall(r"`backout\.([a-z-]+)/1`", (ROOT / "docs" / "json.md").read_text()))
    assert len(written) > 8
    assert written - documented == set()


def test_no_command_shadows_a_global_option() -> None:
    """Two options of one name would make one of them unreachable."""
    for command, ctx in list_all_commands(root):
        names = [name for param in command.get_params(ctx) for name in (*param.opts, *param.secondary_opts)]
        options = [name for name in names if name.startswith("-")]
        assert len(options) == len(set(options)), ctx.command_path


def test_no_option_takes_a_number_that_is_none() -> None:
    """As "nan", which lies in each range of click's own."""
    taken = [param for command, ctx in list_all_commands(root) for param in command.get_params(ctx)]
    ranges = [param for param in taken if isinstance(param.type, click.FloatRange) or param.type is click.FLOAT]
    assert len(ranges) > 5
    for param in ranges:
        for text in ("nan", "-nan", "inf"):
            with pytest.raises(click.BadParameter):
                param.type.convert(text, param, None)


def list_all_commands(
    command: click.Command, ctx: click.Context | None = None
) -> Iterator[tuple[click.Command, click.Context]]:
    """Yield each command with its context, groups before what is in them."""
    ctx = ctx or click.Context(command, info_name="backout")
    yield command, ctx
    for name in command.list_commands(ctx) if isinstance(command, click.Group) else ():
        inner = command.get_command(ctx, name)
        assert inner is not None
        yield from list_all_commands(inner, click.Context(inner, info_name=name, parent=ctx))
