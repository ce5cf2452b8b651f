"""What is allowed but leaves a part "not set up", or is most likely not meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from backout.config.overlay import warn_of_unknown
from backout.config.scalars import is_loopback, is_private
from backout.config.secret_names import list_secret_variables
from backout.model.approval import IN_A_FILE, NOT_PROVABLE, Approver
from backout.model.guard.policy import Mode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.config.effective import Config
    from backout.config.schema import EnvironmentSettings, JournalSection


class Remark(NamedTuple):
    """One sentence about a part of the configuration ("health", "notify", ...; "" for a key that does nothing)."""

    part: str
    text: str


def list_warnings(config: Config) -> Iterator[str]:
    """Yield one sentence for each part that is not set up and each setting that does nothing."""
    for name, environment in config.settings.environments.items():
        for remark in _list_of_environment(config, environment):
            yield f"environments.{name}: {remark.text}"
    yield from (remark.text for remark in _list_general(config))


def list_unprovable(config: Config) -> Iterator[str]:
    """Yield a mistake for each environment that asks for a second person, whom its journal could not tell."""
    for name, environment in config.settings.environments.items():
        approvals = environment.approvals
        second = approvals.required_for and approvals.by is Approver.SECOND_PERSON
        if second and config.settings.journal.url_env is None:
            yield f'environments.{name}.approvals.by: {NOT_PROVABLE}: {IN_A_FILE}; set it to "anyone"'


def list_remarks(config: Config) -> Iterator[Remark]:
    """Yield the same of the chosen environment alone, each with the part that it is about."""
    yield from _list_of_environment(config, config.environment)
    yield from _list_general(config)


def _list_general(config: Config) -> Iterator[Remark]:
    yield from (Remark("notify", text) for text in _list_of_notify(config))
    if not config.signs_marks and (acting := _list_acting(config)):
        text = f"marks: no key is set up, and guard acts by itself in {acting}: anyone who may deploy can stop it"
        yield Remark("marks", text)
    yield from (Remark("", text) for text in _list_of_people(config.settings.journal))
    unknown = warn_of_unknown(config.chosen, config.variables, list_secret_variables(config.settings))
    yield from (Remark("", text) for text in unknown)


def _list_of_people(journal: JournalSection) -> Iterator[str]:
    """Yield what does nothing of the settings by which a login counts as a person."""
    if journal.pages_role is not None and journal.url_env is None:
        yield "journal.pages_role does nothing: a journal in a file knows no roles (journal.url_env)"
    elif journal.people and journal.pages_role is None:
        yield "journal.people does nothing without journal.pages_role"
    elif journal.pages_role in journal.people.values():
        yield "journal.people: the pages' own role is no person"


def _list_of_environment(config: Config, environment: EnvironmentSettings) -> Iterator[Remark]:
    if (
        environment.platform.is_cloudflare
        and not environment.platform.account_id
        and not config.variables.get("CLOUDFLARE_ACCOUNT_ID")
    ):
        yield Remark("platform", "platform.account_id is not set, and CLOUDFLARE_ACCOUNT_ID neither")
    if environment.health is None:
        yield Remark("health", "health is not set up: a rollback is verified by error rate and latency alone")
    if environment.traffic.provider == "none":
        yield Remark("traffic", "traffic is not set up: guard sees only the health endpoint, no error rate")
    if environment.database is None:
        yield Remark("database", "database is not set up: whether the schema allows a rollback cannot be read")
    elif environment.database.migrations == "none":
        text = "database.migrations is not set up: whether the schema allows a rollback cannot be read"
        yield Remark("migrations", text)
    if missing := tuple(_list_unpinned(environment)):
        read = "`backout init --pin` reads the environment's identity, and each change compares it"
        yield Remark("pin", f"not pinned: {', '.join(missing)}; {read}")
    if environment.guard.mode is Mode.ACT:
        yield from _list_of_acting(environment)
    if environment.health and not is_private(environment.health.url):
        yield Remark("", "health.url is not encrypted")
    yield from (Remark("", text) for text in _warn_of_counted(environment))
    example = environment.secrets.example
    if example is not None and not example.is_file():
        yield Remark("", f"secrets.example: no such file: {example.name}")


def _list_of_acting(environment: EnvironmentSettings) -> Iterator[Remark]:
    """Yield why guard will not act, although it is set to."""
    if environment.health is None and environment.traffic.provider == "none":
        yield Remark("guard", "guard.mode is 'act', but there is nothing to decide on")
    if environment.platform.command and environment.pin.conformance is None:
        text = "guard.mode is 'act', but platform.command never passed `backout conformance`: it only advises"
        yield Remark("", text)


def _warn_of_counted(environment: EnvironmentSettings) -> Iterator[str]:
    provider, url = environment.traffic.provider, environment.traffic.url
    if url and not is_private(url):
        yield "traffic.url is not encrypted: who is on the way can make the counts, so guard.mode 'act' is refused"
    synthetic = environment.guard.synthetic
    if (synthetic.paths or synthetic.checks) and provider in _COUNT_PROBES:
        yield (
            f"guard.synthetic: traffic.provider '{provider}' does not know backout's own requests by their header: "
            "ask a path that it leaves out, or they count as visitors'"
        )


_COUNT_PROBES = ("prometheus", "promql", "logs", "telemetry", "analytics")
"""Sources that count what the application or the platform counted, whatever sent the request."""


def _list_of_notify(config: Config) -> Iterator[str]:
    notify, acting = config.settings.notify, _list_acting(config)
    if acting and not notify.has_channel:
        yield f"notify: no channel is set up, and guard acts by itself in {acting}: no one will be told"
    if notify.smtp and notify.smtp.security == "none" and not is_loopback(notify.smtp.host):
        yield "notify.smtp.security is 'none': mail is not encrypted"


def _list_acting(config: Config) -> str:
    """Return the environments in which guard acts by itself."""
    return ", ".join(n for n, settings in config.settings.environments.items() if settings.guard.mode is Mode.ACT)


def _list_unpinned(environment: EnvironmentSettings) -> Iterator[str]:
    """Yield the parts of the identity that are set up and not pinned."""
    pin = environment.pin
    there = {
        "account_id": environment.platform.is_cloudflare,
        "script_tag": True,
        "database_system_identifier": environment.database is not None and environment.database.provider != "d1",
        "bucket": environment.storage is not None,
        "health_host": environment.health is not None,
    }
    yield from (name for name, is_there in there.items() if is_there and getattr(pin, name) is None)
