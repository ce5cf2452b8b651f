"""Port SecretSource on files, variables, a keyring, commands: what they hold, what they refuse, and no value told."""

from __future__ import annotations

import json
import stat
import sys
from typing import TYPE_CHECKING, Any

import pytest
from canaries import CANARIES, leaks_in
from hypothesis import given
from hypothesis import strategies as st

from backout.errors import BackoutError, UsageError
from backout.providers.files.fingerprints import KEY_BYTES, KeyedFingerprints
from backout.providers.memory import World
from backout.providers.sources.parsing import MAX_BYTES, parse
from backout.providers.sources.sources import (
    CommandSource,
    EnvironmentSource,
    KeyringSource,
    from_file,
    from_text,
    from_values,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.ports import SecretSource

KINDS = ("memory", "file", "json", "stdin", "typed", "env", "prefix", "keyring", "command", "command by name")


class Keyring:
    """What the library `keyring` offers."""

    def __init__(self, values: dict[str, str], error: Exception | None = None) -> None:
        self.values = values
        self.error = error

    def get_password(self, service: str, name: str) -> str | None:
        """Return a password."""
        assert service == "fm5"
        if self.error is not None:
            raise self.error
        return self.values.get(name)


def dotenv(values: dict[str, str]) -> str:
    """Return lines of a .env file."""
    escaped = {
        name: value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for name, value in values.items()
    }
    return "".join(f'export {name}="{value}" # why\n' for name, value in escaped.items())


def planted(folder: Path) -> Path:
    """Return the folder in which values may stand."""
    found = folder / "planted"
    found.mkdir(exist_ok=True)
    return found


def program(folder: Path, body: str) -> list[str]:
    """Return the words of a program written in Python."""
    file = planted(folder) / "program.py"
    file.write_text(f"import json, os, sys\nVALUES = {CANARIES!r}\n{body}", encoding="utf-8")
    return [sys.executable, str(file)]


def command(
    folder: Path, words: list[str], heard: Callable[[str], None] = lambda _v: None, **more: Any
) -> CommandSource:
    return CommandSource(
        words, heard, variables={"LANG": "C.UTF-8", **more.pop("variables", {})}, folder=folder, **more
    )


def opened(kind: str, folder: Path, heard: Callable[[str], None]) -> SecretSource:
    """Return a source of that kind that holds the canaries."""
    if kind == "memory":
        world = World()
        world.secret_source.kept = dict(CANARIES)
        return world.secret_source
    if kind in ("file", "json"):
        path = planted(folder) / "secrets"
        path.write_text(json.dumps(CANARIES) if kind == "json" else dotenv(CANARIES), encoding="utf-8")
        return from_file(path, heard, lambda *_: None)
    if kind == "stdin":
        return from_text(dotenv(CANARIES).encode(), "stdin", heard)
    if kind == "typed":
        return from_values(CANARIES, "the prompt", heard)
    if kind in ("env", "prefix"):
        prefix = "PROD_" if kind == "prefix" else ""
        return EnvironmentSource({"HOME": "/", **{prefix + n: v for n, v in CANARIES.items()}}, prefix, heard)
    if kind == "keyring":
        return KeyringSource("fm5", heard, lambda: Keyring(CANARIES))
    if kind == "command":
        return command(folder, program(folder, "json.dump(VALUES, sys.stdout)"), heard)
    body = "sys.stdout.reconfigure(encoding='utf-8'); name = sys.argv[1].split('/')[-1]; print(VALUES[name].rstrip())"
    return command(folder, [*program(folder, body), "op://vault/{name}"], heard)


@pytest.mark.parametrize("kind", KINDS)
def test_every_source_gives_what_it_holds_and_says_every_value_to_the_mask(kind: str, tmp_path: Path) -> None:
    """Values come as they are; a name that it does not hold is left out; its description holds none."""
    heard: list[str] = []
    source = opened(kind, tmp_path, heard.append)
    wanted = ["JWT_SECRET", "EMAIL_API_KEY", "NEW_KEY", *(() if kind == "command by name" else ("NOPE",))]
    values = source.read(wanted)
    assert {name: values.reveal(name) for name in values.names} == {n: CANARIES[n] for n in wanted if n != "NOPE"}
    if kind != "memory":
        assert {CANARIES[name] for name in values.names} <= set(heard)
    if kind != "command by name":  # a line end at its end is the program's
        assert source.read(["PEM"]).reveal("PEM") == CANARIES["PEM"]
    assert leaks_in(f"{source.described} {source!r} {values!r}", "what is shown") == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_lists_its_names_where_it_can(kind: str, tmp_path: Path) -> None:
    """A process's variables, a keyring and a vault cannot be listed."""
    names = opened(kind, tmp_path, lambda _v: None).names()
    assert names == (None if kind in ("env", "keyring", "command by name") else tuple(sorted(CANARIES)))


# --- what a file may look like ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1\nB = two words \n", {"A": "1", "B": "two words"}),
        ("# a comment\n\n  export A=1 # why\r\nB=x#y\r\n", {"A": "1", "B": "x#y"}),
        ("A='as $it \\n is'\n", {"A": "as $it \\n is"}),
        ('A="line\\nbreak \\"q\\" \\\\"\n', {"A": 'line\nbreak "q" \\'}),
        ('A="over\ntwo lines"\nB=1', {"A": "over\ntwo lines", "B": "1"}),
        ('A=`it\'s "both"`', {"A": 'it\'s "both"'}),
        ("A=\nB=#nothing\n", {"A": "", "B": ""}),
        ("A=x=y==\n", {"A": "x=y=="}),
        ("A=1\nA=2\n", {"A": "2"}),
        ("\ufeffA=1\n", {"A": "1"}),
        ('{"A": "1", "B": "\\u00e9"}', {"A": "1", "B": "é"}),
        ("", {}),
    ],
)
def test_what_a_file_means(text: str, expected: dict[str, str]) -> None:
    """The dialect that others agree on, or JSON."""
    assert parse(text.encode(), "file") == expected


