"""`backout init`: write a first backout.toml from the files in this folder; never overwrites unasked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.config.files import write_new_configuration
from backout.cli.support.options import command, pass_shell
from backout.cli.support.style import Tone
from backout.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.config.init.bill import Sink

_API = "CLOUDFLARE_API_BASE_URL"


@command(
    "init",
    epilog="""
Examples:
  backout init --dry-run
  backout init
  backout init --home hosts                        # releases on hosts of your own, behind Caddy
  backout init --pin -e production --dry-run
""",
)
@click.option(
    "--home",
    type=click.Choice(("cloudflare", "hosts")),
    default="cloudflare",
    show_default=True,
    help="Where the application runs; with hosts a unit for systemd is written, too.",
)
@click.option("--pin", "only_pin", is_flag=True, help="Read the environment's identity, and pin it in the file.")
@click.option(
    "--recorder",
    "sink",
    is_flag=False,
    flag_value="object",
    type=click.Choice(["object", "r2"]),
    help="Only write the flight recorder's folder, and say what it costs.",
)
@click.option("--workflow", is_flag=True, help="Only write a workflow of GitHub Actions, with guard in it.")
@click.option(
    "--ask-routes", is_flag=True, help="GET the routes found in the source, and have guard request those that answer."
)
@click.option("--force", is_flag=True, help="Overwrite an existing backout.toml (or pin).")
@click.option("-n", "--dry-run", is_flag=True, help="Print what would be written.")
@pass_shell
def init(
    shell: Shell,
    *,
    home: str,
    only_pin: bool,
    sink: Sink | None,
    workflow: bool,
    ask_routes: bool,
    force: bool,
    dry_run: bool,
) -> int:
    """Write backout.toml from wrangler.jsonc, .env.example, prisma/ and .github/workflows; then check it.

    It also writes backout-recorder/, a Tail Worker that counts every answer for guard; its wrangler.jsonc says how to
    deploy it. No file of the application is changed: the lines to add are printed.

    The identity of each environment (account, Worker, database, bucket, health host) is pinned as far as the provider
    tells it; without a token it is left out, and `--pin` adds it later.

    With --home hosts it is written from package.json, .env.example and prisma/, and backout-hosts/ gets a template unit
    of systemd that runs a release; `systemd-analyze verify` checks it where that is there.

    Routes without parameters found in the source are proposed for guard's own requests. They are requested only with
    --ask-routes, or when you say yes.
    """
    if only_pin:
        from backout.cli.config.pin import pin

        return pin(shell, force=force, dry_run=dry_run)
    if workflow:
        from backout.cli.config.workflow import add_workflow

        return add_workflow(shell, force=force, dry_run=dry_run)
    if ask_routes and not force and (shell.folder / "backout.toml").exists():
        from backout.cli.config.routes import ask

        return ask(shell)
    if home == "hosts":
        from backout.cli.config.hosts import set_up_hosts

        return set_up_hosts(shell, force=force, dry_run=dry_run)
    if sink is not None:
        from backout.cli.config.recorder import add_recorder

        return add_recorder(shell, sink, force=force, dry_run=dry_run)
    return _set_up(shell, ask_routes=ask_routes, force=force, dry_run=dry_run)


def _set_up(shell: Shell, *, ask_routes: bool, force: bool, dry_run: bool) -> int:
    """Write backout.toml and the recorder's folder."""
    from backout import config
    from backout.cli.config import recorder
    from backout.cli.config.deployed import say_deployed
    from backout.config.init import project, wrangler
    from backout.config.init.draft import draft

    source = wrangler.find(shell.folder)
    around = project.read_project(shell.folder)
    deployed = wrangler.read(source, around.scripts)
    name, workers = deployed.name, deployed.workers
    file = shell.folder / "backout.toml"
    found = recorder.find_folder(shell.folder, source, name, workers)
    text = draft(name, workers, around, found.recorder, built=deployed.built, api_base_url=_find_api(shell))
    mistakes = config.find_mistakes(text, file)
    if not dry_run:
        write_new_configuration(file, text, force=force)
    written, kept = ([], []) if dry_run else found.write(force=force)
    names = tuple(worker.environment for worker in workers)
    if not dry_run and not mistakes:
        from backout.cli.config.counts import look_at_counts
        from backout.cli.config.permissions import say_permissions
        from backout.cli.config.pin import pin_new_file

        pin_new_file(shell, names, file)
        look_at_counts(shell, names, file)
        say_permissions(shell, names, file)
        if around.routes and (ask_routes or _consents(shell, around.routes)):
            from backout.cli.config.routes import ask_new_file

            ask_new_file(shell, names, file, around.routes)
        text = file.read_text(encoding="utf-8")
    payload = {"path": file, "written": not dry_run, "environments": names, "mistakes": mistakes, "text": text}
    payload["recorder"] = found.as_json(written, kept)
    payload["redirected"], payload["left_out"] = deployed.redirected, deployed.left_out and deployed.left_out.script
    if dry_run:
        shell.output.result("init", payload, text.rstrip("\n"))
    else:
        done = shell.output.style.badge(f"wrote backout.toml from {source.name}: {', '.join(names)}", Tone.GOOD)
        shell.output.result("init", payload, done)
        shell.output.say(recorder.describe_written(written, kept))
    say_deployed(shell, deployed, source)
    recorder.say_lines(shell, found, source)
    if not around.ignores_records:
        shell.output.say("the journal is in .backout/, which must not be committed: echo .backout/ >> .gitignore")
    if mistakes:
        raise ConfigError(mistakes, hint="edit backout.toml, then: backout config check")
    shell.output.next(f"backout doctor -e {names[0]}  # what is missing, with the command for each gap")
    return 0


def _consents(shell: Shell, routes: tuple[str, ...]) -> bool:
    """Ask a person whether the application may be sent requests; without a person it is not."""
    if not shell.interactive:
        return False
    shell.output.prompt(f"Send the application GET {', '.join(routes)}, to see which of them answer? [y/N] ")
    return shell.stdin.readline().strip().lower() in {"y", "yes"}


def _find_api(shell: Shell) -> str:
    """Return the API that the environment variables name, as wrangler reads them, "" for the usual one.

    Raises:
        UsageError: it is not a URL that a token may be sent to.
    """
    from backout.config.scalars import API_BASE_URL, TlsUrl

    named = shell.environment.get(_API) or ""
    try:
        return "" if named in {"", API_BASE_URL} else TlsUrl.parse(named)
    except ValueError as error:
        raise UsageError(f"it names no API: {error}", where=_API, hint=f"unset {_API}, or correct it") from error
