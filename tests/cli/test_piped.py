"""Ctrl-C while a command waits for what is piped in: also when it comes just before the wait begins."""

from __future__ import annotations

import subprocess
import sys

from polling import PATIENCE_S

LATE = """
import ctypes, functools, operator, select, signal, sys
from collections import deque
from backout.cli.support.piped import open_piped
signal.signal(signal.SIGINT, signal.default_int_handler)
interrupt, really = functools.partial(getattr(ctypes.CDLL(None), "raise"), signal.SIGINT), select.select
def wait(*args):  # both in one call of C: between them Python does not look for signals
    return deque(map(operator.call, [interrupt, functools.partial(really, *args)]), maxlen=1).pop()
select.select = wait
try:
    open_piped().readline()
except KeyboardInterrupt:
    sys.exit(130)
"""
READING = """
import sys
from backout.cli.support.piped import open_piped
with open_piped() as stream:
    for line in stream:
        print(len(line), flush=True)
"""


def test_a_signal_that_comes_just_before_the_wait_ends_it() -> None:
    """Nothing comes through the pipe: without the mechanism this waits for ever."""
    with subprocess.Popen((sys.executable, "-c", LATE), stdin=subprocess.PIPE) as process:
        assert process.wait(PATIENCE_S) == 130


def test_lines_are_read_as_they_come_and_to_their_end() -> None:
    """Of any length, the last one without its end; the descriptor stays open."""
    text = b"a\n" + b"x" * 200_000 + b"\nlast"
    done = subprocess.run((sys.executable, "-c", READING), input=text, capture_output=True, check=True)
    assert done.stdout.split() == [b"2", b"200001", b"4"]


def test_a_closed_input_is_an_error_of_the_system() -> None:
    code = "import os\nos.close(0)\nfrom backout.cli.support.piped import open_piped\nopen_piped()"
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=False)
    assert "Bad file descriptor" in done.stderr
