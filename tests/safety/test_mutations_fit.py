"""Every mutation still finds what it takes out, once, and names a test that is there: none goes blind unseen."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MUTATIONS = tomllib.loads((ROOT / "tests/safety/mutations.toml").read_text(encoding="utf-8"))["mutation"]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: f"{each['rule']}: {each['out']}")
def test_a_mutation_fits_the_code(mutation: dict[str, str]) -> None:
    """The mutation run itself takes hours; this says at once that a line has changed under it."""
    assert (ROOT / mutation["file"]).read_text(encoding="utf-8").count(mutation["find"]) == 1
    file, _, name = mutation["test"].partition("::")
    assert not name or f"def {name.partition('[')[0]}(" in (ROOT / file).read_text(encoding="utf-8")