@pytest.mark.parametrize(
    ("data", "where", "words"),
    [
        (b"A=1\nhidden-value-here\n", "file:2", "neither NAME=value nor a comment"),
        (b'A=1\n\nB="hidden-value-here\n', "file:3", "quotes around the value of B are not closed"),
        (b"A='x' hidden-value-here\n", "file:1", "follows the closing quote"),
        (b'{"A": 1}', "file", "A is not a string"),
        (b'{"A": {"deep": "hidden-value-here"}}', "file", "A is not a string"),
        (b'{"A": "hidden-value-here"', "file", "not JSON"),
        (b"{" * 100_000, "file", "not JSON"),
        (b"A=1\nB=\xff", "file:2", "not UTF-8"),
        (b"A=" + b"x" * MAX_BYTES, "file", "larger than 1 MiB"),
    ],
    ids=range(9),
)
def test_what_a_file_must_not_be(data: bytes, where: str, words: str) -> None:
    """An error with the line and without the value."""
    with pytest.raises(UsageError, match=words) as caught:
        parse(data, "file")
    assert caught.value.where == where
    assert "hidden-value-here" not in str(caught.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_values_or_one_clear_error(data: bytes) -> None:
    """Nothing else is raised."""
    try:
        found = parse(data, "file")
    except UsageError:
        return
    assert all(isinstance(value, str) for value in found.values())


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z_]{1,8}", fullmatch=True),
        st.text(alphabet=st.characters(exclude_characters="\r\0", exclude_categories=["Cs"]), max_size=30),
        max_size=4,
    )
)
def test_what_is_written_with_quotes_comes_back(values: dict[str, str]) -> None:
    """Whatever the values hold."""
    assert parse(dotenv(values).encode(), "file") == values
    assert parse(json.dumps(values).encode(), "file") == values


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """One sentence with its path."""
    with pytest.raises(UsageError, match="No such file") as caught:
        from_file(tmp_path / "gone", lambda _v: None, lambda *_: None).read(["A"])
    assert caught.value.where == str(tmp_path / "gone")


@pytest.mark.parametrize("value", ["", "   ", "a\0b"])
def test_a_value_that_no_provider_takes_is_refused(value: str) -> None:
    """With its name; not with its value."""
    with pytest.raises(UsageError, match="the value of A") as caught:
        from_values({"A": value}, "the prompt", lambda _v: None).read(["A"])
    assert "\0" not in str(caught.value)


# --- commands ---

FAILURES = {
    "stderr": "print(*VALUES.values(), file=sys.stderr); sys.exit(3)",
    "stdout": "print(*VALUES.values()); sys.exit(1)",
    "traceback": "raise RuntimeError(str(VALUES))",
    "killed": "import signal; print(*VALUES.values(), flush=True); os.kill(os.getpid(), signal.SIGKILL)",
    "nonsense": "print('=', *VALUES.values())",
    "no text": "sys.stdout.buffer.write(b'A=\\xff' + str(VALUES).encode())",
    "cut": "print('{\"A\": \"' + VALUES['EMAIL_API_KEY'])",
}


# By name the output is the value, whatever it is, as long as it is text.
ENDINGS = [(kind, "whole") for kind in FAILURES] + [(k, "by name") for k in FAILURES if k not in ("nonsense", "cut")]


