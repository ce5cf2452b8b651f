"""One word for one thing: names that were given up do not come back."""

from __future__ import annotations

import ast
import re

import pytest
from source_trees import SOURCE, nodes_of

ROOT = SOURCE.parents[1]
RETIRED = {
    "pulse": "heartbeat",
    "vigil": "watch supervisor",
    "postman": "delivery worker",
    "courier": "dispatcher",
    "letter": "queued notice",
    "bench": "session",
    "desk": "restore session",
    "wish": "restore request",
    "unrescue": "undo of a rescue",
    "clues": "context evidence",
    "unguarded": "watch gap",
    "exclusion": "noninferiority",
    "second_proof": "statement replay",
}
"""The word of before, and the field's word that stands for it now (docs/concepts.md)."""


PHRASES = {
    "second proof": "statement replay",
    "looked at and well": "checked, no problem found",
    "wanted gone": "rejected",
    "nobody will be told": "nobody is notified",
    "goes back once": "does not roll back twice in a row",
    "watches nothing": "idle",
    "computes for longer": "exceeded the CPU limit",
    "steps stand in": "follow",
    "plan anew": "plan again",
}
"""What a reader stumbled over, in what people read; and what is written in its place."""


def words_of(name: str) -> str:
    """Return a name as words: `WatchGap` and `watch_gap` are "watch gap"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", name).lower().strip()


@pytest.mark.parametrize("word", RETIRED)
def test_a_word_that_was_given_up_names_nothing(word: str) -> None:
    """No module, class or function: say what stands for it now."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        names = [path.stem]
        names += [each.name for each in nodes_of(path) if isinstance(each, ast.FunctionDef | ast.ClassDef)]
        found += [
            f"{path.relative_to(SOURCE)}: {name}"
            for name in names
            if f" {word.replace('_', ' ')} " in f" {words_of(name)} "
        ]
    assert found == [], f"say {RETIRED[word]}"


@pytest.mark.parametrize("phrase", PHRASES)
def test_a_phrase_that_was_given_up_is_in_no_text(phrase: str) -> None:
    """Neither in the source, its docstrings and comments included, nor on a page; what was recorded before stays."""
    pages = [path for path in (ROOT / "docs").glob("*.md") if path.name != "runbook.md"]  # that page quotes a user
    texts = (*SOURCE.rglob("*.py"), *SOURCE.rglob("*.toml"), *pages, ROOT / "README.md")
    found = [str(path.relative_to(ROOT)) for path in texts if phrase in path.read_text(encoding="utf-8").lower()]
    assert sorted(found) == [], f"say {PHRASES[phrase]}"
