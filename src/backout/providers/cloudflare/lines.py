"""Commands to type instead of backout: wrangler, curl and psql lines with an environment's real names.

No line holds a secret: tokens come from variables, and go to curl through its standard input, never through argv.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from msgspec import field

from backout.model.incident.card import CardLines
from backout.model.plan import Equivalents
from backout.model.value import Value
from backout.providers.cloudflare.client import CLOUDFLARE_API
from backout.providers.line_templates import VERSION, HealthQuestion, make_template

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OVERRIDES: Final = "Cloudflare-Workers-Version-Overrides"
_TOKEN: Final = "printf 'Authorization: Bearer %s\\n' \"$CLOUDFLARE_API_TOKEN\" |"  # noqa: S105 - its variable
DASHBOARD: Final = (
    "wrangler and curl need the API as well; until it answers (https://www.cloudflarestatus.com), in the dashboard:\n"
    "https://dash.cloudflare.com > Workers & Pages > {script} > Deployments > ... beside {{version}} > Rollback"
)
_PAGE: Final = (
    "echo 'export default {{ fetch: () => new Response(\"maintenance\", {{ status: 503 }}) }}' > maintenance.mjs\n"
    "npx wrangler versions upload maintenance.mjs --latest --keep-vars --name {name}  # prints VERSION\n"
    "npx wrangler versions deploy VERSION@100% --name {name} -y"
)
_JSON: Final = "-H 'Content-Type: application/json'"
_CAUTION: Final = (
    "The answer 10220 means: a secret changed since, and its old value would come back with the version. That is a "
    "decision. curl stops there; wrangler with -y says yes by itself."
)
_HEADS: Final = {
    "prisma": "\nSELECT migration_name, finished_at FROM _prisma_migrations"
    "\nWHERE rolled_back_at IS NULL ORDER BY started_at DESC LIMIT 3",
    "alembic": "\nSELECT version_num FROM alembic_version",
    "drizzle": "\nSELECT hash, to_timestamp(created_at / 1000.0) AS generated"
    "\nFROM drizzle.__drizzle_migrations ORDER BY id DESC LIMIT 3",
    "django": "\nSELECT app, name, applied FROM django_migrations ORDER BY id DESC LIMIT 3",
}


class Sources(Value, frozen=True):
    """Where a shell finds the secrets that it needs: the variable's name, or the file's path; never a value.

    Args:
        migrations: the tool that keeps a history of migrations in Postgres, "" without one.
    """

    token_env: str | None = None
    token_file: str | None = None
    database_env: str | None = None
    database_file: str | None = None
    migrations: str = ""


class Place(Value, frozen=True):
    """The addresses of an environment.

    Args:
        headers: sent to the health endpoint as they are.
        headers_env: header = the variable that holds its value.
    """

    api_base_url: str
    account_id: str
    script: str
    health_url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    headers_env: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The Worker's name as a word of a shell."""
        return shlex.quote(self.script)

    def health(self, *more: str) -> str:
        """Return the line that asks the health endpoint once, "" when there is none; `more`: headers as words."""
        return HealthQuestion(self.health_url or "", self.headers, self.headers_env).write(*more)


