"""Which drills of the safety rules, and which nights, run on plain hosts too; the others are named here, with why."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parents[1]
FILES: Final = (*sorted(TESTS.glob("safety/test_rule_*.py")), TESTS / "safety" / "test_scenarios.py")
NIGHTS: Final = (TESTS / "drill" / "test_schema_night.py",)

NO_TOKEN: Final = "a host has no API, and no token for one"
NO_API: Final = "a host has no API that could fail, or have another clock"
BETWEEN: Final = "no API stands between a look and its switch; test_caddy_trouble.py has somebody switch there"
WHOLE_LOG: Final = "counts are the access log's own lines: nothing stands between that could say something else"
NO_BREAKER: Final = "nothing stands between a release and its visitors that could break its answers"
NO_SCHEDULES: Final = "a release has no schedules at a platform; tests/contract/test_caddy_jobs.py has job workers"
NO_PLATFORM: Final = "what is tried asks no platform"

CLOUDFLARE_ALONE: Final = {
    "test_rule_02_token": NO_TOKEN,
    "test_rule_02_a_regression_with_a_lost_token_is_told": NO_TOKEN,
    "test_rule_02_a_token_outlives_the_watch": NO_TOKEN,
    "test_rule_02_what_the_tokens_are_worth_is_shown": NO_TOKEN,
    "test_rule_03_clock": NO_API,
    "test_rule_03_a_second_is_no_difference": NO_API,
    "test_rule_06_a_proof_without_a_usable_answer_on_the_twin": NO_API,
    "test_rule_07_guard_keeps_the_code_on_the_twin": "the code of a release stays where it is, in its folder",
    "test_rule_07_two_answers_at_once_are_no_answer": NO_PLATFORM,
    "test_rule_08_world_moved": f"{WHOLE_LOG}; the night of a hotfix during a watch runs on both homes",
    "test_rule_08_hotfix_between_decision_and_switch": BETWEEN,
    "test_rule_08_hotfix_in_the_last_moment": BETWEEN,
    "test_rule_09_second_hop_on_the_twin": f"{NO_BREAKER}; the night of a total outage has a second hop too",
    "test_rule_10_kill_switch_between_decision_and_switch_from_another_machine": BETWEEN,
    "test_rule_10_kill_switch_wants_a_reason_and_no_confirmation": NO_PLATFORM,
    "test_rule_10_kill_switch_is_refused_beyond_a_week": NO_PLATFORM,
    "test_rule_13_sources": WHOLE_LOG,
    "test_rule_14_read_back": "what Caddy shows is a file; tests/contract/test_caddy_trouble.py has it differ",
    "test_rule_14_the_version_left_still_answers": WHOLE_LOG,
    "test_rule_16_not_covered": NO_SCHEDULES,
    "test_rule_16_guard_leaves_the_schedules_and_says_so": NO_SCHEDULES,
    "test_rule_18_receivers_that_fail_cost_nothing_and_are_told_later": NO_PLATFORM,
    "test_rule_18_a_test_notice_through_every_channel": NO_PLATFORM,
    "test_rule_18_guard_says_that_nobody_will_be_told": NO_PLATFORM,
    "test_rule_20_leaving_is_never_in_the_way": NO_PLATFORM,
    "test_the_api_is_down_at_the_moment_of_decision": NO_API,
    "test_a_token_revoked_in_the_middle_of_a_watch": NO_TOKEN,
    "test_a_clock_that_is_wrong_by_an_hour": NO_API,
}
"""Drills of rules, and nights, that have no meaning on hosts."""


def test_each_drill_of_a_rule_runs_on_both_homes_or_says_why_not() -> None:
    """None is left out by oversight, and none is named that is not there or runs there after all."""
    drills = {name: is_both for path in (*FILES, *NIGHTS) for name, is_both in _list_drills(path).items()}
    assert {name for name, is_both in drills.items() if not is_both} == set(CLOUDFLARE_ALONE)


def _list_drills(path: Path) -> dict[str, bool]:
    """Return the tests of a file that take place on the stage, each with whether they are marked `both_homes`."""
    functions = [each for each in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(each, ast.FunctionDef)]
    asked = {each.name: {arg.arg for arg in (*each.args.args, *each.args.kwonlyargs)} for each in functions}

    def is_on_stage(name: str) -> bool:
        return name == "drillbook" or any(is_on_stage(each) for each in asked.get(name, ()) if each != name)

    return {
        each.name: any("both_homes" in ast.unparse(mark) for mark in each.decorator_list)
        for each in functions
        if each.name.startswith("test_") and is_on_stage(each.name)
    }
