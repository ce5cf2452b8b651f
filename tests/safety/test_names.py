"""Names from outside become paths, keys and arguments only after `model/names.py` has read them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from backout.errors import Refused
from backout.model.names import parse_cluster, parse_id, parse_key, parse_member, parse_segment, parse_wal_file

SOURCE = Path(__file__).parents[2] / "src" / "backout"
PLACES = (
    *(
        "providers/archive",
        "providers/pgbackrest",
        "providers/postgres/restore/side.py",
        "providers/postgres/restore/wal_search.py",
    ),
    *(
        "providers/postgres/backup/dump_descriptions.py",
        "providers/postgres/backup/dump_objects.py",
        "providers/postgres/backup/dumps.py",
    ),
    *("runbook/recovery/steps/rescue.py", "runbook/recovery/steps/managed.py", "runbook/recovery/unsigned.py"),
)
READERS = {"parse_id", "parse_cluster", "parse_segment", "parse_wal_file", "parse_member", "parse_key", "_dump_path"}
KEY_BUILDERS = "providers/archive/places.py"


def _is_read(node: ast.expr) -> bool:
    """Whether a part of a path is a text of ours, or has been read."""
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in READERS
    if isinstance(node, ast.JoinedStr):
        return all(_is_read(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return _is_read(node.value) or node.format_spec is not None  # a number with its digits
    return isinstance(node, ast.Name) and node.id.lstrip("_").isupper()


def _joins(function: ast.expr) -> bool:
    return isinstance(function, ast.Attribute) and function.attr in {"glob", "joinpath", "with_name"}


def joined_around(source: str, module: str) -> list[str]:
    """Return each place of a module that joins a path or key with what was not read."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and not _is_read(node.right):
            found.append(f"{module}: {ast.unparse(node)}")
        if isinstance(node, ast.Call) and _joins(node.func) and not all(map(_is_read, node.args)):
            found.append(f"{module}: {ast.unparse(node)}")
        if isinstance(node, ast.JoinedStr) and module != KEY_BUILDERS:
            first = node.values[0]
            if isinstance(first, ast.Constant) and str(first.value).startswith(("base/", "wal/")):
                found.append(f"{module}: {ast.unparse(node)}")
    return found


def test_no_path_is_joined_with_a_name_that_was_not_read() -> None:
    """Each module that handles such names is searched; what is an exception stands here with its reason."""
    allowed = {"providers/archive/stores.py: path.with_name(path.name + _UNFINISHED)"}  # a key that was read, longer
    found = []
    for place in PLACES:
        path = SOURCE / place
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            module = str(file.relative_to(SOURCE))
            found += joined_around(file.read_text(encoding="utf-8"), module)
    assert [each for each in found if each not in allowed] == []


@pytest.mark.parametrize(
    "text", ["", ".", "..", "../x", "/x", "a/b", "-n", "--set=x", "a\0", "a\n", "a b", "a.b", "ä", "x" * 64, None, 7]
)
def test_an_id_is_neither_a_path_nor_an_option(text: object) -> None:
    """Letters, digits, `-` and `_`, and not at the beginning; the error quotes what it was, cut."""
    with pytest.raises(Refused, match="is not the id of a backup"):
        parse_id(text, "the id of a backup")


def test_what_each_reader_takes() -> None:
    """Names as Postgres, pgBackRest and we ourselves make them; no other."""
    assert parse_id("20261125-190203F_20261126-190203I")
    assert parse_id("20261125T190203Z")
    assert parse_cluster("7301234567890123456")
    assert parse_segment("00000001000000010000002A") == parse_wal_file("00000001000000010000002A")
    assert parse_segment("00000001000000010000002A.partial")
    assert parse_wal_file("00000002.history")
    assert parse_member("base/5/1249_vm")
    assert parse_key("wal/7/00000002.history")
    for reader, texts in (
        (parse_cluster, ("", "-7", "7/..", "٣")),
        (parse_segment, ("00000002.history", "00000001000000010000002a", "00000001000000010000002A.x", "../x")),
        (parse_wal_file, ("0000002.history", "00000002.history.partial", "00000002.history/x")),
        (parse_member, ("", "/", "/x", "a/", "a//b", "./a", "a/..", "..", "a\0b")),
        (parse_key, ("", "/x", "x/", "a/../b", ".hidden", "a b", "a\nb", "a/-x")),
    ):
        for text in texts:
            with pytest.raises(Refused):
                reader(text)


def test_the_search_finds_what_goes_around() -> None:
    """A path joined with an id that nobody read, a key made by hand, a pattern for a glob."""
    source = 'a / b.id\na / f"{b.id}.json"\nf"base/{b}/x"\na.glob(f"{b}.*")\na.joinpath(b)'
    assert len(joined_around(source, "m.py")) == 5
    assert joined_around('a / parse_id(b)\na / "x" / f"{parse_id(b)}.json"\na / NAME', "m.py") == []
