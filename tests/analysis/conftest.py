"""How many runs a simulated proof takes: few in `make test`, all of them in `make proof`."""

from __future__ import annotations

import pytest

from extent import by_extent


@pytest.fixture
def proof_runs() -> int:
    """Return the number of seeded runs."""
    return by_extent(30, 40, proof=2000)
