"""The pages are there within half a second of their start: what only some of them need is loaded when they need it."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

LATER: Final = (
    "backout.analysis.detector.decision",
    "backout.analysis.diagnosis",
    "backout.analysis.shifts",
    "psycopg",
)
"""What weighs much: the detector, for a chart of the evidence; diagnosis, for a report; the server's client."""


def test_nothing_heavy_is_loaded_before_a_page_needs_it() -> None:
    code = f"import sys, backout.web.app\nprint(*(name for name in {LATER!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
