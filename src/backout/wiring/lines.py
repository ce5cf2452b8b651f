"""Command lines of other programs with the environment's real names: on plans, and on the card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.config.contacts import list_contacts
from backout.wiring.other_platform import find_other_platform
from backout.wiring.records import describe_journal

if TYPE_CHECKING:
    from backout.config import Config
    from backout.config.schema.environment import Database
    from backout.model.incident.card import CardLines
    from backout.model.plan import Equivalents
    from backout.providers.cloudflare.lines import Place


def _make_place(config: Config) -> Place:
    from backout.providers.cloudflare.lines import Place as Where

    platform, health = config.environment.platform, config.environment.health
    return Where(
        api_base_url=str(platform.api_base_url),
        account_id=config.account_id,
        script=platform.script,
        health_url=str(health.url) if health else None,
        headers=health.headers if health else {},
        headers_env=health.headers_env if health else {},
    )


def make_equivalents(config: Config) -> Equivalents:
    """Return what a person would type instead, with the environment's real names."""
    other = find_other_platform(config)
    if other is not None:
        return other.list_equivalents()
    from backout.providers.cloudflare import lines

    return lines.make_equivalents(_make_place(config))


def make_card_lines(config: Config) -> CardLines:
    """Return the lines of the environment's card; of secrets only where they are."""
    from backout.providers.cloudflare import lines

    platform, database = config.environment.platform, config.environment.database
    sources = lines.Sources(
        token_env=platform.token_env,
        token_file=str(platform.token_file) if platform.token_file else None,
        database_env=database.url_env if database else None,
        database_file=str(database.url_file) if database and database.url_file else None,
        migrations=database.migrations if database else "",
    )
    other = find_other_platform(config)
    if other is not None:
        listed = other.list_card_lines()
        setup = (*listed.setup, *lines.list_database_setup(sources))
        return _add_places(config, replace(listed, setup=setup, database=lines.list_database_lines(sources)))
    return _add_places(config, lines.make_card_lines(_make_place(config), sources))


def _add_places(config: Config, lines: CardLines) -> CardLines:
    settings = config.settings
    return replace(
        lines,
        application=settings.app.name,
        fence=_list_fence_lines(config.environment.database),
        places=(
            ("incident reports", str(config.places.reports_path)),
            ("journal", describe_journal(config)),
            ("configuration", str(config.path)),
        ),
        people=tuple((each.label, each.reach) for each in list_contacts(settings.contacts)),
    )


def _list_fence_lines(database: Database | None) -> tuple[str, ...]:
    """Return what opens a fence, () where none can be raised."""
    if database is None or not (database.admin_url_env or database.admin_url_file):
        return ()
    from backout.providers.postgres.fence.by_hand import write_script_command
    from backout.wiring.db.psql import name_connection

    return (write_script_command(name_connection(database)),)


def list_npx_lines() -> tuple[str, ...]:
    """Return what a shell needs before the card's `npx` lines, see `providers.node`."""
    from backout.providers import node

    return node.list_card_lines()
