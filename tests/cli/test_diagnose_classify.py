"""`backout diagnose classify` and `backout explain`: an answer for each line in its order, a page for each label."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from cli_shell import backout

from backout.wiring.diagnosis import load_catalogue

if TYPE_CHECKING:
    from pathlib import Path

LABELS = sorted(load_catalogue().causes)
OURS = """
label = "coffee_machine"
title = "The coffee machine is on fire"
scenario = "S0_no_action"
[[signature]]
id = "smoke"
specificity = 9
literals = ["smoke"]
any = ['smoke in the (?P<host>\\w+)']
examples = ["smoke in the kitchen"]
counter_examples = ["no fire"]
"""


def classified(folder: Path, text: str, *more: str) -> list[dict[str, object]]:
    (folder / "in.jsonl").write_text(text, encoding="utf-8")
    answer = backout(folder, "diagnose", "classify", "in.jsonl", *more)
    assert answer.code == 0, answer.err
    return [json.loads(line) for line in answer.out.splitlines()]


def test_each_line_is_answered_in_its_order_even_one_that_cannot_be_read(tmp_path: Path) -> None:
    first, broken, other, last = classified(
        tmp_path, '{"id":"a","text":"quiet"}\n{"id"\n[1]\n\n{"id":2,"text":"","kind":"build"}\n'
    )
    nothing = {"label": "unknown", "service": None, "scenario": None, "confidence": 0.0}
    assert first == {"id": "a", **nothing}
    assert last == {"id": 2, **nothing}
    for line in (broken, other):
        assert line["id"] is None
        assert line["label"] == "unknown"
        assert "not a line" in str(line["error"])


def test_a_kind_that_does_not_exist_is_an_unreadable_line(tmp_path: Path) -> None:
    (line,) = classified(tmp_path, '{"id":"a","text":"x","kind":"weather"}')
    assert line["id"] is None
    assert "weather" in str(line["error"])


def test_a_teams_own_signatures_stand_beside_ours(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "coffee.toml").write_text(OURS, encoding="utf-8")
    (line,) = classified(tmp_path, '{"id":1,"text":"smoke in the kitchen"}', "--signatures", "ours")
    assert line["label"] == "coffee_machine"
    assert line["scenario"] == "S0_no_action"
    assert float(str(line["confidence"])) > 0.5
    answer = backout(tmp_path, "explain", "coffee_machine", "--signatures", "ours")
    assert "on fire" in answer.out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('scenario = "S0_no_action"', "its `scenario`"),
        ("specificity = 9", "specificity"),
        ("any = ['smoke in the (?P<host>\\w+)']", "no pattern"),
        ('literals = ["smoke"]', None),
    ],
)
def test_what_is_wrong_in_a_file_of_signatures_is_said_with_its_name(
    tmp_path: Path, change: str, said: str | None
) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "coffee.toml").write_text(OURS.replace(change, ""), encoding="utf-8")
    (tmp_path / "in.jsonl").write_text("", encoding="utf-8")
    answer = backout(tmp_path, "diagnose", "classify", "in.jsonl", "--signatures", "ours")
    if said is None:
        assert answer.code == 0
    else:
        assert answer.code == 78
        assert "coffee.toml" in answer.err
        assert said in answer.err


def test_a_missing_file_and_a_missing_folder_are_usage_errors(tmp_path: Path) -> None:
    assert backout(tmp_path, "diagnose", "classify", "nowhere.jsonl").code == 2
    (tmp_path / "in.jsonl").write_text("", encoding="utf-8")
    answer = backout(tmp_path, "diagnose", "classify", "in.jsonl", "--signatures", "nowhere")
    assert answer.code == 2
    assert "nowhere" in answer.err


@pytest.mark.parametrize("label", LABELS)
def test_every_label_is_explained(tmp_path: Path, label: str) -> None:
    answer = backout(tmp_path, "explain", label, "--json")
    assert answer.code == 0
    for key in ("title", "about", "scenario", "steps", "confirm", "rollback"):
        assert answer.json[key], key
    assert label in backout(tmp_path, "explain", label).out


def test_labels_are_listed_and_a_misspelt_one_is_answered_with_the_nearest(tmp_path: Path) -> None:
    listed = backout(tmp_path, "explain").out
    assert all(label in listed for label in LABELS)
    answer = backout(tmp_path, "explain", "db_timeuot")
    assert answer.code == 2
    assert "db_timeout" in answer.err
