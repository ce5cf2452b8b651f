"""Good deployments on a host with other work: latency is judged with nothing declared, and nothing is rolled back."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drillbook import Drillbook

WATCH_S = 24


@contextlib.contextmanager
def other_work(processes: int) -> Iterator[None]:
    """Keep the processors busy until the block ends."""
    argv = [sys.executable, "-c", "while True: pass"]
    started = [subprocess.Popen(argv) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.mark.long
@pytest.mark.parametrize("variant", ["good", "good-2"])
def test_a_good_redeploy_beside_load_is_not_rolled_back(drillbook: Drillbook, variant: str) -> None:
    """Cold code and a busy host make its first seconds slow: whatever guard says of it, it stays live."""
    with other_work(2 * (os.cpu_count() or 1)):
        drillbook.await_a_clean_past()
        version = drillbook.stage.deploy(variant)
        trial = drillbook.trial().replace(
            ('warm_up = "1h"', 'warm_up = "0s"'), (r'watch = "\d+s"', f'watch = "{WATCH_S}s"')
        )
        ended = trial.run("guard", "--json", timeout_s=180)
    assert trial.live() == version, ended.err
    assert ended.json["action"] in {"stable", "held", "none"}, ended.err
    assert "regressed" not in ended.err
