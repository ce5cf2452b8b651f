"""The sections of the runbook that say what to do: real names and commands, who helps beside the step; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.escaping import Markdown, block, cell, code, join_parts, md
from backout.model.drill import DrillEnd
from backout.model.guard.signals import Criticality
from backout.report.incident.post_mortem import format_help
from backout.report.times import format_day, format_duration, format_percent

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.deployment import Share
    from backout.model.incident.runbook import RunbookFacts, RunbookSetup

_DOWN: Final = {
    Criticality.CRITICAL: "roll back, if it was up before the deployment",
    Criticality.DEGRADABLE: "go on with caution",
}


def _format_overview(setup: RunbookSetup, facts: RunbookFacts) -> Markdown:  # noqa: ARG001 the shape of a section
    rows = [md("| {} | {} |", cell(what), code(name)) for what, name in setup.names]
    protected = "It is protected: what changes it asks for a reason, and for its name typed." if setup.protected else ""
    table = join_parts([md("| what | name |\n|---|---|"), *rows])
    return join_parts([part for part in (table, md("{}", protected)) if part], "\n\n")


def _format_quick(setup: RunbookSetup, facts: RunbookFacts) -> Markdown:
    from backout.model.deployment import Share
    from backout.model.version import VersionId
    from backout.report.incident.card import list_deploy_lines

    environment, confirm = setup.environment, f" --confirm {setup.environment}" if setup.protected else ""
    stable = md("No version is known to be stable.")
    if facts.stable and facts.stable_at is not None:
        stable = md("Last stable version: {}, proven on {}.", code(facts.stable), format_day(facts.stable_at))
    target = md("No rollback is possible now: {}.", facts.why_not)
    by_hand: tuple[str, ...] = ()
    if facts.target:
        target = md("A rollback goes to {} now.", code(facts.target))
        shares: tuple[Share, ...] = (Share(VersionId(facts.target), 100.0),)
        by_hand = list_deploy_lines(setup.lines, shares)
    commands = _write(
        f"backout status -e {environment}",
        f"backout deployments list -e {environment}",
        f"backout rollback --dry-run -e {environment}   # the plan, and why this target",
        f"backout rollback -e {environment} -m WHY{confirm}",
        f"backout panic -e {environment}                # now, without a question",
        f"backout hold -e {environment} --for 2h -m WHY # stops every automatic action",
    )
    parts = [stable, target, commands]
    if by_hand:
        parts += [md("Without backout, either of these (the whole page of them: `backout card`):")]
        parts += [block("\n".join(setup.lines.setup), "sh"), *(block(line, "sh") for line in by_hand)]
    return join_parts([*parts, *_list_past(setup, facts, "quick", "throws")], "\n\n")


def _format_health(setup: RunbookSetup, facts: RunbookFacts) -> Markdown:
    environment = setup.environment
    if not setup.lines.health:
        return _say_unset(f"[environments.{environment}.health]")
    rows = [md("| {} | {} | {} |", cell(name), str(how), _DOWN[how]) for name, how in setup.policy.services.items()]
    services = [join_parts([md("| service | is | when it is down |\n|---|---|---|"), *rows])] if rows else []
    commands = _write(
        f"backout status -e {environment}     # each service, as the health endpoint says it",
        f"backout diagnose -e {environment}   # which one, and why",
        f"backout doctor -e {environment}     # asks the database itself",
    )
    asked = [block(line, "sh") for line in setup.lines.health]
    helps = [format_help(setup.helps, "database"), format_help(setup.helps, "objects")]
    past = _list_past(setup, facts, "health", "health-down")
    return join_parts([*services, commands, md("By hand:"), *asked, *filter(None, helps), *past], "\n\n")


def _format_build(setup: RunbookSetup, facts: RunbookFacts) -> Markdown:
    environment = setup.environment
    if not setup.repository:
        return _say_unset(f"[environments.{environment}.ci]")
    text = md(
        "No rollback is needed: what does not build never gets there. The pipeline of {}:", code(setup.repository)
    )
    commands = _write(
        f"backout diagnose build -e {environment}   # the step that failed, and why",
        "backout diagnose build -- npm run build   # here",
    )
    helps = format_help(setup.helps, "pipeline")
    past = _list_past(setup, facts, "build", "failed-build")
    return join_parts([text, commands, *filter(None, (helps,)), *past], "\n\n")


def _format_errors(setup: RunbookSetup, facts: RunbookFacts) -> Markdown:
    environment, policy = setup.environment, setup.policy
    counts = md("Requests are counted by {}.", code(setup.counts)) if setup.counts else _say_unset("traffic")
    mode = md(
        "Guard is in mode {}, and watches a deployment for {}.",
        code(policy.guard.mode),
        format_duration(setup.policy.criteria.watch_s),
    )
    commands = _write(
        f"backout guard -e {environment}      # watch the newest deployment",
        f"backout diagnose -e {environment}   # what fails, since when, and why",
        f"backout rollback --dry-run -e {environment}",
    )
    helps = format_help(setup.helps, "code")
    past = _list_past(setup, facts, "errors", "one-route")
    return join_parts([counts, mode, commands, *filter(None, (helps,)), *past], "\n\n")


def _format_migrations(setup: RunbookSetup, facts: RunbookFacts) -> Markdown:
    environment = setup.environment
    if not setup.migrations:
        return _say_unset(f"[environments.{environment}.database] migrations")
    head = md("Its head could not be read: {}.", facts.unread)
    if not facts.unread:
        head = md("Their head is {}.", code(facts.head)) if facts.head else md("None is applied.")
    text = md(
        "Do not roll back code before this is answered: does the old code run on the new schema? Migrations of {}, "
        "in {}. {}",
        setup.migrations,
        code(setup.migrations_path),
        head,
    )
    commands = _write(
        f"backout db migrations status -e {environment}",
        f"backout db migrations check {setup.migrations_path}",
        f"backout roll-forward -e {environment} -m WHY                # option A: deploy a fix",
        f"backout recover --to TIME -e {environment} --dry-run        # option B: database and code together",
    )
    helps = format_help(setup.helps, "database")
    past = _list_past(setup, facts, "migrations", "destructive-migration")
    return join_parts([text, commands, *filter(None, (helps,)), *past], "\n\n")


def _format_secrets(setup: RunbookSetup, facts: RunbookFacts) -> Markdown:
    environment = setup.environment
    names = join_parts([code(name) for name in setup.required], ", ") or md("none is named")
    text = [md("The application needs: {}.", names)]
    text += [md("Their values are kept in: {}.", setup.source)] if setup.source else []
    commands = _write(
        f"backout secrets check -e {environment}",
        f"backout secrets push -e {environment} -m WHY   # what is missing",
    )
    by_hand = [block(line, "sh") for line in setup.lines.secrets[:1]]
    helps = format_help(setup.helps, "secrets")
    past = _list_past(setup, facts, "secrets", "missing-secret")
    return join_parts([*text, commands, *by_hand, *filter(None, (helps,)), *past], "\n\n")


def _format_database(setup: RunbookSetup, facts: RunbookFacts) -> Markdown:
    environment = setup.environment
    if not setup.database:
        return _say_unset(f"[environments.{environment}.database]")
    text = [md("Backups: {}.", setup.backups)] if setup.backups else [md("No backup is set up.")]
    commands = _write(
        f"backout db backups list -e {environment}              # what there is, and how far it reaches",
        f"backout db restore TIME --side -e {environment}       # a copy to look at; nothing live is changed",
        f"backout db restore TIME --rescue -e {environment} --dry-run",
    )
    helps = format_help(setup.helps, "database")
    past = _list_past(setup, facts, "database", "rows-corrupted")
    return join_parts([*text, commands, *filter(None, (helps,)), *past], "\n\n")


def _format_objects(setup: RunbookSetup, facts: RunbookFacts) -> Markdown:
    environment = setup.environment
    if not setup.bucket:
        return _say_unset(f"[environments.{environment}.storage]")
    text = md("Bucket {}; what its objects were before: {}.", code(setup.bucket), setup.history)
    commands = _write(
        f"backout objects check -e {environment}",
        f"backout objects history -e {environment}",
        f"backout objects restore --to TIME -e {environment} --dry-run",
    )
    helps = format_help(setup.helps, "objects")
    past = _list_past(setup, facts, "objects", "objects-lost")
    return join_parts([text, commands, *filter(None, (helps,)), *past], "\n\n")


def _format_recover(setup: RunbookSetup, facts: RunbookFacts) -> Markdown:
    environment = setup.environment
    commands = _write(
        f"backout recover --list -e {environment}               # moments to which all of it can go back",
        f"backout recover --to TIME -e {environment} --dry-run  # the plan, with what each part loses",
        f"backout unfence -e {environment}                      # if the database stays closed",
    )
    return join_parts([commands, *_list_past(setup, facts, "recover", "")], "\n\n")


def _format_criteria(setup: RunbookSetup, facts: RunbookFacts) -> Markdown:
    criteria = setup.policy.criteria
    within = format_duration(criteria.error_rate_for_s)
    lines = [
        md("- [ ] the health endpoint answers, and each critical service is up"),
        md("- [ ] errors below {} for {}", format_percent(criteria.error_rate_below), within),
        md("- [ ] p99 at most {} times the usual one", f"{criteria.latency_p99_at_most:g}"),
        md("- [ ] the version that was left answered nothing for {}", format_duration(criteria.old_version_quiet_s)),
    ]
    text = md("Well is what shows all of this within {}:", format_duration(criteria.watch_s))
    commands = _write(f"backout status -e {setup.environment}")
    return join_parts([text, join_parts(lines), commands, *_list_drills(facts)], "\n\n")


def _list_drills(facts: RunbookFacts) -> list[Markdown]:
    newest = max(facts.drills.values(), key=lambda each: each.at, default=None)
    if newest is None:
        return [md("No drill is recorded. To run all: `backout drill run --all`")]
    return [
        md("The newest drill: {}, {}. To see which are due: `backout drill due`", newest.name, format_day(newest.at))
    ]


def _list_past(setup: RunbookSetup, facts: RunbookFacts, section: str, drill: str) -> list[Markdown]:
    """Return when it was last practised, and when it was last needed; `drill`: the one to run, "" for any."""
    last, incident = facts.drills.get(section), facts.incidents.get(section)
    lines: list[Markdown] = []
    if last is not None and last.result is not None:
        took = last.result.measured.rto_s
        back = f", well again after {format_duration(took)}" if took is not None else ""
        ended = "passed" if last.end is DrillEnd.PASSED else "missed what was expected"
        where = f"on {last.environment}"
        lines.append(md("- last drill: {} {} {}, {}{}", code(last.name), ended, where, format_day(last.at), back))
    elif drill:
        lines.append(md("- last drill: none is recorded ({})", code(f"backout drill run {drill}")))
    else:
        lines.append(md("- last drill: none is recorded"))
    if incident is not None:
        link = f"{setup.reports}/{incident.report}"
        report = md(" ([report]({}))", Markdown(link)) if incident.report else md("")
        lines.append(md("- last incident: {}, {}{}", format_day(incident.at), incident.title, report))
    return [join_parts(lines)]


def _write(*lines: str) -> Markdown:
    return block("\n".join(lines), "sh")


def _say_unset(key: str) -> Markdown:
    return md("Not set up ({} of backout.toml).", code(key))


SECTIONS: Final[tuple[tuple[str, str, Callable[[RunbookSetup, RunbookFacts], Markdown]], ...]] = (
    ("overview", "Overview", _format_overview),
    ("quick", "Quick rollback", _format_quick),
    ("health", "Scenario 1: failed health checks", _format_health),
    ("build", "Scenario 2: build failures", _format_build),
    ("errors", "Scenario 3: runtime errors", _format_errors),
    ("migrations", "Scenario 4: database migrations", _format_migrations),
    ("secrets", "Scenario 5: environment variables", _format_secrets),
    ("database", "Database recovery", _format_database),
    ("objects", "Object recovery", _format_objects),
    ("recover", "Complete recovery", _format_recover),
    ("criteria", "Success criteria and drills", _format_criteria),
)
"""(name, title, what makes its facts), in the runbook's order."""
