"""Checks before a deployment: whether it could be left again, and who would know what to do; pure."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from backout.analysis.certify.wording import describe_certificate
from backout.analysis.history.stability import choose_target
from backout.analysis.recovery.fit import judge_fit
from backout.model.checkup import must, should
from backout.model.database.migrations import MigrationState
from backout.model.hint import suggest_command, suggest_setting, suggest_words
from backout.model.incident.incident import RunState
from backout.model.plan import PlanKind
from backout.model.setting import describe_setting
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from backout.analysis.history.stability import Candidate
    from backout.model.checkup import Check
    from backout.model.database.certificate import Certificate
    from backout.model.database.compatibility import MigrationVerdict
    from backout.model.database.migrations import MigrationReport
    from backout.model.hint import Hint
    from backout.model.incident.incident import Run

_WATCHES: Final = (PlanKind.GUARD, PlanKind.RAMP)


def check_way_back(ranked: Sequence[Candidate], live: str, environment: str) -> Check:
    """Return whether a rollback of the version that is deployed next would have a version to go to.

    Args:
        ranked: all versions, what is live included, best first.
        live: the version that is live before the deployment.
    """
    subject, chosen = must("stable_version"), choose_target(ranked)
    if chosen is None:
        nearest = next((each for each in ranked if each.version == live), None)
        reason = nearest.reason if nearest else "it can no longer be deployed"
        why = f"nothing to go back to: version {live}, which is live: {reason}"
        return subject.missing(why, _suggest_way(nearest, environment))
    where = "which is live now" if chosen.version == live else "older than what is live"
    if chosen.failed:
        other = suggest_command("deployments list", environment, "whether there is another one")
        return subject.missing(f"a rollback would try version {chosen.version}, {where}, and {chosen.failed}", other)
    return subject.ok(f"a rollback would go to version {chosen.version}, {where}: {chosen.reason}")


def _suggest_way(nearest: Candidate | None, environment: str) -> Hint:
    """Return what makes the live version one to return to, or what tells more."""
    rule = nearest.rule if nearest else ""
    if rule == SafetyRule.UNPROVEN:
        return suggest_command("guard", environment, "a watch that ends healthy makes what is live stable")
    lines: dict[str, str] = {
        SafetyRule.QUARANTINED: "rollback --dry-run",
        SafetyRule.SCHEMA: "db migrations status",
        SafetyRule.SECRETS: "secrets check",
    }
    return suggest_command(lines.get(rule, "deployments list"), environment)


def check_no_way_back() -> Check:
    """Return that there is nothing to go back to, because nothing is live yet."""
    return must("stable_version").allowed("nothing is live yet: the first deployment takes nothing away")


def check_pending_migrations(
    report: MigrationReport,
    verdicts: Mapping[str, MigrationVerdict],
    *,
    unjudged: str,
    folder: str,
    environment: str,
    trials: Sequence[Certificate] = (),
) -> Check:
    """Return whether the code that is live still runs when what is pending is applied: else it is no way back.

    Args:
        verdicts: on the files of the working copy, by name.
        unjudged: why there are none, "" where there are.
        folder: of the files, as it is typed.
        trials: of ways back over just these migrations, to the code that is live: of each new code the newest. What
            was tried last is taken for what will be deployed.
    """
    subject = must("pending_migrations")
    names = report.list_names(MigrationState.PENDING, MigrationState.ROLLED_BACK)
    if not names:
        return subject.ok("no migration is pending")
    found = [judge_fit(name, verdicts.get(name), unjudged) for name in names]
    worst, words = max(found, key=lambda each: each[0])
    count = f"{len(names)} {'migration is' if len(names) == 1 else 'migrations are'} pending"
    note = "each statement; split it: first add, later remove"
    look = suggest_command(f"db migrations check {folder}", environment, note)
    tried = "".join(
        f"; {describe_certificate(each)} (new code {each.new})"
        for each in reversed(trials)
        if each is trials[-1] or each.reversible is False
    )
    if trials and trials[-1].reversible is False:
        return subject.missing(f"{count}, and {tried.removeprefix('; ')}", look)
    if worst == 0:
        return subject.ok(f"{count}, each safe for the code that is live: {', '.join(names)}{tried}")
    after = "it" if len(names) == 1 else "them"
    why = f"{count}, and after {after} a rollback of code alone would be refused: {words}{tried}"
    if worst == 1:
        return subject.unmeasured(why, suggest_command("db migrations status", environment))
    return subject.missing(why, look)


_STOPPED: Final = {
    RunState.BLOCKED: "waits for a person's decision",
    RunState.PAUSED: "was paused by a person",
    RunState.WAITING: "waits for a person's approval",
}


def check_unfinished_runs(runs: Collection[Run], environment: str, *, blocks: bool) -> Check:
    """Return whether a run was left unfinished, or still acts.

    Args:
        runs: the journal's.
        blocks: a deployment is to be made. Over a watch it may: it only ends that.
    """
    pending = [run for run in runs if not run.state.is_over]
    run = next((each for each in pending if each.plan.kind not in _WATCHES), next(iter(pending), None))
    if run is None:
        return must("unfinished_run", when=blocks).ok("none: nothing is half done")
    watches, show = run.plan.kind in _WATCHES, suggest_command(f"runs show {run.id}", environment)
    subject = must("unfinished_run", when=blocks and not watches)
    if run.state is not RunState.RUNNING:
        words = _STOPPED.get(run.state, "was interrupted")
        way = f"runs approve {run.id} -m WHY" if run.state is RunState.WAITING else f"runs resume {run.id}"
        return subject.missing(f"{run.id} {words}, and is not finished", suggest_command(way, environment))
    if watches and blocks:
        return subject.missing(f"{run.id} is watching: the next deployment ends its watch without a verdict", show)
    if watches:
        return subject.ok(f"{run.id} is watching")
    return subject.missing(f"{run.id} is under way", show)


def check_trial(environment: str, *, runs: bool, is_left: bool, unread: str = "") -> Check:
    """Return whether the environment is as it was before a trial of a way back there.

    Args:
        runs: a trial holds the lock on its database.
        is_left: a trial's code is live, or its database has the name of the environment's own.
        unread: why the database's server did not tell; "" where it did.
    """
    subject = should("trial")
    if runs:
        why = "a trial runs there: its own code and an empty database answer until it ends"
        return subject.missing(why, suggest_words("wait for its end"))
    restore = f"certify --restore --on {shlex.quote(environment)}"
    if is_left:
        why = "a trial was interrupted there: its code, or its empty database, is still in place of your own"
        return subject.missing(why, suggest_command(restore, environment, "puts both back"))
    if unread:
        why = f"no trial's code is live; whether its empty database is in place of your own is not known: {unread}"
        return subject.unmeasured(why, suggest_command(restore, environment, "changes nothing where none is left"))
    return subject.ok("no trial has left anything there")


def check_drill_left(environment: str, drill: str, good: str) -> Check:
    """Return that what is live was broken on purpose, by a drill that did not put it back.

    Args:
        good: the version that was to be live again.
    """
    why = f"what is live was broken on purpose by the drill {drill}, which was stopped"
    words = f'rollback {shlex.quote(good)} --accept-unproven -m "a drill was stopped"'
    return should("trial").missing(why, suggest_command(words, environment))


def check_contacts(names: Collection[str]) -> Check:
    """Return whether the file says who is to be called; the card shows it."""
    if not names:
        setting = describe_setting("contacts", on_call="NAME, +49 30 0000000")
        why = "no one is named: whoever meets the incident has to know whom to call"
        return should("contacts").not_set_up(why, suggest_setting(setting))
    return should("contacts").ok(f"the card names {', '.join(names)}")
