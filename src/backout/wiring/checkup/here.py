"""The questions about this machine and its records, from a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.analysis.checkup import deployment, here
from backout.analysis.checkup.platform import check_marks
from backout.errors import BackoutError
from backout.journal.look import look_at_journal
from backout.model.checkup import ChannelLook, CheckState, Level, must, should
from backout.model.drill import COUNTS_S
from backout.model.guard.policy import Mode
from backout.model.hint import suggest_command
from backout.providers.clock import SystemClock
from backout.runbook.incident.checkup import Lane, Question
from backout.runbook.incident.drills import find_last_drill, list_drills
from backout.runbook.incident.no_journal import read_last_card
from backout.wiring.declared import explain_other_worker
from backout.wiring.records import open_journal
from backout.wiring.telling import list_routes, open_outbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.config import Config
    from backout.model.checkup import Check, GitLook, JournalLook
    from backout.ports import Journal

SEND_WITHIN_S: Final = 12.0
_SEEN_ELSEWHERE: Final = frozenset(
    {"platform", "health", "traffic", "database", "migrations", "pin", "notify", "marks"}
)
"""Parts of the configuration that a check of their own judges."""


def list_first_lanes(config: Config) -> tuple[Lane, ...]:
    """Return what the file itself answers."""
    return (
        (Question("config", Level.SHOULD, lambda: _check_config(config)),),
        *((_ask_for_account(config),) if config.environment.platform.is_cloudflare else ()),
        *((_ask_for_conformance(config),) if config.environment.platform.provider == "command" else ()),
    )


def list_last_lanes(config: Config, *, deploys: bool, send: bool) -> tuple[Lane, ...]:
    """Return the questions about the journal, the channels, the people and git.

    Args:
        deploys: a deployment is to be made.
        send: send a test notice through every channel.
    """
    look = suggest_command("runs list", config.name)
    return (
        (Question("marks_key", Level.SHOULD, lambda: [_check_marks(config)]),),
        (
            Question("journal", Level.MUST, lambda: _check_journal(config)),
            Question(
                "unfinished_run",
                Level.MUST if deploys else Level.SHOULD,
                lambda: [_check_unfinished(config, deploys=deploys)],
                look,
            ),
            *_ask_for_journal_server(config),
            Question("last_drill", Level.SHOULD, lambda: [_check_drill(config)], look),
        ),
        (Question("channels", Level.SHOULD, lambda: _check_channels(config, send=send), within_s=SEND_WITHIN_S),),
        (Question("contacts", Level.SHOULD, lambda: [deployment.check_contacts(tuple(config.settings.contacts))]),),
        (Question("dead_man", Level.SHOULD, lambda: _check_dead_man(config)),),
        (Question("git_ignore", Level.SHOULD, lambda: [here.check_git(_look_at_git(config))]),),
    )


def _ask_for_journal_server(config: Config) -> Lane:
    if config.settings.journal.url_env is None:
        return ()
    from backout.wiring.journal_server import find_shared

    return (Question("journal_server", Level.MUST, lambda: [here.check_journal_server(tuple(find_shared(config)))]),)


def _ask_for_account(config: Config) -> Lane:
    return (Question("account", Level.MUST, lambda: [must("account").ok(config.account_id)]),)


def _ask_for_conformance(config: Config) -> Lane:
    return (Question("conformance", Level.SHOULD, lambda: [_check_conformance(config)]),)


def _check_conformance(config: Config) -> Check:
    """Say whether the platform's commands, as they are now, are those that passed; guard acts only with those."""
    from backout.wiring.command import open_commands

    doubt, passed = open_commands(config).doubt, config.environment.pin.conformance or ""
    level = must("conformance") if _acts(config) else should("conformance")
    if doubt:
        return level.missing(doubt, suggest_command("conformance --yes --write conformance.md", config.name))
    return level.ok(f"the platform's commands are those that passed on {passed.partition('/')[0]}")


def _acts(config: Config) -> bool:
    return config.policy.guard.mode is Mode.ACT


def _check_unfinished(config: Config, *, deploys: bool) -> Check:
    runs = open_journal(config, hurried=True).runs(config.name)
    return deployment.check_unfinished_runs(runs, config.name, blocks=deploys)


