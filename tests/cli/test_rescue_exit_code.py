"""What `db restore` says of a rescue that leaves damage, and exits with."""

from __future__ import annotations

import pytest
from values import replace

from backout.cli.db.rescue_table import format_left_out
from backout.cli.db.restore import rescue_exit_code
from backout.decoding import decode_values
from backout.model.database.rescue import DefinitionDifference, LeftOut, RescueReport

LEFT = {
    "damaged": LeftOut("table a", "it has no primary key", "SELECT 1;\nSELECT 2;"),
    "unseen": LeftOut("table b", "it is unlogged", seen=False),
    "asked": LeftOut("table c", "as you asked", asked=True),
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
    left = tuple(LEFT[name] for name in names)
    assert rescue_exit_code(RescueReport((), (), left_out=left)) == code


def test_a_record_of_an_earlier_version_and_no_rescue_at_all_are_no_finding() -> None:
    """They know nothing of what is left out."""
    assert rescue_exit_code(decode_values({"tables": [], "definitions": []}, RescueReport)) == 0
    assert rescue_exit_code(None) == 0


def test_what_is_left_is_shown_with_its_reason_and_each_line_of_its_sql() -> None:
    """So that it can be typed."""
    differs = (DefinitionDifference("index i", "CREATE INDEX i", ""),)
    left = (replace(LEFT["damaged"], asked=True), LEFT["damaged"])
    lines = format_left_out(RescueReport((), (), left_out=left, differences=differs))
    assert lines == [
        "left out: table a: it has no primary key",
        "left out: table a: it has no primary key",
        "    SELECT 1;",
        "    SELECT 2;",
        "other than before the damage: index i",
        "    - CREATE INDEX i",
    ]
