"""Checks of the database: whether it answers, the role's rights, and whether it could be recovered; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.analysis.recovery.capability import choose
from backout.model.checkup import must, should
from backout.model.clock import format_duration
from backout.model.database.capability import Readiness, RecoveryPath
from backout.model.hint import parse_hint, suggest_command, suggest_setting
from backout.model.setting import describe_setting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.model.checkup import Check
    from backout.model.database.backups import Protection
    from backout.model.database.capability import Choice, Surroundings
    from backout.model.database.schema import SchemaState

_REFUSED: Final = 4
"""The exit code of a login that was refused."""
_OVERDUE: Final = 1.5
"""A copy older than this many times the interval between copies is overdue."""


def check_database(around: Surroundings) -> Check:
    """Return whether the database answers this role."""
    facts, look = around.facts, suggest_command("db check", around.environment)
    if facts is None and around.problem_code == _REFUSED:
        return must("database").missing(around.problem, look)
    if facts is None:
        return must("database").unmeasured(around.problem, look)
    version = f"{facts.server_version // 10_000}.{facts.server_version % 10_000}"
    tls = f", {facts.tls}" if facts.tls else ""
    return must("database").ok(f"Postgres {version} answers {facts.user} in {facts.database}{tls}")


def check_role(around: Surroundings, *, receives: bool) -> Check:
    """Return whether the role may do what backups need. `receives`: WAL is set up to be received."""
    subject = must("database_role", when=receives)
    facts, look = around.facts, suggest_command("db check", around.environment)
    if facts is None:
        return subject.unmeasured("the database did not answer", look)
    replication = facts.replication
    if replication.granted is None:
        return subject.unmeasured(f"replication could not be tried: {replication.why}", look)
    if replication.granted:
        power = (
            "; it is a superuser: `backout db roles` prints lesser ones" if facts.privileges.get("superuser") else ""
        )
        return subject.ok(f"{facts.user} may take backups and receive WAL{power}")
    why = f"{facts.user} may not take backups: {replication.why or 'it lacks REPLICATION'}"
    if around.vendor is not None and not receives:
        return subject.allowed(why)
    return subject.missing(
        why,
        suggest_command(
            "db roles backup", around.environment, "prints a role that may; it goes into database.admin_url_env"
        ),
    )


def check_recovery(around: Surroundings, *, now: float, full_every_s: float, receives: bool) -> Iterator[Check]:
    """Yield whether there is a way to bring the data back, and how old the newest copy is.

    Args:
        full_every_s: how often a full base backup is to be made.
    """
    environment, choice = around.environment, choose(around)
    subject = must("recovery", when=receives)
    if around.proof_alarm:
        yield should("backup_proof").missing(around.proof_alarm, suggest_command("db backups prove", environment))
    if choice.path is None:
        lines = [lack.line for way in choice.ways for lack in way.lacks if lack.line.startswith("backout ")]
        yield subject.missing(choice.why, parse_hint(lines[0] if lines else "backout db check", environment))
        return
    yield subject.ok("; ".join((choice.why, *_list_limits(choice))))
    copies = [window.latest for window in (around.own, around.dumps, around.pgbackrest) if window and window.latest]
    if choice.path is not RecoveryPath.OWN or not copies:
        return
    age_s = max(now - max(copies), 0.0)
    if age_s > full_every_s * _OVERDUE:
        why = (
            f"the newest copy is {format_duration(age_s)} old, and one is to be made every "
            f"{format_duration(full_every_s)}"
        )
        again = "backup" if around.own.copies else "dump"
        yield should("backup_age").missing(why, suggest_command(f"db {again}", environment))
    else:
        yield should("backup_age").ok(f"the newest copy is {format_duration(age_s)} old")


def check_restore_point(around: Surroundings, *, now: float, full_every_s: float) -> Iterator[Check]:
    """Yield how old the newest moment is that the data could be returned to; nothing where there is no way at all.

    Args:
        full_every_s: how often a full base backup is to be made.
    """
    subject, choice, environment = must("restore_point"), choose(around), around.environment
    if choice.path is None:
        return  # `recovery` says so
    if around.protection is not None and around.protection.protected:
        yield subject.ok(around.protection.claim)
        return
    latest = max((way.latest for way in choice.ways if way.latest and way.path is choice.path), default=None)
    if latest is None:
        yield subject.unmeasured("how far the data reaches is not known", suggest_command("db check", environment))
        return
    age_s = max(now - latest, 0.0)
    lost = f"the newest moment to return to is {format_duration(age_s)} old; what was written since would be lost"
    if age_s <= full_every_s * _OVERDUE:
        yield subject.ok(lost)
        return
    again = "backup" if around.own.copies else "dump"
    yield subject.missing(lost, suggest_command(f"db {again}", environment))


def _list_limits(choice: Choice) -> Iterator[str]:
    """Yield what a vendor's ways do not reach: before their window, and in place where that is closed."""
    best = choice.ways[0]
    if best.path is RecoveryPath.MANAGED and best.earliest is not None and best.latest is not None:
        yield f"it reaches back {format_duration(best.latest - best.earliest)}"
    for way in choice.ways:
        if way.path is RecoveryPath.MANAGED and way.in_place and way.readiness is not Readiness.READY:
            yield from (f"{way.name}: {lack.what}" for lack in way.lacks)


def check_wal(found: Protection | None, environment: str) -> Check:
    """Return whether every moment since the newest base backup can be returned to; None: no WAL is received."""
    start, backup = suggest_command("db wal start", environment), suggest_command("db backup", environment)
    if found is None:
        why = "WAL is not being received: what was written since the newest copy could not be recovered"
        stream = describe_setting("environments", environment, "database", "backup", wal="stream")
        return should("wal").not_set_up(why, suggest_setting(stream, start, backup))
    if found.protected and found.alarm:
        return must("wal").missing(found.alarm, suggest_command("db backups prove", environment))
    if found.protected:
        return must("wal").ok(found.claim)
    return must("wal").missing(f"UNPROTECTED: {found.why}", suggest_setting("", start, backup))


def check_migrations(state: SchemaState, environment: str) -> Check:
    """Return whether the history of migrations is whole: over one that failed, code is not rolled back."""
    if state.failed:
        why = f"migration {state.failed[-1]} failed half-way: code is not rolled back over it"
        return must("migrations").missing(why, suggest_command("db migrations status", environment))
    return must("migrations").ok(f"readable; {f'the newest is {state.head}' if state.head else 'none is applied'}")
