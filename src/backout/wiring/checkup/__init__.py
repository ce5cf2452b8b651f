"""The one list of checks, from a configuration: a lane of questions for each connection, opened when it is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.checkup.here import put_journal_first
from backout.analysis.checkup.views import set_level, shows
from backout.config.schema.environment import TOKEN_ENV
from backout.errors import Unmeasured
from backout.model.checkup import Checkup, View
from backout.model.hint import suggest_command, suggest_line, suggest_words
from backout.providers.clock import SystemClock
from backout.runbook.incident.checkup import Lane, examine
from backout.runbook.incident.checkup_questions import Counted, Facts, Here, Platform, Service
from backout.wiring.checkup.data import PATIENCE_S, list_database_lanes, list_objects_lane
from backout.wiring.checkup.here import list_first_lanes, list_last_lanes
from backout.wiring.health import make_health_check
from backout.wiring.hooks import Hooks
from backout.wiring.identity import make_identities
from backout.wiring.in_need import explain_card_doubt
from backout.wiring.permissions import list_needed
from backout.wiring.records import open_holds, open_journal
from backout.wiring.toolbox import make_toolbox

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.config import Config
    from backout.model.hint import Hint
    from backout.model.hold import Hold
    from backout.runbook.toolbox import Toolbox


def run_checkup(config: Config, view: View = View.DOCTOR, *, send: bool = False) -> Checkup:
    """Ask everything that a view shows of the chosen environment, side by side; it takes some seconds at most.

    Args:
        send: send a test notice through every channel.
    """
    return _ask(config, view, list_lanes(config, view, send=send))


def run_online(config: Config) -> tuple[Checkup, Facts]:
    """Ask the systems that the file names, and return what was read on the way as well."""
    platform = make_platform(config)
    return _ask(config, View.ONLINE, list_lanes(config, View.ONLINE, platform=platform)), platform.facts


def _ask(config: Config, view: View, lanes: Sequence[Lane]) -> Checkup:
    asked = [tuple(each for each in lane if shows(view, each.name)) for lane in lanes]
    checks = put_journal_first(examine([lane for lane in asked if lane], config.name))
    return Checkup(config.name, tuple(set_level(check, view) for check in checks))


def _open_toolbox(config: Config) -> Toolbox:
    if config.environment.platform.is_cloudflare:
        config.token()  # what is missing is said once: without an account, that is not the token's fault
        if not config.has_account:
            raise Unmeasured("not asked: the account is not set")
    return make_toolbox(config, Hooks(within_s=PATIENCE_S))


def make_platform(config: Config) -> Platform:
    """Return the questions to the platform."""
    return Platform(
        lambda: _open_toolbox(config),
        lambda: make_identities(config, PATIENCE_S),
        config.name,
        config.policy,
        needed=list_needed(config),
        places=_list_places(config),
        required=config.environment.secrets.required,
        here=Here(
            SystemClock(),
            lambda: open_journal(config, hurried=True).runs(config.name),
            lambda: _find_hold(config),
            config.places.card_path,
            explain_card_doubt(config),
            _suggest_deploy(config),
        ),
    )


def _suggest_deploy(config: Config) -> Hint:
    match config.environment.platform.provider:
        case "cloudflare":
            return suggest_line("npx wrangler deploy", "or correct platform.script")
        case "caddy":
            return suggest_command("release push DIR", config.name)
        case "command":
            return suggest_words("deploy once, or correct platform.command")


def list_lanes(
    config: Config, view: View = View.DOCTOR, *, send: bool = False, platform: Platform | None = None
) -> tuple[Lane, ...]:
    """Return all questions, in the order in which their checks are shown; a view shows some of them."""
    name, policy, deploys = config.name, config.policy, view is View.PREFLIGHT
    counted = config.environment.traffic.provider != "none"
    return (
        *list_first_lanes(config),
        (platform or make_platform(config)).lane(deploys=deploys),
        Service(
            lambda: make_health_check(config, SystemClock()),
            lambda: _list_live(_open_toolbox(config)),
            name,
            policy,
            counted=counted,
            open_version=lambda version: _open_version(_open_toolbox(config), version),
        ).lane(),
        Counted(lambda: _open_toolbox(config), name, policy).lane(is_set_up=counted),
        *list_database_lanes(config),
        *list_objects_lane(config, deploys=deploys),
        *list_last_lanes(config, deploys=deploys, send=send),
    )


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


def _list_live(tools: Toolbox) -> tuple[str, ...]:
    newest = tools.deployments.history()[:1]
    return tuple(share.version for each in newest for share in each.shares if share.percentage > 0)


def _open_version(tools: Toolbox, version: str) -> object:
    if tools.rollback.open_version is None:
        raise Unmeasured("there is no health endpoint")
    return tools.rollback.open_version(version)
