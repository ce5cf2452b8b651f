"""What a command in need takes from a file that others could have written: names and limits, and no address.

`panic` and `card` must answer with such a file, too. It may say which Worker is meant; it may not say where a token, a
password or a request goes. So its settings are built anew from what is listed here: a key that comes later stays away
until someone lists it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from backout.config.scalars import API_BASE_URL
from backout.config.schema import EnvironmentSettings, Incidents, Settings
from backout.config.schema.environment import Database, Pin, Platform, Secrets
from backout.config.schema.notify import Notify

if TYPE_CHECKING:
    from collections.abc import Collection

    from backout.config.explain import Where


def withhold_addresses(settings: Settings, chosen_by_hand: Collection[Where]) -> Settings:
    """Return the settings without what says where something is sent, or which program is run.

    Args:
        chosen_by_hand: paths that a variable or a flag has set; those are not from the file.
    """
    kept = {
        name: _keep_names(environment, ("environments", name, "platform", "api_base_url") in chosen_by_hand)
        for name, environment in settings.environments.items()
    }
    incidents = settings.incidents if ("incidents", "directory") in chosen_by_hand else Incidents()
    return msgspec.structs.replace(settings, environments=kept, notify=Notify(), incidents=incidents)


def _keep_names(found: EnvironmentSettings, has_own_api: bool) -> EnvironmentSettings:
    platform, pin = found.platform, found.pin
    return EnvironmentSettings(
        platform=Platform(
            provider=platform.provider,
            script=platform.script,
            account_id=platform.account_id,
            api_base_url=platform.api_base_url if has_own_api else API_BASE_URL,
            token_env=platform.token_env,  # its value goes to the platform, wherever the file says that it lies
            token_file=platform.token_file,
        ),
        protected=found.protected,
        services=found.services,
        database=_keep_database(found.database),
        secrets=Secrets(required=found.secrets.required, ignore=found.secrets.ignore),
        pin=Pin(
            account_id=pin.account_id,
            script_tag=pin.script_tag,
            database_system_identifier=pin.database_system_identifier,
        ),
        criteria=found.criteria,
        guard=found.guard,
    )


def _keep_database(found: Database | None) -> Database | None:
    """Return what tells whether the schema allows a rollback; the address comes from a variable of ours."""
    if found is None:
        return None
    return Database(
        provider=found.provider,
        url_env=found.url_env or ("DATABASE_URL" if found.url_file else None),
        migrations=found.migrations,
        migrations_path=found.migrations_path,
        database_id=found.database_id,
        app_checks_head=found.app_checks_head,
        connect_timeout=found.connect_timeout,
    )
