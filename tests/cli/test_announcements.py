"""What a command will do is said once a person has confirmed it: before, it only shows the plan."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

from source_trees import nodes_of

import backout.cli

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(str(backout.cli.__file__)).parent
QUESTIONS = frozenset({"confirm", "ask"})
SHOWS = frozenset({"_format_text", "format_pending", "format_plan", "describe_survey", "warn", "_describe_fence"})
"""What shows a plan, which is a proposal."""


def name_of(call: ast.Call) -> str:
    """Return the last name of what is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def leaves(body: list[ast.stmt]) -> bool:
    """Whether a branch never goes on behind itself."""
    return bool(body) and isinstance(body[-1], ast.Return | ast.Raise)


def said_before(function: ast.FunctionDef) -> Iterator[ast.Call]:
    """Yield what a function says before it asks, on the way to the question, but for what shows a plan."""
    asked = [call.lineno for call in ast.walk(function) if isinstance(call, ast.Call) and name_of(call) in QUESTIONS]
    apart = {
        id(inner)
        for branch in ast.walk(function)
        if isinstance(branch, ast.If) and leaves(branch.body)
        for part in branch.body
        for inner in ast.walk(part)
    }
    for call in ast.walk(function):
        if not isinstance(call, ast.Call) or name_of(call) != "say" or id(call) in apart:
            continue
        shows = any(isinstance(part, ast.Call) and name_of(part) in SHOWS for part in ast.walk(call))
        is_blank = isinstance(call.args[0], ast.Constant) and not call.args[0].value if call.args else True
        if asked and call.lineno < max(asked) and not (shows or is_blank):
            yield call


def test_nothing_is_announced_before_it_is_confirmed() -> None:
    """No command says that it does something before the question, but in a branch that ends there."""
    wrong, asking = [], 0
    for path in sorted(SOURCE.rglob("*.py")):
        for function in nodes_of(path):
            if isinstance(function, ast.FunctionDef):
                calls = (name_of(call) for call in ast.walk(function) if isinstance(call, ast.Call))
                asking += any(name in QUESTIONS for name in calls)
                wrong += [f"{path.name}:{call.lineno}: {ast.unparse(call)}" for call in said_before(function)]
    assert not wrong, "\n".join(wrong)
    assert asking > 5
