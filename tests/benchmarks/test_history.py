"""The benchmark of a long history runs, on both engines, with few watches."""

from __future__ import annotations

import history


def test_each_question_is_answered_and_measured() -> None:
    """Twice, in a file and on a server; an answer that lacks a run ends it."""
    samples = history.compare(watches=12, rounds=2)
    kinds = {f"{what}_{name}" for what in ("newest", "all", "first", "again") for name in ("file", "server")}
    assert set(samples) == kinds
    assert all(len(values) == 2 and min(values) > 0 for values in samples.values())
