"""Files of drills: ours are right, and a wrong one is told with every mistake and its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from backout.config.drills import find_drills, read_drill, read_drills
from backout.errors import ConfigError, UsageError
from backout.model.drill import DrillAction, DrillGroup, DrillPlace, Limits, Loss
from backout.wiring.drills.catalogue import list_variants, load_drills

GOOD = """title = "A route throws"
group = "roll back"
[deploy]
variant = "throws-on-one-route"
[expect]
scenario = "S3_runtime_errors"
action = "rollback"
[limits]
rto = "10s"
rpo = { rows = 0 }
"""


def mistakes_of(folder: Path, text: str) -> tuple[str, ...]:
    """Return what is said of a file with this text."""
    file = folder / "mine.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        read_drill(file, list_variants())
    assert raised.value.hint == "correct mine.toml, then: backout drill list"
    return raised.value.mistakes


def test_a_drill_is_read(tmp_path: Path) -> None:
    """Its name is the file's; what is not said has a default."""
    file = tmp_path / "mine.toml"
    file.write_text(GOOD, encoding="utf-8")
    drill = read_drill(file, list_variants())
    assert (drill.name, drill.file.group, drill.file.environment) == ("mine", DrillGroup.ROLL_BACK, DrillPlace.TWIN)
    assert (drill.expected.action, drill.expected.scenario) == (DrillAction.ROLLBACK, "S3_runtime_errors")
    assert drill.file.limits.as_model() == Limits(10.0, Loss(rows=0))
    assert drill.file.visitors.rate == 50


def test_every_mistake_is_told_with_its_line(tmp_path: Path) -> None:
    """All of them at once, with the likely word."""
    text = """titel = "A route throws"
group = "role back"
environment = "twin"
[deploy]
variant = 3
[[fault]]
kind = "service-dwn"
for = "soon"
[expect]
action = "rollback"
[limits]
bad_requests = -1
"""
    assert mistakes_of(tmp_path, text) == (
        "mine.toml:1: titel: unknown key, did you mean 'title'?",
        "mine.toml:1: title: required, but not there",
        "mine.toml:2: group: expected 'roll back', 'must not' or 'other', got 'role back', did you mean 'roll back'?",
        "mine.toml:5: deploy.variant: expected a string, got 3",
        (
            "mine.toml:7: fault[0].kind: expected 'service-down', 'storage-denied', 'latency', 'errors', "
            "'worker-crash', 'api-down', 'api-slow', 'api-429', 'api-limit' or 'api-token-refused', "
            "got 'service-dwn', did you mean 'service-down'?"
        ),
        "mine.toml:8: fault[0].for: expected a duration such as '15m' or '1h30m', got 'soon'",
        "mine.toml:12: limits.bad_requests: expected a number at least 0, got -1",
    )


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"throws-on-one-route"', '"throws-on-one-rout"', "4: deploy.variant: no variant 'throws-on-one-rout'"),
        ('"roll back"', '"must not"', "7: expect.action: a drill of the group 'must not' does not expect a rollback"),
        ('"10s"', '"0s"', "9: limits.rto: expected more than 0 s"),
        ("[limits]", '[[fault]]\nkind = "service-down"\n[limits]', "8: fault[0].target: expected 'database'"),
        (
            'group = "roll back"',
            'group = "roll back"\nenvironment = "production"\nprocedure = "watch"',
            "9: expect.action: production is only watched",
        ),
        ('group = "roll back"', 'group = "roll back"\nenvironment = "staging"', "1: procedure: in staging it is"),
        (
            'group = "roll back"',
            'group = "roll back"\nprocedure = "watch"',
            "3: procedure: 'watch' is not for the twin",
        ),
        (
            "[limits]",
            '[commands]\nbad = "make broken"\n[limits]',
            "8: commands: the twin's application has variants",
        ),
        (
            "[limits]",
            '[[fault]]\nkind = "errors"\nwhen = "before"\nafter = "2s"\n[limits]',
            "11: fault[0].after: a fault",
        ),
        (
            "[limits]",
            '[[fault]]\nkind = "api-down"\ntarget = "x"\n[limits]',
            "10: fault[0].target: a fault of the kind 'api-down' has none",
        ),
        (
            "[limits]",
            '[[fault]]\nkind = "errors"\nlatency = "1s"\n[limits]',
            "10: fault[0].latency: a fault of the kind 'errors' has none",
        ),
        ("[limits]", '[[fault]]\nkind = "errors"\nfor = "0s"\n[limits]', "10: fault[0].for: expected more than 0 s"),
        ("[limits]", '[watch]\nfor = "0s"\n[limits]', "9: watch.for: expected more than 0 s"),
        ("title =", "title", "1: TOML: "),
    ],
)
def test_what_does_not_fit_together_is_told(tmp_path: Path, old: str, new: str, told: str) -> None:
    """Keys that are right by themselves and wrong beside others."""
    assert old in GOOD
    (found,) = mistakes_of(tmp_path, GOOD.replace(old, new))
    assert found.startswith(f"mine.toml:{told}")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("", ()),
        ('group = "role back"', ("2: group: expected",)),
        ('environment = "moon"', ("2: environment: expected",)),
        ("fault = [3]", ("2: fault[0]: expected",)),
        ("watch.checks = [1]", ("2: watch.checks[0]: expected",)),
    ],
)
def test_what_does_not_fit_together_is_told_beside_other_mistakes(
    tmp_path: Path, wrong: str, told: tuple[str, ...]
) -> None:
    """Not only once those are mended: a wrong type or an unknown key hides nothing."""
    text = f"""title = "Mine"
{wrong or 'group = "must not"'}
[deploy]
variant = "no-such"
[visitors]
rate = "many"
[expect]
action = "rollback"
[limits]
rto = "0s"
rpo = {{ row = 1 }}
"""
    found = mistakes_of(tmp_path, text)
    more = ("4: deploy.variant: no variant", "6: visitors.rate: expected", "10: limits.rto: expected more than 0 s")
    for each in (*told, *(() if "moon" in wrong else more), "11: limits.rpo.row: unknown key"):
        assert any(line.startswith(f"mine.toml:{each}") for line in found), (each, found)
    assert any("does not expect a rollback" in line for line in found) is (not wrong)


