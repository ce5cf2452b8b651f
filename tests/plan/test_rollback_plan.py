"""Which version a rollback returns to, and when there is no plan at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from values import replace

from backout.analysis.history.stability import list_candidates
from backout.model.database.compatibility import Compatibility
from backout.model.deployment import Cohort, Share
from backout.model.plan import Equivalents, Plan, PlanRefused
from backout.model.situation import SchemaLook, Situation
from backout.model.version import Mark, VersionId
from backout.plan.rollback import Request, plan_rollback, set_reason

from situations import deployment, judged, quarantined, released, schema, situation, stable, version

if TYPE_CHECKING:
    from backout.model.deployment import Deployment

LINES = Equivalents(
    "wrangler rollback {version} --message {message}", "wrangler deployments status", "curl https://x/health"
)
A, B, C = version("aaaa", 100), version("bbbb", 200), version("cccc", 300)
HISTORY = (
    deployment("d1", 100, ("aaaa", 100)),
    deployment("d2", 200, ("bbbb", 100)),
    deployment("d3", 300, ("cccc", 100)),
)


def plan(sight: Situation, **wish: object) -> Plan | PlanRefused:
    return plan_rollback(sight, Request(message="it fails", **wish), LINES)  # type: ignore[arg-type]


def target(outcome: Plan | PlanRefused) -> str:
    assert isinstance(outcome, Plan), outcome
    return str(outcome.step("activate").args["version"])


def test_nearest_stable_version_is_chosen_and_the_plan_says_why() -> None:
    """With two stable versions the one that was live last is the target, and the notes carry its proof."""
    outcome = plan(situation((A, B, C), HISTORY, marks=(stable("aaaa", 150), stable("bbbb", 250))))
    assert target(outcome) == "bbbb"
    assert isinstance(outcome, Plan)
    assert "proven stable" in outcome.notes[0]
    assert [step.action for step in outcome.steps] == [
        "prove",
        "activate",
        "read_back",
        "mark",
        "verify",
        "report",
        "settle",
    ]
    assert outcome.step("activate").equivalent == "wrangler rollback bbbb --message 'it fails'"


def test_a_version_that_serves_a_cohort_alone_is_what_is_left() -> None:
    """All others have the stable one already; every cohort goes back to it, and the plan says what each has now."""
    employees = Cohort("employees", (Share(VersionId("cccc"), 100.0),))
    live = replace(deployment("d3", 300, ("bbbb", 100), ("cccc", 0)), cohorts=(employees,))
    outcome = plan(situation((A, B, C), (*HISTORY[:2], live), marks=(stable("aaaa", 150), stable("bbbb", 250))))
    assert target(outcome) == "bbbb"
    assert isinstance(outcome, Plan)
    assert outcome.step("activate").args["leaving"] == "cccc"
    assert "every cohort goes to it as well; now employees: cccc 100 %" in outcome.notes


def test_a_nearer_unproven_version_is_named_with_its_reason() -> None:
    """The plan passes over a version without proof, and says so."""
    outcome = plan(situation((A, B, C), HISTORY, marks=(stable("aaaa", 150),)))
    assert target(outcome) == "aaaa"
    assert isinstance(outcome, Plan)
    assert any(note.startswith("not bbbb:") and "no watch" in note for note in outcome.notes)


def test_without_any_proof_it_is_refused_and_names_the_best_unproven_version() -> None:
    """Nothing proven: exit 3 with the option to accept the best unproven version by name."""
    outcome = plan(situation((A, B, C), HISTORY))
    assert isinstance(outcome, PlanRefused)
    assert outcome.rule == "5 unproven"
    assert any("--accept-unproven" in option and "bbbb" in option for option in outcome.options)
    assert target(plan(situation((A, B, C), HISTORY), accept_unproven=True)) == "bbbb"


def test_two_rollbacks_in_a_row_never_return_to_the_bad_version() -> None:
    """After B was left for A, a second rollback goes further back or is refused, but never to B."""
    history = (*HISTORY[:2], deployment("d3", 300, ("aaaa", 100)))
    sight = situation((A, B), history, marks=(stable("aaaa", 150), stable("bbbb", 250), quarantined("bbbb", 301)))
    outcome = plan(sight)
    assert isinstance(outcome, PlanRefused)
    assert outcome.rule == "5 quarantined"
    assert target(plan(situation((A, B), history, marks=(*sight.marks, released("bbbb", 400))))) == "bbbb"


def test_after_a_secret_change_the_same_bad_code_is_no_target() -> None:
    """`secret put` made a version with the same code: the one before it is passed over for really different code."""
    with_secret = version("cccc", 300, code=B.code_hash)
    sight = situation((A, B, with_secret), HISTORY, marks=(stable("aaaa", 150), stable("bbbb", 250)))
    outcome = plan(sight)
    assert target(outcome) == "aaaa"
    assert isinstance(outcome, Plan)
    assert any("same code" in note for note in outcome.notes)


def test_a_reupload_of_quarantined_code_is_quarantined_under_its_new_id() -> None:
    """Quarantine goes by code, not only by id."""
    again = version("bbb2", 250, code=B.code_hash)
    sight = situation((A, B, again, C), HISTORY, marks=(stable("bbb2", 260), quarantined("bbbb", 270)))
    outcome = plan(sight, accept_unproven=True)
    assert target(outcome) == "aaaa"


@pytest.mark.parametrize(
    ("look", "expected"),
    [
        (schema(("m1", 50)), None),  # older than the target: its code was written for it
        (schema(("m1", 50), ("m2", 290)), "m2"),  # came just before the bad deployment
        (schema(("m1", 50), ("m2", 310)), "m2"),  # came after it
        (schema(("m1", 50), failed=("m2",)), "m2"),  # failed half-way
        (SchemaLook(set_up=True, problem="connection refused"), "cannot be read"),
        (SchemaLook(set_up=False), None),
    ],
)
def test_code_is_not_rolled_back_over_an_unjudged_migration(look: SchemaLook, expected: str | None) -> None:
    """A changed or unreadable migration head holds the rollback, whatever else is fine."""
    outcome = plan(situation((A, B, C), HISTORY, marks=(stable("bbbb", 250),), look=look))
    if expected is None:
        assert target(outcome) == "bbbb"
    else:
        assert isinstance(outcome, PlanRefused)
        assert outcome.rule == "4 schema"
        assert expected in outcome.reason
        assert any("roll forward" in option for option in outcome.options)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ({"m2": Compatibility.SAFE, "m3": Compatibility.SAFE}, None),
        (
            {"m2": Compatibility.SAFE, "m3": Compatibility.BREAKING},
            "m3 breaks the old code: it is breaking (`ALTER TABLE",
        ),
        ({"m2": Compatibility.BREAKING, "m3": Compatibility.SAFE_IF}, "m2 breaks the old code"),
        ({"m2": Compatibility.SAFE, "m3": Compatibility.SAFE_IF}, "m3 may break the old code: it is safe-if"),
        ({"m2": Compatibility.SAFE}, "no verdict says that the old code fits (no file here: m3)"),
    ],
    ids=["all safe", "breaking", "the worst first", "safe-if", "one without a verdict"],
)
def test_code_goes_back_alone_only_over_migrations_that_are_all_safe(
    verdicts: dict[str, Compatibility], expected: str | None
) -> None:
    """One migration that is not safe, or that nobody could judge, holds the rollback; the worst is named."""
    found = [judged(name, verdict) for name, verdict in verdicts.items()]
    look = schema(("m1", 50), ("m2", 290), ("m3", 310), verdicts=found, unjudged="no file here: m3")
    outcome = plan(situation((A, B, C), HISTORY, marks=(stable("bbbb", 250),), look=look))
    if expected is None:
        assert target(outcome) == "bbbb"
        assert isinstance(outcome, Plan)
        assert any(note.endswith("each change judged safe for it: m2, m3") for note in outcome.notes)
    else:
        assert isinstance(outcome, PlanRefused)
        assert outcome.rule == "4 schema"
        assert expected in outcome.reason


def test_a_safe_migration_that_was_taken_back_is_judged_by_nobody() -> None:
    """The verdict is about the way there, not about whatever undid it."""
    look = schema(("m2", 290), verdicts=[judged("m2", Compatibility.SAFE)])
    assert look.state is not None
    undone = replace(look.state.applied[0], rolled_back_at=310)
    look = replace(look, state=replace(look.state, applied=(undone,)))
    outcome = plan(situation((A, B, C), HISTORY, marks=(stable("bbbb", 250),), look=look))
    assert isinstance(outcome, PlanRefused)
    assert "taken back by hand" in outcome.reason


def test_a_condition_is_quoted_for_a_person() -> None:
    """Where a query tells, the refusal shows it."""
    found = judged("m2", Compatibility.SAFE_IF, condition_sql="SELECT 1 FROM users WHERE email IS NULL")
    look = schema(("m2", 290), verdicts=[found])
    outcome = plan(situation((A, B, C), HISTORY, marks=(stable("bbbb", 250),), look=look))
    assert isinstance(outcome, PlanRefused)
    assert "this query tells: SELECT 1 FROM users WHERE email IS NULL" in outcome.reason


def test_a_version_that_lived_with_the_migration_for_a_whole_watch_may_come_back() -> None:
    """A migration long before the bad deployment does not hold: the target ran on it for longer than a watch."""
    history = (*HISTORY[:2], deployment("d3", 5_000, ("cccc", 100)))
    late = version("cccc", 5_000)
    look = schema(("m2", 3_000))
    assert target(plan(situation((A, B, late), history, marks=(stable("bbbb", 250),), look=look))) == "bbbb"


def test_forcing_counts_for_the_named_migration_only() -> None:
    """`--force=schema` passes for exactly the head that a person named, and the plan records it."""
    sight = situation((A, B, C), HISTORY, marks=(stable("bbbb", 250),), look=schema(("m2", 290)))
    assert isinstance(plan(sight, force_schema="other"), PlanRefused)
    outcome = plan(sight, force_schema="m2")
    assert target(outcome) == "bbbb"
    assert isinstance(outcome, Plan)
    assert any("overruled by hand" in note for note in outcome.notes)


@pytest.mark.parametrize(
    ("look", "head", "name"),
    [
        (schema(("m1", 50), failed=("m2",)), "m1", "m2"),
        (SchemaLook(set_up=True, problem="connection refused"), "m1", "unknown"),
    ],
)
def test_forcing_names_what_is_really_there(look: SchemaLook, head: str, name: str) -> None:
    """Over a failed migration the failed one must be named, over an unreadable history `unknown`."""
    sight = situation((A, B, C), HISTORY, marks=(stable("bbbb", 250),), look=look)
    refused = plan(sight, force_schema=head)
    assert isinstance(refused, PlanRefused)
    assert any(f"--force=schema {name}" in option for option in refused.options)
    assert target(plan(sight, force_schema=name)) == "bbbb"


def test_a_target_that_needs_a_deleted_secret_is_refused() -> None:
    """A version whose secrets do not resolve would come up broken."""
    needy = version("bbbb", 200, secrets=("JWT_SECRET", "OLD_KEY"))
    outcome = plan(situation((needy, C), HISTORY[1:], marks=(stable("bbbb", 250),), secrets=("JWT_SECRET",)))
    assert isinstance(outcome, PlanRefused)
    assert "OLD_KEY" in outcome.reason


def test_an_explicit_target_may_be_unproven_but_never_quarantined_nor_live() -> None:
    """A person may name an unproven version; quarantine, and what is live already, stay refused."""
    sight = situation((A, B, C), HISTORY)
    assert target(plan(sight, target="aaaa")) == "aaaa"
    assert isinstance(plan(sight, target="cccc"), PlanRefused)
    assert isinstance(
        plan(situation((A, B, C), HISTORY, marks=(quarantined("aaaa", 250),)), target="aaaa"), PlanRefused
    )


def test_a_split_is_rolled_straight_back_to_the_old_version() -> None:
    """In a canary the newcomer is left, and the version beside it is a candidate."""
    history = (*HISTORY[:2], deployment("d3", 300, ("bbbb", 90), ("cccc", 10)))
    outcome = plan(situation((A, B, C), history, marks=(stable("bbbb", 250),)))
    assert target(outcome) == "bbbb"
    assert isinstance(outcome, Plan)
    assert outcome.step("activate").args["leaving"] == "cccc"


def test_no_wait_ends_the_plan_after_the_quarantine() -> None:
    """Without waiting there is no verification and no report in the plan."""
    outcome = plan(situation((A, B, C), HISTORY, marks=(stable("bbbb", 250),)), wait=False)
    assert isinstance(outcome, Plan)
    assert [step.action for step in outcome.steps] == ["prove", "activate", "read_back", "mark", "settle"]


def test_the_hash_is_of_what_is_done_not_of_its_wording() -> None:
    """Two plans that do the same are the same; another target is another plan."""
    sight = situation((A, B, C), HISTORY, marks=(stable("aaaa", 150), stable("bbbb", 250)))
    one, two = plan(sight), plan(sight)
    assert isinstance(one, Plan)
    assert isinstance(two, Plan)
    assert one.hash == two.hash
    other = plan(sight, target="aaaa")
    assert isinstance(other, Plan)
    assert other.hash != one.hash


def test_a_reason_given_later_reaches_every_place_that_states_it() -> None:
    """The person's words stand in the deployment's message, in the line to type, and in the quarantine."""
    outcome = plan(situation((A, B, C), HISTORY, marks=(stable("bbbb", 250),)))
    assert isinstance(outcome, Plan)
    told = set_reason(outcome, "it's\nslow", LINES)
    assert told.why == told.step("activate").args["message"] == told.step("mark").args["why"] == "it's slow"
    assert told.step("activate").equivalent.startswith("wrangler rollback bbbb --message 'it'")
    assert told.step("read_back") == outcome.step("read_back")


@given(moves=st.lists(st.sampled_from(["deploy", "deploy same code", "rollback", "release"]), max_size=14))
def test_rollbacks_never_return_to_what_was_left(moves: list[str]) -> None:
    """However deployments, secret changes, rollbacks and releases follow, a target is never bad or the same code."""
    versions = [version("v0", 1.0)]
    history: list[Deployment] = [deployment("d0", 1.0, ("v0", 100))]
    marks = [stable("v0", 1.5)]
    for number, move in enumerate(moves, start=2):
        now = float(number * 10)
        sight = situation(versions, history, marks=marks, now=now)
        live = sight.version(sight.live.main)
        assert live is not None
        if move.startswith("deploy"):
            code = live.code_hash if move == "deploy same code" else None
            versions.append(version(f"v{number}", now, code=code))
            history.append(deployment(f"d{number}", now, (f"v{number}", 100)))
            marks.append(stable(f"v{number}", now + 1, code=versions[-1].code_hash))
        elif move == "release":
            bad = next((m for m in reversed(marks) if m.mark is Mark.QUARANTINED), None)
            if bad is not None:
                marks.append(released(bad.version, now, code=bad.code_hash))
        else:
            outcome = plan(sight)
            if isinstance(outcome, PlanRefused):
                assert not any(c.eligible for c in list_candidates(sight, leaving=live.id))
                continue
            chosen = sight.version(target(outcome))
            assert chosen is not None
            assert chosen.code_hash != live.code_hash
            last = {m.code_hash: m.mark for m in marks if m.mark is not Mark.STABLE}
            assert last.get(chosen.code_hash) is not Mark.QUARANTINED
            history.append(deployment(f"d{number}", now, (chosen.id, 100)))
            marks.append(quarantined(live.id, now, code=live.code_hash))


def test_a_refusal_names_the_version_that_it_speaks_of() -> None:
    """It is read on a card too, or beside another version: "it is quarantined" told nobody which one."""
    outcome = plan(situation((A, B, C), HISTORY, marks=(quarantined("bbbb", 270),)))
    assert isinstance(outcome, PlanRefused)
    assert outcome.reason.startswith("no version may be returned to: the nearest is bbbb, and it is quarantined since")
