"""The safety rules are named in one place, and the page of them has each number."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from source_trees import SOURCE, nodes_of

from backout.rules import SafetyRule

PAGE = Path(__file__).parents[2] / "docs" / "safety.md"
ELSEWHERE = {SafetyRule.OBSERVE, SafetyRule.PREFLIGHT, SafetyRule.CONFORMANCE}
"""Words that stand for other things as well."""


def test_no_module_writes_the_name_of_a_rule_itself() -> None:
    """A mistyped one would be a rule that nobody finds."""
    names = {rule.value for rule in SafetyRule} - {rule.value for rule in ELSEWHERE}
    found = [
        f"{path.relative_to(SOURCE)}:{node.lineno}: {node.value}"
        for path in sorted(SOURCE.rglob("*.py"))
        if path.name != "rules.py"
        for node in nodes_of(path)
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert found == []


def test_the_page_has_every_number_and_each_rule_says_what_it_asks_for() -> None:
    """Numbers, names and sentences are for people: they are what a refusal is looked up by."""
    numbers = set(map(int, re.findall(r"^\*\*(\d+)\.", PAGE.read_text(encoding="utf-8"), re.MULTILINE)))
    assert numbers == set(range(1, 21))
    assert {rule.number for rule in SafetyRule if rule.number is not None} <= numbers
    assert all(rule.sentence and rule.title and rule.sentence[0].islower() for rule in SafetyRule)
    assert SafetyRule("5 quarantined").title == "quarantined"
