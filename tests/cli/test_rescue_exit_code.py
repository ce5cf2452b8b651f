"""What `db restore` says of a rescue that leaves damage, and exits with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backout.cli.db_restore import left_out_lines, rescue_exit_code

if TYPE_CHECKING:
    from backout.model.plan import Json

LEFT: dict[str, dict[str, Json]] = {
    "damaged": {
        "what": "table a",
        "reason": "it has no primary key",
        "sql": "SELECT 1;\nSELECT 2;",
        "seen": True,
        "asked": False,
    },
    "unseen": {"what": "table b", "reason": "it is unlogged", "sql": "", "seen": False, "asked": False},
    "asked": {"what": "table c", "reason": "as you asked", "sql": "", "seen": True, "asked": True},
}


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ((), 0),
        (("asked",), 0),
        (("unseen",), 7),
        (("asked", "unseen"), 7),
        (("unseen", "damaged"), 1),
        (("damaged",), 1),
    ],
)
def test_damage_that_is_left_is_a_finding_and_what_nobody_sees_is_unmeasured(names: tuple[str, ...], code: int) -> None:
    """Known damage says more than what cannot be seen, and what a person asked for says nothing."""
    left: list[Json] = [LEFT[name] for name in names]
    assert rescue_exit_code({"left_out": left, "differences": []}) == code


def test_a_record_of_an_earlier_version_and_no_rescue_at_all_are_no_finding() -> None:
    """They know nothing of what is left out."""
    assert rescue_exit_code({"tables": []}) == 0
    assert rescue_exit_code(None) == 0


def test_what_is_left_is_shown_with_its_reason_and_each_line_of_its_sql() -> None:
    """So that it can be typed."""
    differs: list[Json] = [{"what": "index i", "before": "CREATE INDEX i", "live": ""}]
    lines = left_out_lines({"left_out": [{**LEFT["damaged"], "asked": True}, LEFT["damaged"]], "differences": differs})
    assert lines == [
        "left out: table a: it has no primary key",
        "left out: table a: it has no primary key",
        "    SELECT 1;",
        "    SELECT 2;",
        "other than before the damage: index i",
        "    - CREATE INDEX i",
    ]
