"""The runbook's page: real names and commands that parse, what people wrote kept, and what changed as a diff."""

from __future__ import annotations

import re

from command_lines import parsed, quoted
from values import replace

from backout.model.deployment import Share
from backout.model.drill import DrillAction, DrillPlace, DrillRecord, DrillResult, Expected, Measured
from backout.model.guard.policy import Policy
from backout.model.guard.signals import Criticality
from backout.model.incident.card import CardLines
from backout.model.incident.contact import Contact, Help
from backout.model.incident.record import ActionItem
from backout.model.incident.runbook import PastIncident, RunbookFacts, RunbookSetup
from backout.report.incident.card import list_deploy_lines
from backout.report.incident.facts import merge
from backout.report.incident.runbook import compare_pages, list_sections, list_stale, render_runbook

LINES = CardLines(
    setup=("export CLOUDFLARE_ACCOUNT_ID=a1",),
    deploy=("npx wrangler versions deploy {words} --name shop -y --message {message}",),
    health=("curl -sS -m 10 https://shop.example.com/health",),
    secrets=("npx wrangler secret list --name shop",),
)
SETUP = RunbookSetup(
    application="shop",
    environment="production",
    protected=True,
    policy=Policy(services={"database": Criticality.CRITICAL, "email": Criticality.DEGRADABLE}),
    lines=LINES,
    names=(("Worker", "shop"), ("bucket", "models")),
    counts="recorder",
    repository="owner/shop",
    database="postgres",
    migrations="prisma",
    migrations_path="prisma/migrations",
    backups="on this machine, a full one each 7 d",
    bucket="models",
    history="snapshots in the bucket models-history",
    required=("JWT_SECRET",),
    source="file",
    helps=(Help("database", "Neon", (("dashboard", "https://console.neon.tech"),), (Contact("on_call", "+49 30 0"),)),),
    resources=(("Workflow: .github/workflows/deploy.yml", "../.github/workflows/deploy.yml"),),
    reports="incidents",
)
FACTS = RunbookFacts(stable="v-1", stable_at=1_795_570_026.0, target="v-0", head="20261014_note")


def drilled(name: str, action: DrillAction, scenario: str | None, at: float, *, missed: tuple[str, ...]) -> DrillRecord:
    result = DrillResult(
        name, DrillPlace.TWIN, Expected(action, scenario), Measured(action, rto_s=7.0), missed, at, took_s=60.0
    )
    return DrillRecord(f"drill-{name}", name, DrillPlace.TWIN, at, result)


def page_of(setup: RunbookSetup = SETUP, facts: RunbookFacts = FACTS) -> str:
    return render_runbook(setup, list_sections(setup, facts))


def test_it_names_what_there_is_and_its_commands_exist() -> None:
    """Names, the stable version, the way back by hand, the head, who helps beside the step; each line parses."""
    page = page_of()
    for each in (
        *("`shop`", "Last stable version: `v-1`", "goes to `v-0`", "deploy v-0@100% --name shop", "`20261014_note`"),
        *("| email | degradable | go on with caution |", "`JWT_SECRET`", "`owner/shop`", "--confirm production"),
        "Who helps (database): Neon [dashboard](https://console.neon.tech); on\\_call: +49 30 0",
        "(../.github/workflows/deploy.yml)",
    ):
        assert each.replace("\\", "") in page.replace("\\", ""), each
    lines = quoted(page)
    assert len(lines) > 25
    for line in lines:
        parsed(line)
    assert list_deploy_lines(LINES, (Share("v-0", 100.0),))[0] in page  # type: ignore[arg-type]


def test_what_is_not_set_up_is_said_with_its_key() -> None:
    """No command of a part that is not there."""
    bare = RunbookSetup("shop", "staging", protected=False, policy=Policy(), lines=CardLines())
    page = page_of(bare, RunbookFacts(why_not="no version is proven"))
    keys = re.findall(r"Not set up \(`([^`]+)`", page)
    assert keys == [
        *("[environments.staging.health]", "[environments.staging.ci]", "traffic"),
        *("[environments.staging.database] migrations", "[environments.staging.database]"),
        "[environments.staging.storage]",
    ]
    assert "objects restore" not in page
    assert "No rollback is possible now: no version is proven" in page


def test_after_a_drill_and_an_incident_the_paragraphs_that_change_are_a_diff() -> None:
    """The sections by name, lines with plus and minus, and no hash; what people wrote is no part of it."""
    written = page_of().replace("> **To be filled in by a person:** what was learned.", "We learned to wait.")
    drills = {
        "quick": drilled("throws", DrillAction.ROLLBACK, "S3_runtime_errors", 1_795_600_000.0, missed=()),
        "objects": drilled("objects-lost", DrillAction.RECOVER, None, 1_795_600_000.0, missed=("too slow",)),
    }
    incidents = {"errors": PastIncident("guard-1", 1_795_600_000.0, "errors after v-2", "resolved", "a.md")}
    actions = (ActionItem(1, 1.0, "alert on failed payments", "detect", "ada", "2026-12-24"),)
    now = replace(FACTS, stable="v-3", drills=drills, incidents=incidents, actions=actions)
    blocks = list_sections(SETUP, now)
    assert list_stale(written, blocks) == [
        "Quick rollback",
        "Scenario 3: runtime errors",
        "Object recovery",
        "Success criteria and drills",
        "Post-incident procedures",
    ]
    after = merge(written, blocks)
    diff = compare_pages(written, after, "runbook.md")
    assert "-Last stable version: `v-1`" in diff
    assert "+Last stable version: `v-3`" in diff
    assert "+- last drill: `throws` passed on twin, 2026-11-25, well again after 7.0 s" in diff
    assert "+- last drill: `objects-lost` missed what was expected on twin" in diff
    assert "+- last incident: 2026-11-25, errors after v-2 ([report](incidents/a.md))" in diff
    assert "+- alert on failed payments (detect, ada, 2026-12-24)" in diff
    assert not re.search(r"[0-9a-f]{16}", diff)
    assert "We learned to wait." in after
    assert (list_stale(after, blocks), compare_pages(after, merge(after, blocks), "x")) == ([], "")


def test_an_edited_fact_stays_and_is_no_reason_to_be_stale() -> None:
    """A person's version of a fact is theirs; news of it follows below."""
    edited = page_of().replace("Last stable version: `v-1`", "Never go back further than `v-1`")
    assert list_stale(edited, list_sections(SETUP, FACTS)) == []
    after = merge(edited, list_sections(SETUP, replace(FACTS, stable="v-3")))
    assert "Never go back further than `v-1`" in after
    assert "Last stable version: `v-3`" in after
