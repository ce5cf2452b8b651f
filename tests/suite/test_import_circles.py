"""The contract that holds import circles off: what it takes for one."""

from __future__ import annotations

import pytest
from grimp import ImportGraph
from import_circles import NoCircles

RULE = {"name": "no circles", "session_options": {}, "contract_options": {}}


@pytest.mark.parametrize(
    ("imports", "kept"),
    [
        ([("a", "b"), ("b", "c"), ("a", "c")], True),
        ([("a", "b"), ("b", "c"), ("c", "a")], False),
        ([("a", "b"), ("b", "a")], False),
    ],
    ids=["one way", "three in a ring", "two"],
)
def test_a_circle_breaks_the_contract(imports: list[tuple[str, str]], kept: bool) -> None:
    """However long it is."""
    graph = ImportGraph()
    for importer, imported in imports:
        graph.add_import(importer=importer, imported=imported)
    assert NoCircles(**RULE).check(graph, verbose=False).kept is kept  # type: ignore[arg-type]


def test_what_lies_outside_is_nobodys_circle() -> None:
    """Other people's packages are one module each, whatever they import."""
    graph = ImportGraph()
    graph.add_module("psycopg", is_squashed=True)
    graph.add_import(importer="a", imported="psycopg")
    assert NoCircles(**RULE).check(graph, verbose=False).kept  # type: ignore[arg-type]
