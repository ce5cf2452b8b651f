"""The questions of `backout doctor`, from a configuration: a lane for each connection, opened when it is asked."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.analysis.checkup import data, here
from backout.analysis.checkup.platform import check_marks
from backout.config.schema.environment import TOKEN_ENV
from backout.errors import BackoutError, Unmeasured
from backout.journal.look import look_at_journal
from backout.model.checkup import ChannelLook, Checkup, Level, must, should
from backout.model.guard.policy import Mode
from backout.model.hint import suggest_command, suggest_setting
from backout.model.setting import describe_setting
from backout.providers.clock import SystemClock
from backout.runbook.incident.checkup import Lane, Question, examine
from backout.runbook.incident.checkup_questions import Counted, Here, Platform, Service
from backout.runbook.incident.no_journal import read_last_card
from backout.wiring.declared import explain_other_worker
from backout.wiring.health import make_health_check
from backout.wiring.hooks import Hooks
from backout.wiring.identity import make_identities
from backout.wiring.in_need import explain_card_doubt
from backout.wiring.objects_check import find_objects_check
from backout.wiring.permissions import list_needed
from backout.wiring.platform import make_reader
from backout.wiring.records import open_holds, open_journal
from backout.wiring.telling import list_routes, open_outbox
from backout.wiring.toolbox import make_toolbox

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from backout.config import Config
    from backout.model.checkup import Check, GitLook
    from backout.model.database.capability import Surroundings
    from backout.model.hold import Hold
    from backout.runbook.toolbox import Toolbox

PATIENCE_S: Final = 12.0
"""How long the platform is asked in all; a check ends before it."""
SEND_WITHIN_S: Final = 12.0
_SEEN_ELSEWHERE: Final = frozenset(
    {"platform", "health", "traffic", "database", "migrations", "pin", "notify", "marks"}
)
"""Parts of the configuration that a check of their own judges."""


def run_checkup(config: Config, *, send: bool = False) -> Checkup:
    """Ask everything that the chosen environment rests on, side by side; it takes some seconds at most.

    Args:
        send: send a test notice through every channel.
    """
    return Checkup(config.name, here.put_journal_first(examine(list_lanes(config, send=send), config.name)))


def list_lanes(config: Config, *, send: bool = False) -> tuple[Lane, ...]:
    """Return the questions, in the order in which their checks are shown."""
    name, policy = config.name, config.policy
    required = config.environment.secrets.required

    def open_toolbox() -> Toolbox:
        config.token()  # what is missing is said once: without an account, that is not the token's fault
        if not config.has_account:
            raise Unmeasured("not asked: the account is not set")
        return make_toolbox(config, Hooks(within_s=PATIENCE_S))

    platform = Platform(
        open_toolbox,
        lambda: make_identities(config, PATIENCE_S),
        name,
        policy,
        needed=list_needed(config),
        places=_list_places(config),
        required=required,
        here=Here(
            SystemClock(),
            lambda: open_journal(config, hurried=True).runs(name),
            lambda: _find_hold(config),
            config.places.card_path,
            explain_card_doubt(config),
        ),
    )
    counted = config.environment.traffic.provider != "none"
    return (
        (Question("config", Level.SHOULD, lambda: _check_config(config)),),
        (Question("account", Level.MUST, lambda: [must("account").ok(config.account_id)]),),
        platform.lane(),
        Service(
            lambda: make_health_check(config, SystemClock()),
            lambda: _list_live(open_toolbox()),
            name,
            policy,
            counted=counted,
            open_version=lambda version: _open_version(open_toolbox(), version),
        ).lane(),
        Counted(open_toolbox, name, policy).lane(is_set_up=counted),
        *_list_database_lanes(config),
        *_list_objects_lane(config),
        (Question("marks_key", Level.SHOULD, lambda: [_check_marks(config)]),),
        (Question("journal", Level.MUST, lambda: _check_journal(config)),),
        (Question("channels", Level.SHOULD, lambda: _check_channels(config, send=send), within_s=SEND_WITHIN_S),),
        (Question("dead_man", Level.SHOULD, lambda: _check_dead_man(config)),),
        (Question("git_ignore", Level.SHOULD, lambda: [here.check_git(_look_at_git(config))]),),
    )


def _check_journal(config: Config) -> Iterator[Check]:
    path, carded = config.places.journal, len(read_last_card(config.places.find_card()).marks)
    yield from here.check_journal(look_at_journal(path), config.name, carded=carded)


def _acts(config: Config) -> bool:
    return config.policy.guard.mode is Mode.ACT


def _list_places(config: Config) -> Mapping[str, str]:
    """Return where each token is kept, as a person would look for it."""
    platform = config.environment.platform
    acts = platform.token_env or (str(platform.token_file) if platform.token_file else TOKEN_ENV)
    read = platform.read_token_env or str(platform.read_token_file or acts)
    secrets = platform.secrets_token_env or str(platform.secrets_token_file or read)
    return {"all": acts, "rollback": acts, "read": read, "secrets": secrets}


def _find_hold(config: Config) -> Hold | None:
    kept = open_holds(config).read(config.name)
    found = None if kept is None else kept.limit()
    return found if found is not None and found.is_on(SystemClock().now()) else None


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


def _list_live(tools: Toolbox) -> tuple[str, ...]:
    newest = tools.deployments.history()[:1]
    return tuple(share.version for each in newest for share in each.shares if share.percentage > 0)


def _open_version(tools: Toolbox, version: str) -> object:
    if tools.rollback.open_version is None:
        raise Unmeasured("there is no health endpoint")
    return tools.rollback.open_version(version)


def _list_database_lanes(config: Config) -> tuple[Lane, ...]:
    """Return a lane for each connection: what one of them waits for, the others do not."""
    settings, name = config.environment.database, config.name
    if settings is None:
        why = "no database is set up: whether the schema allows a rollback cannot be read, and nothing is backed up"
        absent = should("database").not_set_up(
            why,
            suggest_setting(
                describe_setting("environments", name, "database", provider="postgres", url_env="DATABASE_URL")
            ),
        )
        return ((Question("database", Level.SHOULD, lambda: [absent]),),)
    status = suggest_command("db migrations status", name)
    found: list[Lane] = [(Question("migrations", Level.MUST, lambda: _check_migrations(config), status),)]
    if settings.provider != "postgres":
        return tuple(found)
    server, receives = _Server(config), settings.backup.wal != "off"
    needed, look = Level.MUST if receives else Level.SHOULD, suggest_command("db check", name)
    found.insert(
        0,
        (
            Question("database", Level.MUST, server.database, look),
            Question("database_role", needed, server.role, look),
            Question("recovery", needed, server.recovery, look),
        ),
    )
    found.append((Question("wal", needed, lambda: _check_wal(config), suggest_command("db wal status", name)),))
    if settings.server or settings.admin_url_env or settings.admin_url_file:
        look = suggest_command("unfence --dry-run", name)
        found.append((Question("fence", Level.SHOULD, lambda: [_check_fence(config)], look),))
    return tuple(found)


def _check_fence(config: Config) -> Check:
    from backout.analysis.checkup.fence import check_fence
    from backout.wiring.db.fence import make_fence

    with closing(make_fence(config)) as fence:
        return check_fence(fence.survey(), fence.read(), config.name)


def _list_objects_lane(config: Config) -> tuple[Lane, ...]:
    """Return the lane of the application's bucket, or none where there is no bucket."""
    if config.environment.storage is None:
        return ()
    look = suggest_command("objects check", config.name)
    return ((Question("objects", Level.SHOULD, lambda: [_check_objects(config)], look),),)