@pytest.mark.parametrize(("failure", "asked"), ENDINGS)
def test_a_command_that_fails_is_never_quoted(failure: str, asked: str, tmp_path: Path) -> None:
    """How it ended and how to run it; nothing of what it wrote."""
    words = [*program(tmp_path, FAILURES[failure]), *(["{name}"] if asked == "by name" else [])]
    source = command(tmp_path, words)
    with pytest.raises(BackoutError) as caught:
        source.read(["JWT_SECRET"])
    error: BaseException | None = caught.value
    assert caught.value.where
    while error is not None:
        assert leaks_in(f"{error!r} {error} {vars(error)}", "the chain of errors") == []
        error = error.__context__ if not error.__suppress_context__ else None


def test_a_command_runs_without_a_shell_in_its_folder_with_its_variables(tmp_path: Path) -> None:
    """Words are words, whatever is in them."""
    body = "json.dump({'A': os.environ['TOKEN'] + os.getcwd() + sys.argv[1]}, sys.stdout)"
    source = command(tmp_path, [*program(tmp_path, body), "$(id); `id` | x"], variables={"TOKEN": "t0ken "})
    assert source.read(["A"]).reveal("A") == f"t0ken {tmp_path.resolve()}$(id); `id` | x"


def test_a_command_that_does_not_end_or_does_not_exist(tmp_path: Path) -> None:
    """Each with what to do."""
    slow = command(tmp_path, program(tmp_path, "import time; time.sleep(60)"), timeout_s=0.3)
    with pytest.raises(BackoutError, match="did not end within"):
        slow.read(["A"])
    with pytest.raises(UsageError, match="cannot be run"):
        command(tmp_path, [str(tmp_path / "nothing")]).read(["A"])


@pytest.mark.parametrize("name", ["../x", "-rf", "a\0b", ""])
def test_a_name_that_would_mean_something_to_a_command_is_refused(name: str, tmp_path: Path) -> None:
    """It becomes a part of a path, or a word."""
    with pytest.raises(UsageError, match="not a name"):
        command(tmp_path, [*program(tmp_path, "print(1)"), "{name}"]).read([name])


# --- the keyring ---


def test_without_the_library_it_says_what_to_install() -> None:
    """An optional part."""

    def missing() -> Any:
        raise ModuleNotFoundError("keyring")

    with pytest.raises(UsageError, match="not installed") as caught:
        KeyringSource("fm5", lambda _v: None, missing).read(["A"])
    assert "[keyring]" in str(caught.value.hint)


def test_a_keyring_that_fails_is_not_quoted() -> None:
    """Its backends put anything into their errors."""
    broken = Keyring({}, RuntimeError(f"cannot decrypt {CANARIES['NEW_KEY']}"))
    with pytest.raises(BackoutError, match="RuntimeError") as caught:
        KeyringSource("fm5", lambda _v: None, lambda: broken).read(["A"])
    assert leaks_in(f"{caught.value} {caught.value.hint}", "the error") == []


# --- fingerprints ---


def test_a_fingerprint_tells_the_same_value_from_another(tmp_path: Path) -> None:
    """Of the same name, in the same environment, with the same key; also by the next process."""
    path = tmp_path / "state" / "journal.key"
    one, other = KeyedFingerprints(path, "production"), KeyedFingerprints(path, "production")
    mark = one.of("A", "value")
    assert mark == other.of("A", "value")
    different = {mark, one.of("A", "value2"), one.of("B", "value"), KeyedFingerprints(path, "staging").of("A", "value")}
    assert len(different) == 4
    assert one.of("A", "B\0x") != one.of("A\0B", "x")
    assert len(mark) == 4 + 1 + 16
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["journal.key"]
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_another_key_makes_other_fingerprints_and_says_so(tmp_path: Path) -> None:
    """So that those of a lost key are never compared."""
    from backout.analysis.secrets import is_comparable  # noqa: PLC0415 - only here

    marks = [KeyedFingerprints(tmp_path / name, "production").of("A", "value") for name in ("one", "two")]
    assert marks[0] != marks[1]
    assert not is_comparable(*marks)


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [(b"short", 0o600, "damaged"), (b"x" * (KEY_BYTES + 1), 0o600, "damaged"), (b"x" * KEY_BYTES, 0o644, "others may")],
)
def test_a_key_that_is_not_right_is_not_used(tmp_path: Path, content: bytes, mode: int, words: str) -> None:
    """One sentence with the file and what to do."""
    path = tmp_path / "journal.key"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(BackoutError, match=words) as caught:
        KeyedFingerprints(path, "production").of("A", "value")
    assert caught.value.where == str(path)
    assert caught.value.hint


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """Says so."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(BackoutError, match="cannot be"):
        KeyedFingerprints(tmp_path / "file" / "journal.key", "production").of("A", "value")
