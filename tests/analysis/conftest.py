"""How many runs a simulated proof takes: few in `make test`, all of them in `make proof`."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def proof_runs() -> int:
    """Return the number of seeded runs."""
    return 2000 if os.environ.get("BACKOUT_PROOF") == "full" else 60