def make_equivalents(place: Place) -> Equivalents:
    """Return the lines of a plan's steps, as templates."""
    name, api = place.name, f"{place.api_base_url}/accounts/{place.account_id}/workers/scripts/{place.script}"
    # One version is asked for by a structured header; it needs both kinds of quotes.
    asked = place.health(f"-H '{OVERRIDES}: {place.script}=\"{VERSION}\"'")
    proof = [f"npx wrangler versions deploy {{leaving}}@100% {{version}}@0% --name {name} -y"]
    ask = make_template(asked)
    proof += [ask] if ask else []
    return Equivalents(
        prove="\n".join(proof),
        ask=ask,
        activate=f"npx wrangler rollback {{version}} --name {name} --message {{message}}",
        at_once=" --durable-objects-code-update-mode immediate",
        split=f"npx wrangler versions deploy {{shares}} --name {name} -y",
        live=f"npx wrangler deployments status --name {name}",
        health=place.health(),
        errors=f"npx wrangler tail {name} --version-id {{version}} --status error",
        secrets=f"npx wrangler secret bulk {{file}} --name {name}",
        secret=f"npx wrangler secret put {{name}} --name {name}",
        secrets_apart="# wrangler refuses here (10215): deploy the live commit again, then `wrangler secret bulk`",
        secret_names=f"npx wrangler secret list --name {name}",
        page=_PAGE.format(name=name),
        upload=f"npx wrangler versions upload --secrets-file secrets.json --name {name}",
        queue_off="npx wrangler queues pause-delivery {queue}",
        queue_on="npx wrangler queues resume-delivery {queue}",
        cache_off="npx wrangler hyperdrive update {id} --caching-disabled true",
        cache_on="npx wrangler hyperdrive update {id} --caching-disabled false",
        dashboard=DASHBOARD.format(script=place.script.replace("{", "{{").replace("}", "}}")),
        schedules=f"{_TOKEN} curl -sX PUT {shlex.quote(f'{api}/schedules')} -H @- {_JSON} --data {{schedules}}",
    )


def make_card_lines(place: Place, sources: Sources) -> CardLines:
    """Return the platform's, the health check's and the database's lines of a card."""
    name, listed = place.name, f'{_TOKEN}\n  curl -sS -H @- "$API/{{what}}"'
    body = '{{"strategy":"percentage","versions":[\n  {shares}],\n "annotations":{{"workers/message":"{text}"}}}}'
    posted = '\\\n  "$API/deployments"'
    return CardLines(
        setup=("\n".join(_list_setup(place, sources)),),
        live=(f"npx wrangler deployments status --name {name}", listed.format(what="deployments")),
        deploy=(
            f"{_TOKEN}\n  curl -sS -H @- {_JSON} {posted} --data '\n{body}'",
            f"npx wrangler versions deploy {{words}} \\\n  --name {name} -y --message {{message}}",
        ),
        caution=_CAUTION,
        health=(place.health(),) if place.health_url else (),
        secrets=(f"npx wrangler secret list --name {name}", listed.format(what="secrets")),
        database=list_database_lines(sources),
    )


def list_database_lines(sources: Sources) -> tuple[str, ...]:
    """Return what reads the newest migrations, () where the tool keeps none that is known."""
    query = _HEADS.get(sources.migrations)
    return () if query is None else (f'psql "${{DATABASE_URL%%\\?*}}" -Atc "{query}"',)


def list_database_setup(sources: Sources) -> tuple[str, ...]:
    """Return what a shell needs before them; the secret is read where it is, never shown."""
    if sources.migrations not in _HEADS:
        return ()
    return (_format_secret("DATABASE_URL", sources.database_env, sources.database_file),)


def _list_setup(place: Place, sources: Sources) -> Iterator[str]:
    """Yield what a shell needs before the other lines; secrets are read where they are, never shown."""
    yield f"export CLOUDFLARE_ACCOUNT_ID={shlex.quote(place.account_id)}"
    if place.api_base_url != CLOUDFLARE_API:
        yield f"export CLOUDFLARE_API_BASE_URL={shlex.quote(place.api_base_url)}"
    yield _format_secret("CLOUDFLARE_API_TOKEN", sources.token_env, sources.token_file)
    yield from list_database_setup(sources)
    yield f"API={shlex.quote(place.api_base_url)}/accounts/{shlex.quote(place.account_id)}"
    yield f"API=$API/workers/scripts/{place.name}"


def _format_secret(name: str, variable: str | None, file: str | None) -> str:
    if file and not variable:
        return f'export {name}="$(cat {shlex.quote(file)})"'
    if variable in (None, name):
        return f': "${{{name}:?must be set}}"'
    return f'export {name}="${variable}"'