def test_a_wrong_name_with_a_wrong_value_is_told_for_both(tmp_path: Path) -> None:
    """And what does not fit together elsewhere in the file as well."""
    text = GOOD.replace("[expect]", 'expect = { "GET" = [99999] }\n[expect]').replace('"10s"', '"0s"')
    assert [each.split(": ")[1] for each in mistakes_of(tmp_path, text)] == [
        "deploy.expect.GET",
        "deploy.expect.GET[0]",
        "limits.rto",
    ]


def test_faults_are_set_on_the_twin_alone(tmp_path: Path) -> None:
    """Nothing of production is broken, and nothing of staging."""
    text = GOOD.replace("[limits]", '[[fault]]\nkind = "errors"\n[limits]')
    for place in ("staging", "production"):
        found = mistakes_of(tmp_path, text.replace("[deploy]", f'environment = "{place}"\n[deploy]', 1))
        assert any(f"fault[0]: {place} " in each for each in found)


def test_mistakes_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    """The files of a folder are read to the last one."""
    for name in ("one", "two"):
        (tmp_path / f"{name}.toml").write_text("title = 3\n", encoding="utf-8")
    (tmp_path / "three.toml").mkdir()
    with pytest.raises(ConfigError) as raised:
        read_drills([tmp_path])
    assert {each.partition(":")[0] for each in raised.value.mistakes} == {"one.toml", "three.toml", "two.toml"}


def test_ours_are_right_and_say_what_they_are_about(tmp_path: Path) -> None:
    """Each begins with a comment and has a title of its own."""
    drills = load_drills(tmp_path)
    assert len({drill.file.title for drill in drills}) == len(drills) > 8
    for drill in drills:
        if drill.file.environment is not DrillPlace.TWIN:
            continue
        assert drill.path.read_text(encoding="utf-8").startswith("# "), drill.name
        assert drill.file.expect.action is not DrillAction.ROLLBACK or drill.file.limits.rpo.rows == 0, drill.name


def test_a_teams_own_drill_takes_the_place_of_ours(tmp_path: Path) -> None:
    """By name; the others stay."""
    folder = tmp_path / "drills"
    folder.mkdir()
    (folder / "throws.toml").write_text(GOOD, encoding="utf-8")
    (folder / "mine.toml").write_text(GOOD, encoding="utf-8")
    drills = load_drills(tmp_path)
    (throws,) = find_drills(drills, ["throws"])
    assert (throws.path.parent, throws.file.title) == (folder, "A route throws")
    assert find_drills(drills, ["mine", "slow-tail"])[1].path.parent != folder
    with pytest.raises(UsageError, match="no drill 'throw', did you mean 'throws'"):
        find_drills(drills, ["throw"])
    with pytest.raises(UsageError, match="no such folder of drills"):
        load_drills(tmp_path, tmp_path / "elsewhere")


def test_each_post_mortem_is_written_up() -> None:
    """With its source, what was shortened, what was not its job, and a row of what was measured."""
    page = (Path(__file__).parents[2] / "docs" / "research" / "post-mortems.md").read_text(encoding="utf-8")
    drills = [drill.name for drill in load_drills(Path(__file__).parent) if drill.name.startswith("post-mortem-")]
    assert len(drills) == 4
    for name in drills:
        assert re.search(rf"^\| {name}\b.* \|", page, re.MULTILINE), name
    for part in ("Source: [", "**What happened.**", "**The drill.**", "**Shortened.**", "**Not its job.**"):
        assert page.count(part) == len(drills), part
