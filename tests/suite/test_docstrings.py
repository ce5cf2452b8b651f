"""How docstrings are written: an argument and an error a line, so that a reader finds it and a tool can read it."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest
from raised_errors import Source
from source_trees import SOURCE, nodes_of

if TYPE_CHECKING:
    from collections.abc import Callable

Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
SECTION = re.compile(r"^(?:Args|Attributes):\n((?: {4}.*\n?)+)", re.MULTILINE)
ANOTHER = re.compile(r"[.)]\s+((?:[a-z_][a-z0-9_]*, )*[a-z_][a-z0-9_]*): ")
ERRORS = re.compile(r"^Raises:\n((?: {4}.*\n?)+)", re.MULTILINE)
ANOTHER_ERROR = re.compile(r"[.;)]\s+(?:(?:\w+\.)*[A-Z]\w+, )*(?:\w+\.)*[A-Z]\w*[a-z]\w*: ")


def names_of(node: ast.AST) -> set[str]:
    """Return the arguments of a function, or the fields and constructor's arguments of a class."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        given = node.args
        return {each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)}
    fields = {each.target.id for each in ast.walk(node) if isinstance(each, ast.AnnAssign) and _is_name(each.target)}
    inits = [each for each in ast.walk(node) if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
    return fields.union(*map(names_of, inits))


def _is_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Name)


def entries_of(section: re.Pattern[str], node: ast.AST) -> list[str]:
    """Return the entries of a section of a docstring, each as one line."""
    assert isinstance(node, Documented)
    parts = section.findall(ast.get_docstring(node) or "")
    return [" ".join(entry.split()) for part in parts for entry in re.split(r"\n(?= {4}\S)", part)]


def crowded(node: ast.AST) -> list[str]:
    """Return the entries of a docstring in which a second argument begins."""
    names = names_of(node)
    return [
        entry
        for entry in entries_of(SECTION, node)
        if any(names.issuperset(found.split(", ")) for found in ANOTHER.findall(entry))
    ]


def crowded_with_errors(node: ast.AST) -> list[str]:
    """Return the entries of a docstring in which a second error begins."""
    return list(filter(ANOTHER_ERROR.search, entries_of(ERRORS, node)))


@pytest.mark.parametrize("find", [crowded, crowded_with_errors])
def test_each_argument_has_a_line_of_its_own(find: Callable[[ast.AST], list[str]]) -> None:
    """And each error: several on one line hide the last."""
    found = {
        f"{path.relative_to(SOURCE)}:{node.name}": lines
        for path in sorted(SOURCE.rglob("*.py"))
        for node in nodes_of(path)
        if isinstance(node, Documented) and (lines := find(node))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ("at: Unix seconds. why: in words.", True),
        ("at, why: both.", False),
        ("at: Unix seconds. Note: it is rounded.", False),
    ],
)
def test_what_is_crowded(entry: str, found: bool) -> None:
    """A name that is no argument is prose."""
    (function,) = ast.parse(f'def do(at, why):\n    """Do it.\n\n    Args:\n        {entry}\n    """\n').body
    assert bool(crowded(function)) is found


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ("UsageError: there is none. Refused: it is held.", True),
        ("UsageError: there is none; AuthError, ProviderUnavailable: as `read`.", True),
        ("AuthError, ProviderUnavailable: as `read`.", False),
        ("UsageError: there is none. It is looked for twice.", False),
    ],
)
def test_what_is_crowded_with_errors(entry: str, found: bool) -> None:
    """Several of which the same is said stand together."""
    (function,) = ast.parse(f'def do():\n    """Do it.\n\n    Raises:\n        {entry}\n    """\n').body
    assert bool(crowded_with_errors(function)) is found


MODULE = """
from contextlib import contextmanager
from package import make_busy
TEXTUAL = (ValueError, KeyError)
class Refused(Exception): ...
def make(text) -> Refused | None: ...
@contextmanager
def reading():
    try:
        yield
    except TypeError:
        raise Refused from None
"""
"""What the functions below use. `reading` itself is found, too."""
MAKERS = "class Busy(Exception): ...\ndef make_busy() -> Busy: ...\n"


@pytest.mark.parametrize(
    ("function", "found"),
    [
        ("def do():\n  'Do it.'\n  raise Refused('no')", {"do": ["Refused"]}),
        ("def do():\n  'Do it. Raises Refused: it is held.'\n  raise Refused('no')", {}),
        ("def do():\n  'Do it, or raise Refused.'\n  raise Refused('no')", {}),
        ("def do():\n  'Do it. Raises RefusedTwice.'\n  raise Refused('no')", {"do": ["Refused"]}),
        ("def do():\n  raise Refused", {"do": ["Refused"]}),
        ("def do():\n  raise make('no')", {"do": ["Refused"]}),
        ("def do():\n  raise make_busy()", {"do": ["Busy"]}),
        ("def do():\n  error = make('no')\n  if error:\n    raise error", {"do": ["Refused"]}),
        ("def do():\n  try:\n    raise IndexError\n  except LookupError:\n    pass", {}),
        ("def do():\n  try:\n    raise IndexError\n  except (*TEXTUAL, IndexError):\n    pass", {}),
        ("def do():\n  try:\n    raise KeyError\n  except (*TEXTUAL, IndexError):\n    pass", {}),
        ("def do():\n  try:\n    raise KeyError\n  except KeyError:\n    raise", {"do": ["KeyError"]}),
        ("def do():\n  try:\n    pass\n  except KeyError as e:\n    raise Refused from e", {"do": ["Refused"]}),
        ("def do():\n  try:\n    go()\n  except KeyError:\n    raise", {}),
        ("def do():\n  with reading():\n    raise TypeError", {}),
        ("def do():\n  with reading():\n    raise KeyError", {"do": ["KeyError"]}),
        ("def do():\n  def inner():\n    raise KeyError", {}),
        ("def do():\n  match x:\n    case 1:\n      raise KeyError", {"do": ["KeyError"]}),
        ("def do():\n  raise AssertionError", {}),
        ("def _do():\n  raise Refused", {}),
        ("class Doer:\n  'Does. Raises KeyError.'\n  def __init__(self):\n    raise KeyError", {}),
        ("class Doer:\n  'Does.'\n  def __init__(self):\n    raise KeyError", {"Doer.__init__": ["KeyError"]}),
        ("class Doer:\n  'Does. Raises KeyError.'\n  def do(self):\n    raise KeyError", {"Doer.do": ["KeyError"]}),
        ("class _Doer:\n  def do(self):\n    raise KeyError", {}),
        ("@group.command('do')\ndef do():\n  raise KeyError", {}),
    ],
)
def test_which_errors_a_docstring_lacks(function: str, found: dict[str, list[str]]) -> None:
    """What is raised, made or let through; not what is caught, or private, or said by the help of a command."""
    passed_on = ast.parse("from errors import make_busy")
    source = Source({"module": ast.parse(MODULE + function), "package": passed_on, "errors": ast.parse(MAKERS)})
    lacking = {name: missing for _, _, name, missing in source.find_undocumented()}
    assert lacking.pop("reading") == ["Refused"]
    assert lacking == found
