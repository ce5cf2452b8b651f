"""Evidence for a cause besides the logs: health, migrations, names of secrets, what the deployment changed."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from backout.analysis.secrets import find_binding
from backout.errors import BackoutError
from backout.model.guard.signals import Criticality, Reach, ServiceState
from backout.model.incident.diagnosis import Changed, Clue

if TYPE_CHECKING:
    from collections.abc import Collection

    from backout.analysis.diagnosis.signatures import Classifier
    from backout.model.guard.signals import HealthReport, ServiceHealth
    from backout.model.situation import SchemaLook, Situation
    from backout.model.version import Version
    from backout.runbook.toolbox import Toolbox

_DOWN: Final = 4.0
_DEGRADED: Final = 2.5
_FAILED_MIGRATION: Final = 5.0
_PENDING_MIGRATION: Final = 1.5
_MISSING_NAME: Final = 4.0
_BY_SERVICE: Final = {
    "database": "db_unreachable",
    "storage": "storage_unreachable",
    "email": "email_failure",
}
"""What a down service means when its report says nothing more."""
_ELSEWHERE: Final = "upstream_5xx"


@dataclass(slots=True)
class ContextEvidence:
    """What was found, what was checked and is well, and what is worth knowing but is no cause by itself."""

    clues: list[Clue] = field(default_factory=list)
    clean: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *clues: Clue) -> None:
        """Take clues in."""
        self.clues += clues


def look_around(tools: Toolbox, situation: Situation, classifier: Classifier) -> ContextEvidence:
    """Return what every source besides the logs says; one that does not answer is left out. Never raises."""
    found = ContextEvidence()
    if tools.health is not None:
        with contextlib.suppress(BackoutError):
            _add_health(tools.health.look(), classifier, tools, found)
    _add_schema(situation.schema, found)
    _add_names(situation, _list_required_secrets(tools), found)
    return found


def find_changes(old: Version | None, new: Version | None, look: SchemaLook) -> frozenset[Changed]:
    """Return what differs between two versions, as far as their details are known."""
    if old is None or new is None:
        return frozenset()
    found = set()
    if old.code_hash != new.code_hash:
        found.add(Changed.CODE)
    if set(old.secret_names) != set(new.secret_names):
        found.add(Changed.SECRETS)
    if _list_of_kind(old, _VARIABLES) != _list_of_kind(new, _VARIABLES):
        found.add(Changed.VARIABLES)
    if _list_of_kind(old, None) != _list_of_kind(new, None):
        found.add(Changed.BINDINGS)
    applied = look.state.applied if look.state is not None else ()
    if any(old.created_at < (each.finished_at or each.started_at) for each in applied):
        found.add(Changed.MIGRATIONS)
    return frozenset(found)


_VARIABLES: Final = ("plain_text", "json")


def _list_of_kind(version: Version, kinds: Collection[str] | None) -> set[str]:
    """Return the bindings of these kinds; None: of all that are neither variables nor secrets."""
    others = (*_VARIABLES, "secret_text", "secret_key")
    return {
        each
        for each in version.bindings
        if (each.partition(":")[0] in kinds if kinds is not None else each.partition(":")[0] not in others)
    }


def _add_health(report: HealthReport, classifier: Classifier, tools: Toolbox, found: ContextEvidence) -> None:
    if report.reach is Reach.UNREACHABLE:
        found.add(Clue("dns_tls_failure", 0.0, "the health endpoint cannot be reached", "health", report.at))
        return
    ill = [each for each in report.services if each.state in (ServiceState.DOWN, ServiceState.DEGRADED)]
    for service in ill:
        found.add(_find_service_clue(service, report.at, classifier, tools))
    if report.measured and not ill and not report.is_down:
        count = len(report.services)
        found.clean.append(f"health: all {count} services ok" if count else "health: ok")


def _find_service_clue(service: ServiceHealth, at: float, classifier: Classifier, tools: Toolbox) -> Clue:
    """Return the cause that an unhealthy service points to: from its own words first, else from its name."""
    said = classifier.classify(service.detail) if service.detail else None
    label = said.label if said is not None and said.is_known else _ELSEWHERE
    if label == _ELSEWHERE:  # a failed call says less than which service it was to
        label = _BY_SERVICE.get(service.name, label)
    critical = tools.policy.services.get(service.name)
    word = {Criticality.CRITICAL: "critical", Criticality.DEGRADABLE: "may degrade", None: "not configured"}[critical]
    detail = f": {service.detail}" if service.detail else ""
    is_down = service.state is ServiceState.DOWN
    weight = _DOWN if is_down else _DEGRADED
    text = f"{service.name} is {service.state} ({word}){detail}"
    explains = is_down and critical is Criticality.CRITICAL
    return Clue(label, weight, text, "health", at, service=service.name, explains_silence=explains)


def _add_schema(look: SchemaLook, found: ContextEvidence) -> None:
    if look.state is None:
        return
    for migration in look.state.applied:
        if migration.name in look.state.failed:
            logs = f": {migration.logs.strip().splitlines()[0]}" if migration.logs.strip() else ""
            text = f"migration {migration.name} started and did not finish{logs}"
            found.add(Clue("migration_failed", _FAILED_MIGRATION, text, "migrations", migration.started_at))
    if not look.state.failed:
        found.clean.append(
            f"migrations: none failed, head {look.state.head}" if look.state.head else "migrations: none failed"
        )


def _list_required_secrets(tools: Toolbox) -> frozenset[str]:
    """Return the names that the configuration requires as secrets; none if they are not known."""
    if tools.pushing is None:
        return frozenset()
    try:
        pushing = tools.pushing()
        return frozenset(pushing.expected().required) - pushing.own
    except BackoutError:
        return frozenset()


def _add_names(situation: Situation, required: frozenset[str], found: ContextEvidence) -> None:
    """Report which secrets are gone that the version before had, or that the live version's code is bound to.

    If the version before is the newer one (after a rollback) it may have introduced names of its own. A required one
    that was not there before either is reported, but is no clue: the deployment did not cause it.
    """
    if situation.secret_names is None:
        return
    live = situation.version(situation.live.main)
    wanted = set(live.secret_names) if live is not None else set()
    before = next((d for d in situation.history[1:] if not situation.live.serves(d.main)), None)
    earlier = situation.version(before.main) if before is not None else None
    if earlier is not None and (live is None or earlier.created_at <= live.created_at):
        wanted |= set(earlier.secret_names)
    there = set(situation.secret_names)
    missing = tuple(sorted(wanted - there))
    if missing:
        text = f"secrets that were there before are gone: {', '.join(missing)}"
        found.add(Clue("missing_env_var", _MISSING_NAME, text, "secrets", names=missing))
    plain = {name for name in required if live is not None and find_binding(live, name)}
    lacking = sorted(required - there - plain - set(missing))
    if lacking:
        found.notes.append(f"required secrets are not set: {', '.join(lacking)}")
    needed = (required or there) - plain | wanted
    if needed and not missing and not lacking:
        found.clean.append(f"secrets: all {len(needed)} there")
