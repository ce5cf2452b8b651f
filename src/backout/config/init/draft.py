"""The first backout.toml of a project, from its wrangler configuration and its folder; pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from backout.config.init.counts import format_line
from backout.config.init.deploying import find_environment
from backout.config.init.recorder import FOLDER
from backout.config.init.routes import format_proposal
from backout.config.toml_text import format_key, format_literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.config.init.project import Project
    from backout.config.init.recorder import Recorder
    from backout.config.init.wrangler import Worker

_EMAIL = re.compile(r"EMAIL|SMTP|RESEND|SENDGRID|POSTMARK|MAILGUN")
_NOT_OF_THE_WORKER = re.compile(r"CLOUDFLARE_|CF_|GITHUB_|NODE_ENV$|PORT$")
_PRODUCTION = re.compile("prod|live", re.IGNORECASE)


def draft(
    name: str,
    workers: tuple[Worker, ...],
    project: Project,
    recorder: Recorder,
    *,
    built: str = "",
    api_base_url: str = "",
) -> str:
    """Return the text of backout.toml; unknown values are comments that say what to fill in.

    Args:
        name: of the application.
        workers: its environments.
        project: the facts of the folder.
        recorder: the flight recorder that could count its answers.
        built: the environment for wrangler of the build that is deployed.
        api_base_url: of the platform's API, "" for the usual one.
    """
    lines = [
        "# backout's configuration. No secrets belong here: they come from environment variables or files.",
        "# Every key there is, with its meaning: backout config example",
        "",
        "[app]",
        f"name = {format_literal(name)}",
    ]
    for worker in workers:
        lines += [
            "",
            f"[environments.{format_key(worker.environment)}]",
            *_draft_environment(worker, project, api_base_url),
        ]
        lines += [format_line(keeps_all=worker.keeps_logs)]
        lines += [f"# {recorder.traffic} # in place of the line above, once {FOLDER}/ is deployed"]
        lines += ["", f"[environments.{format_key(worker.environment)}.guard]", *_draft_guard(worker)]
        if project.routes:
            lines += [
                "",
                f"[environments.{format_key(worker.environment)}.guard.synthetic]",
                *draft_synthetic(project),
            ]
        if has_database(worker, project):
            lines += [
                "",
                f"[environments.{format_key(worker.environment)}.database]",
                *draft_database(worker, project),
            ]
        if deploy := tuple(_draft_deploy(worker, project, built, alone=len(workers) == 1)):
            lines += ["", f"[environments.{format_key(worker.environment)}.deploy]", *deploy]
    return "\n".join([*lines, "", "[incidents]", 'directory = ".ai/incidents"', ""])


def _draft_environment(worker: Worker, project: Project, api_base_url: str) -> Iterator[str]:
    platform = {"provider": "cloudflare", "script": worker.script}
    if api_base_url:
        platform["api_base_url"] = api_base_url
    if worker.account_id:
        yield f"platform = {format_literal({**platform, 'account_id': worker.account_id})}"
    else:
        yield f"platform = {format_literal(platform)} # account_id: from CLOUDFLARE_ACCOUNT_ID"
    if worker.url:
        guess = " # a guess: check it" if worker.is_guess else " # the path is a guess: check it"
        yield f"health = {format_literal({'url': worker.url + '/health'})}{guess}"
    else:
        yield f'# health = {{ url = "https://{worker.script}.SUBDOMAIN.workers.dev/health" }} # fill in and uncomment'
    services = draft_services(worker, project)
    if services:
        yield "# What an outage of each service means: critical | degradable."
        yield f"services = {format_literal(services)}"
    if worker.buckets:
        others = f" # also bound: {', '.join(worker.buckets[1:])}" if worker.buckets[1:] else ""
        yield f"storage = {format_literal({'provider': 'r2', 'bucket': worker.buckets[0]})}{others}"
    if project.example:
        yield f"secrets = {format_literal({'example': project.example, 'required': list_required(worker, project)})}"
    if project.has_workflows and project.repository:
        yield f"ci = {format_literal({'provider': 'github', 'repository': project.repository})}"
    elif project.has_workflows:
        yield '# ci = { provider = "github", repository = "OWNER/NAME" } # fill in and uncomment'


def draft_database(worker: Worker, project: Project) -> Iterator[str]:
    """Yield a separate table: backups, a vendor and a server are tables below it."""
    if _is_d1(worker, project):
        yield 'provider = "d1"'
        yield f"database_id = {format_literal(worker.d1)}"
        yield f"migrations = {format_literal('none' if worker.d1_migrations is None else 'd1')}"
        if worker.d1_migrations not in (None, "migrations"):
            yield f"migrations_path = {format_literal(worker.d1_migrations)}"
        return
    yield 'provider = "postgres"'
    yield f"url_env = {format_literal(_choose_database_variable(worker, project))}"
    yield f"migrations = {format_literal(project.tool)}"
    if project.migrations_path:
        yield f"migrations_path = {format_literal(project.migrations_path)}"


def _draft_guard(worker: Worker) -> Iterator[str]:
    yield f'mode = "observe" # observe: say what it would do | ask | act: roll back{_describe_when(worker)}'
    yield "# holdback = 10 # recommended with act: the old version keeps 10 % of a cut-over for its first minutes"


def draft_synthetic(project: Project) -> Iterator[str]:
    """Yield the requests that guard could make itself."""
    yield "# What guard asks itself while it watches, and of both versions where one answers otherwise than before."
    yield format_proposal(project.routes)


def _describe_when(worker: Worker) -> str:
    return "; begin with observe" if _PRODUCTION.match(worker.environment) else ""


def _draft_deploy(worker: Worker, project: Project, built: str, *, alone: bool) -> Iterator[str]:
    """Yield the script that deploys this Worker; one that does not tell what it deploys is production's."""
    for script in (f"deploy:{worker.environment}", "deploy"):
        if script not in project.scripts:
            continue
        target = find_environment(project.scripts, script, built)
        is_own = script != "deploy" or alone or _PRODUCTION.match(worker.environment)
        if target == worker.target or (target is None and is_own):
            yield f"command = {format_literal(f'{project.runner} {script}')}"
            break


def draft_services(worker: Worker, project: Project) -> dict[str, str]:
    """Return what an outage of each service means that the application seems to use."""
    found = {}
    if has_database(worker, project):
        found["database"] = "critical"
    if worker.buckets:
        found["storage"] = "critical"
    if any(_EMAIL.search(name) for name in (*project.names, *worker.variables)):
        found["email"] = "degradable"
    return found


def _is_d1(worker: Worker, project: Project) -> bool:
    """Return whether its database is D1; `tool` is drizzle for Postgres alone, and prisma for any database."""
    return bool(worker.d1) and not worker.has_hyperdrive and project.tool != "drizzle"


def has_database(worker: Worker, project: Project) -> bool:
    """Return whether the application seems to have one."""
    return (
        bool(worker.d1)
        or worker.has_hyperdrive
        or project.tool != "none"
        or "DATABASE_URL" in (*project.names, *project.commented)
    )


def _choose_database_variable(worker: Worker, project: Project) -> str:
    own = f"{worker.environment.upper().replace('-', '_')}_DATABASE_URL"
    return own if own in (*project.names, *project.commented) else "DATABASE_URL"


def list_required(worker: Worker, project: Project) -> list[str]:
    """Return the names that the Worker needs as secrets, without its plain variables and what only the tools need."""
    skipped = {*worker.variables, *(("DATABASE_URL",) if worker.has_hyperdrive else ())}
    return [name for name in project.names if name not in skipped and not _NOT_OF_THE_WORKER.match(name)]
