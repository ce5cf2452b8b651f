"""The benchmark of the pages: each of its parts runs, with few clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import serve

if TYPE_CHECKING:
    from pathlib import Path


def test_every_client_gets_every_event_and_memory_is_read(tmp_path: Path) -> None:
    """With delays that are delays, and a first page."""
    serve.write_config(tmp_path)
    token = serve.make_token(tmp_path)
    assert serve.measure_first_page(tmp_path, token) > 0
    delays = serve.measure_fan_out(tmp_path, token, 3, 2.0)
    assert len(delays) >= 9
    assert all(delay >= 0 for delay in delays)
    assert len(serve.measure_bare(2, 2.0)) >= 4
    assert serve.find_p99([0.1] * 99 + [7.0]) == 7.0
