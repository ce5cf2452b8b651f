"""What a child prints is awaited with a deadline, and through one function alone."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from polling import PATIENCE_S
from streamed import await_line

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parents[1]
ALLOWED = {
    "contract/test_caddy_streams.py": "a socket's lines, with a deadline of the socket",
    "support/platform/swap_platform.py": "a socket's lines, with a deadline of the socket",
    "support/streamed.py": "the function itself",
    "support/web_lab.py": "an answer's lines, with a deadline of its connection",
    "twin/test_workerd_services.py": "a socket's line, not a child",
    "twin/test_wrangler.py": "a thread that reads to the end, polled with a deadline",
}
STREAMS = ("stdout", "stderr")
MAY_READ = re.compile(r"\.readline|\bin\b.*\.std(out|err)\b")
"""Only what matches is parsed."""


@contextmanager
def child(code: str) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    argv = [sys.executable, "-c", f"import sys\n{code}"]
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        yield process
        process.kill()


def test_lines_come_one_after_the_other() -> None:
    """What was read ahead is there for the next call; stderr is a stream like the other."""
    with child("print('a\\nb 1\\nc\\nd', flush=True)\nprint('e', file=sys.stderr, flush=True)\ninput()") as process:
        assert await_line(process, "b") == "b 1\n"
        assert await_line(process, "") == "c\n"
        assert await_line(process, lambda line: line > "c") == "d\n"
        assert await_line(process, "e", stream=process.stderr) == "e\n"


def test_a_child_that_ends_says_why() -> None:
    """Its last lines, its exit code, its stderr."""
    with child("print('last words')\nsys.exit('no such thing')") as process:
        with pytest.raises(AssertionError, match=r"ended .exit code 1.") as failed:
            await_line(process, "never")
        assert str(failed.value).endswith("last words\nstderr:\nno such thing\n")


def test_a_child_that_hangs_says_why_and_is_ended() -> None:
    """Nobody waits for it any more, also not whoever closes its streams."""
    with child("print('warning: slow', file=sys.stderr, flush=True)\nprint('up', flush=True)\ninput()") as process:
        await_line(process, "up")
        with pytest.raises(AssertionError, match=r"within 0.1 s; the last ones:\n.nothing.\nstderr:\nwarning: slow"):
            await_line(process, "never", patience_s=0.1)
        assert process.wait(PATIENCE_S) != 0


def test_what_cannot_be_judged_fails_the_test() -> None:
    """And not a thread that nobody sees."""
    with child("print('no number', flush=True)\ninput()") as process, pytest.raises(ValueError, match="no number"):
        await_line(process, lambda line: int(line) > 1)


def reads(tree: ast.AST) -> list[int]:
    """Return the lines in which lines are read that may never come."""
    found = []
    for node in ast.walk(tree):
        loops = isinstance(node, ast.For | ast.comprehension)
        if isinstance(node, ast.Attribute) and node.attr in ("readline", "readlines"):
            found.append(node.lineno)
        elif loops and isinstance(node.iter, ast.Attribute) and node.iter.attr in STREAMS:
            found.append(node.iter.lineno)
    return found


def test_no_test_waits_for_a_line_without_a_deadline() -> None:
    """One that did hung for a quarter of an hour, and told nobody what the child had printed."""
    found = {
        str(path.relative_to(TESTS)): lines
        for path in TESTS.rglob("*.py")
        if MAY_READ.search(text := path.read_text(encoding="utf-8"))
        if (lines := reads(ast.parse(text)))
    }
    assert set(found) == set(ALLOWED), f"use streamed.await_line: {found}"
    assert reads(ast.parse("while 'x' not in p.stdout.readline():\n    pass")) == [1]
    assert reads(ast.parse("for line in p.stderr:\n    pass\nx = [line for line in p.stdout]")) == [1, 3]
