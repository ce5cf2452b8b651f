"""Texts and examples name no home folder of a machine and no registry's host: they are examples, not recordings."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest

SIGNATURES = Path(str(resources.files("backout") / "catalogue" / "signatures"))
FILES = sorted([*SIGNATURES.glob("*.toml"), *Path(__file__).parent.glob("*.jsonl")])
NOT_OURS = re.compile(
    r"/(?:home|root|work)/|npmjs\\?\.|pypi\\?\.org|pythonhosted|registry\.yarnpkg|crates\\?\.io|rubygems\\?\.org"
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_machine_and_no_registry(file: Path) -> None:
    assert NOT_OURS.findall(file.read_text(encoding="utf-8")) == []
