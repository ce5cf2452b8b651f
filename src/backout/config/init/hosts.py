"""The first backout.toml of an application on plain hosts, and the unit of systemd that runs its releases; pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from backout.config.init.draft import draft_database, draft_services, draft_synthetic, has_database, list_required
from backout.config.init.wrangler import Worker
from backout.config.toml_text import format_literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.config.init.project import Project

ENVIRONMENT: Final = "production"
FOLDER: Final = "backout-hosts"
PORTS: Final = (9100, 9199)
_SIMPLE: Final = re.compile(r"[\w./@:=+, -]+")
_GUESS: Final = "node server.js"
_UNIT: Final = """\
# What runs a release of {name}, written by `backout init --home hosts`. It was not run there: check it, then
#   mkdir -p ~/.config/systemd/user && cp {folder}/{unit} ~/.config/systemd/user/
#   systemctl --user daemon-reload && sudo loginctl enable-linger $USER
# so that releases run as the user who pushes them, and again after the host was restarted.
[Unit]
Description={name}, release %i

[Service]
Type=exec
WorkingDirectory={releases}/%i/app
# Its own variables, PORT (it listens on 127.0.0.1) and RELEASE (what /health says as its version).
EnvironmentFile={releases}/%i/unit.env
ExecStart=/usr/bin/env {run}
Restart=always
RestartSec=1
TimeoutStopSec=10

[Install]
WantedBy=default.target
"""


def name_unit(name: str) -> str:
    """Return the file name of the template unit.

    >>> name_unit("shop")
    'shop@.service'
    """
    return f"{name}@.service"


def make_name(text: str) -> str:
    """Return a name that is good for a folder and a unit.

    >>> make_name("@acme/web shop"), make_name("…")
    ('acme-web-shop', 'app')
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "app"


def find_start(project: Project) -> str:
    """Return the command line that the project's own script `start` has, or that runs it; a guess where it has none."""
    script = project.scripts.get("start", "").strip()
    if not script:
        return _GUESS
    return script if _SIMPLE.fullmatch(script) else f"{project.runner} start"


def format_unit(name: str, project: Project) -> str:
    """Return the template unit of systemd that runs a release, `%i` being its id."""
    values = {"name": name, "folder": FOLDER, "unit": name_unit(name), "releases": _place_releases(name)}
    return _UNIT.format(**values, run=find_start(project))


def draft_hosts(name: str, project: Project) -> str:
    """Return the text of backout.toml; what nothing tells is a comment that says what to fill in."""
    return "\n".join([*_draft(name, project), "", "[incidents]", 'directory = ".ai/incidents"', ""])


def _draft(name: str, project: Project) -> Iterator[str]:
    table, worker = f"environments.{ENVIRONMENT}", Worker(ENVIRONMENT, name)
    yield "# backout's configuration. No secrets belong here: they come from environment variables or files."
    yield "# Every key there is, with its meaning: backout config example"
    yield from ("", "[app]", f"name = {format_literal(name)}", "", f"[{table}]")
    yield f'# health = {{ url = "https://{name}.example.com/health" }} # fill in and uncomment'
    yield 'traffic = { provider = "caddy" }'
    if services := draft_services(worker, project):
        yield "# What an outage of each service means: critical | degradable."
        yield f"services = {format_literal(services)}"
    if project.example:
        yield f"secrets = {format_literal({'example': project.example, 'required': list_required(worker, project)})}"
    if project.has_workflows and project.repository:
        yield f"ci = {format_literal({'provider': 'github', 'repository': project.repository})}"
    yield from ("", f"[{table}.platform]", 'provider = "caddy"', "", f"[{table}.platform.caddy]")
    yield f"releases = {format_literal(_place_releases(name))} # yours to write, and Caddy's to read"
    yield f"access_log = {format_literal(f'/var/log/caddy/{name}.log')} # of the site, in JSON"
    yield f"ports = {format_literal(PORTS)} # each release listens on one of them, on 127.0.0.1"
    yield f"# The unit is {FOLDER}/{name_unit(name)}; by `enable` a release runs again after a restart of the host."
    yield f'start = "systemctl --user enable --now {name}@{{release}}"'
    yield f'stop = "systemctl --user disable --now {name}@{{release}}"'
    yield "# Where there is no systemd, in place of both: backout keeps it running itself."
    yield f"# run = {format_literal(find_start(project))}"
    yield f"# [{table}.platform.caddy.hosts.web1] # several hosts, through your own ssh: docs/hosts.md"
    yield '# ssh = "deploy@web1.example.com"'
    yield from ("", f"[{table}.guard]")
    yield 'mode = "observe" # observe: say what it would do | ask | act: roll back; begin with observe'
    if project.routes:
        yield from ("", f"[{table}.guard.synthetic]", *draft_synthetic(project))
    if has_database(worker, project):
        yield from ("", f"[{table}.database]", *draft_database(worker, project))


def _place_releases(name: str) -> str:
    return f"/srv/{name}/releases"