def _check_drill(config: Config) -> Check:
    journal, now = open_journal(config, hurried=True), SystemClock().now()
    last = find_last_drill(journal, config.name)
    name, at = ("", None) if last is None else (last.name, last.at)
    return here.check_last_drill(name, at, now=now, counts_s=COUNTS_S, due=_count_due(config, journal, now))


def _count_due(config: Config, journal: Journal, now: float) -> tuple[int, int] | None:
    """Return how many drills `backout drill due` names, of how many; None where their files cannot be read."""
    from backout.analysis.checkup.drills import check_drills
    from backout.wiring.checkup.drills import list_wanted
    from backout.wiring.drills.catalogue import load_drills

    try:
        wanted = list_wanted(load_drills(config.path.parent), config)
    except BackoutError:
        return None
    checks = tuple(check_drills(wanted, list_drills(journal), now))
    return sum(check.state is CheckState.MISSING for check in checks), len(checks)


def _check_config(config: Config) -> Iterator[Check]:
    from backout.config.warnings import list_remarks

    remarks = [text for part, text in list_remarks(config) if part not in _SEEN_ELSEWHERE]
    doubts = "; ".join(filter(None, (*remarks, explain_other_worker(config))))
    file = config.path.name
    yield (
        should("config").missing(doubts, suggest_command("config check", config.name))
        if doubts
        else must("config").ok(f"{file} is valid")
    )


def _check_marks(config: Config) -> Check:
    keys = len(config.marks_keys()) if config.signs_marks else 0
    variable = config.settings.marks.key_env or str(config.settings.marks.key_file)
    return check_marks(variable, keys, signs=config.signs_marks, acts=_acts(config))


def _check_journal(config: Config) -> Iterator[Check]:
    carded = len(read_last_card(config.places.find_card()).marks)
    yield from here.check_journal(_look_at_journal(config), config.name, carded=carded)


def _look_at_journal(config: Config) -> JournalLook:
    if config.settings.journal.url_env is None:
        return look_at_journal(config.places.journal)
    from backout.wiring.journal_server import look_at_journal_there

    return look_at_journal_there(config)


def _check_channels(config: Config, *, send: bool) -> Iterator[Check]:
    now, routes = SystemClock().now(), list_routes(config)
    newest = _find_newest_notices(config)
    tried = _find_sent(config, now) if send and routes else {}
    looks = [
        ChannelLook(
            route.name,
            problem=route.problem,
            state=newest[route.name][0] if route.name in newest else "",
            at=newest[route.name][1] if route.name in newest else 0.0,
            why=newest[route.name][2] if route.name in newest else "",
            tried=tried.get(route.name, ""),
        )
        for route in routes
    ]
    yield from here.check_channels(looks, acts=_acts(config), now=now, environment=config.name)


def _find_newest_notices(config: Config) -> dict[str, tuple[str, float, str]]:
    """Return how the newest notice through each channel ended: (state, when, why); {} where the outbox is of no use."""
    from backout.errors import OutboxUnavailable

    found: dict[str, tuple[str, float, str]] = {}
    try:
        for item in open_outbox(config).list_queued(config.name):
            found.setdefault(item.channel, (str(item.state), item.at, item.why))
    except OutboxUnavailable:
        return {}
    return found


def _find_sent(config: Config, now: float) -> dict[str, str]:
    from backout.wiring.telling import try_channels

    return {each.channel: "sent" if each.ok else each.why for each in try_channels(config, now, SEND_WITHIN_S - 1)}


def _check_dead_man(config: Config) -> Iterator[Check]:
    problem: str | None = None
    if config.settings.notify.dead_man is not None:
        try:
            config.dead_man_url()
        except BackoutError as error:
            problem = error.what
        else:
            problem = ""
    yield here.check_dead_man(problem, acts=_acts(config))


def _look_at_git(config: Config) -> GitLook:
    from backout.config.init.git_index import look_at

    journal, folder = config.places.journal, config.path.parent
    return look_at(folder, journal if journal.parent == folder else journal.parent)