def _check_objects(config: Config) -> Check:
    from backout.analysis.checkup.objects import name_missing_key

    check = find_objects_check(config)
    return name_missing_key(config.name) if check is None else check()


class _Server:
    """The database's server, asked once for several questions."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._found: Surroundings | None = None

    @property
    def _around(self) -> Surroundings:
        if self._found is None:
            from backout.runbook.recovery.capability import survey
            from backout.wiring.db.managed import make_looks

            self._found = survey(make_looks(self._config))
        return self._found

    @property
    def _receives(self) -> bool:
        return self._around.wal != "off"

    def database(self) -> Iterator[Check]:
        """Ask whether it answers."""
        yield data.check_database(self._around)

    def role(self) -> Iterator[Check]:
        """Ask what the role may."""
        yield data.check_role(self._around, receives=self._receives)

    def recovery(self) -> Iterator[Check]:
        """Ask what it could be brought back from."""
        database = self._config.environment.database
        assert database is not None
        every_s, now = float(database.backup.full_every), SystemClock().now()
        yield from data.check_recovery(self._around, now=now, full_every_s=every_s, receives=self._receives)


def _check_migrations(config: Config) -> Iterator[Check]:
    from backout.wiring.db.database import make_schema

    history = make_schema(config, lambda: make_reader(config, PATIENCE_S), hurried=True)
    if history is None:
        why = "which migrations are applied is not read: whether the schema allows a rollback is unknown"
        prisma = suggest_setting(describe_setting("environments", config.name, "database", migrations="prisma"))
        yield should("migrations").not_set_up(why, replace(prisma, note="or alembic, django, drizzle, d1"))
        return
    yield data.check_migrations(history.read(), config.name)


def _check_wal(config: Config) -> Iterator[Check]:
    from backout.wiring.db.database import make_protection

    database, asked = config.environment.database, make_protection(config)
    if asked is None and database is not None and database.managed is not None:
        return  # the vendor keeps it: `recovery` says what it offers
    yield data.check_wal(None if asked is None else asked(), config.name)


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
