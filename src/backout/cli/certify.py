"""`backout certify`: old code, migrations, new code, old code again, before it counts."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from backout.cli.support.options import command, pass_shell
from backout.errors import UsageError

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.config import Config
    from backout.model.database.certificate import Certificate
    from backout.wiring.certify.inputs import Source, TrialInputs

_FILE = click.Path(path_type=Path)


@command(
    "certify",
    short_help="Try the way back before it counts.",
    epilog="""
Examples:
  backout certify --new . -e production                    # from the live version to this folder
  backout certify --old ../before --new . --after 0007_note --requests certify.jsonl
  backout certify --new . -e production --dry-run          # what would be tried
  backout certify --new . -e production --on staging       # in your own staging instead of a local twin
  backout certify --new build -e production --run 'node server.js' --env-file trial.env   # releases behind Caddy
""",
)
@click.option("--new", metavar="DIR|VERSION", help="The new code: a folder for wrangler or a release, or an id.")
@click.option("--old", metavar="DIR|VERSION", help="The code to return to; default: the live version.")
@click.option("--migrations", type=_FILE, metavar="PATH", help="Default: those of the environment's tool.")
@click.option(
    "--after", metavar="NAME", help="The last migration that the old code runs with; default: the database's."
)
@click.option(
    "--requests", type=_FILE, metavar="FILE", help="The traffic, a JSON object a line; default: certify.requests."
)
@click.option("--statements", type=_FILE, metavar="FILE", help="What the old code sends: a log of Postgres, or SQL.")
@click.option("--seed", type=_FILE, metavar="FILE", help="SQL with rows to begin with; default: certify.seed.")
@click.option("--wrangler-env", metavar="NAME", help="The environment in the configuration of wrangler.")
@click.option("--run", default="", metavar="COMMAND", help="Behind Caddy: runs a release; default: platform.caddy.run.")
@click.option("--env-file", type=_FILE, metavar="FILE", help="Behind Caddy: the variables of releases in the trial.")
@click.option("--on", metavar="ENV", help="Try it in this environment, which is not protected; default: a local twin.")
@click.option("--restore", is_flag=True, help="Only put back what an interrupted trial --on ENV left there.")
@click.option("-n", "--dry-run", is_flag=True, help="Print what would be tried, and start nothing.")
@pass_shell
def certify(
    shell: Shell, /, *, wrangler_env: str | None, on: str | None, restore: bool, dry_run: bool, **typed: Any
) -> int:
    """Run the old code, migrate, run the new code, and return to the old code, on a local twin without a network.

    The twin's Workers reach its own parts alone, with secrets that are made up. Nothing is changed anywhere else.
    Releases behind Caddy do, too, where this host lets a user deny a process the network; else the result says so.
    With --on ENV it takes place there, on an empty database; what was live, and the database, are put back.
    The result is what was seen. It is kept in the journal for 24 hours. Exit codes: 0 the old code runs again,
    1 it does not, and the failing statement is quoted, 5 staging could not be put back, 7 too little was seen.
    """
    from backout.wiring.certify.inputs import TrialOptions, find_place, read_inputs

    config = shell.config()
    place = None if on is None else find_place(config, on, restores=restore)
    if restore:
        return _restore(shell, place)
    if typed["new"] is None:
        raise UsageError("the new code is missing", where="--new", hint="backout certify --new DIR")
    if wrangler_env is not None and not config.environment.platform.is_cloudflare:
        raise UsageError("wrangler deploys no code here", where="--wrangler-env", hint="leave it out")
    inputs = read_inputs(config, shell.folder, TrialOptions(**typed), place)
    if dry_run:
        return _show_staging_plan(shell, config, place, inputs) if place else _show_plan(shell, config, inputs)
    if place is not None:
        from backout.cli.support.confirm import ask

        ask(shell, f"Put old and new code and an empty database in place of what is in {place.name}?", flag="--yes")
    certificate = _try(shell, config, place, inputs, wrangler_env)
    return _show(shell, config, certificate)


def _restore(shell: Shell, place: Config | None) -> int:
    from backout.wiring.certify.staging import put_back

    if place is None:
        raise UsageError("which environment is missing", where="--restore", hint="backout certify --restore --on ENV")
    done = put_back(place)
    text = "\n".join(done) or f"no trial left anything in {place.name}"
    shell.output.result("certify", {"environment": place.name, "dry_run": False, "restored": list(done)}, text)
    return 0


def _show_staging_plan(shell: Shell, config: Config, place: Config, inputs: TrialInputs) -> int:
    names = [file.name for file in inputs.pending]
    before = f"with the schema up to {inputs.head or 'nothing'} ({len(inputs.before)} migrations) and generated rows"
    lines = [
        f"1. Check that {place.name} is not protected, has a database server of its own, and caches no reads.",
        f"2. Make an empty database on that server, {before}.",
        f"3. Upload there {_name(inputs.old)} and {_name(inputs.new)}, without traffic; check what they are bound to.",
        "4. Set its database aside: renamed, closed, never written to. The empty one gets its name.",
        f"5. Old code: {_count(inputs)}, twice.",
        f"6. Migrate: {', '.join(names) or 'nothing'}.",
        "7. New code: the same requests. 8. Old code again: the same requests.",
        "9. Compare; put back the database, and the version that was live.",
    ]
    return _show_lines(shell, config, place.name, inputs, lines)


def _show_plan(shell: Shell, config: Config, inputs: TrialInputs) -> int:
    rows = "rows copied from the database" if config.environment.certify.data == "clone" else "generated rows"
    names = [file.name for file in inputs.pending]
    caddy = "a local twin of a host; its releases get no network where this host can deny it"
    twin = caddy if config.environment.platform.caddy else "a local twin without a network"
    lines = [
        f"1. Start {twin}.",
        f"2. Build the schema up to {inputs.head or 'nothing'} ({len(inputs.before)} migrations), with {rows}.",
        f"3. Deploy there {_name(inputs.old)} and {_name(inputs.new)}.",
        f"4. Old code: {_count(inputs)}, twice.",
        f"5. Migrate: {', '.join(names) or 'nothing'}.",
        "6. New code: the same requests. 7. Old code again: the same requests.",
        "8. Compare answers, statements and rows; stop the twin.",
    ]
    return _show_lines(shell, config, "twin", inputs, lines)


def _name(source: Source) -> str:
    return source.name if source.folder is None else f"the code in {source.name}/"


def _count(inputs: TrialInputs) -> str:
    number = len(inputs.requests)
    writes = any(each.method not in {"GET", "HEAD", "OPTIONS"} for each in inputs.requests)
    return f"{number} request{'s' * (number != 1)}" + ("" if writes else " (none that writes: too little for a yes)")


def _show_lines(shell: Shell, config: Config, place: str, inputs: TrialInputs, lines: list[str]) -> int:
    from backout.report.text import wrap_text

    record = {
        "environment": config.name,
        "dry_run": True,
        "place": place,
        "from": inputs.old.name,
        "to": inputs.new.name,
        "head": inputs.head or None,
        "migrations": [file.name for file in inputs.pending],
        "requests": len(inputs.requests),
    }
    width = shell.output.style.width
    wrapped = [part for line in lines for part in wrap_text(line, width, hanging="   ")]
    shell.output.result("certify", record, "\n".join(wrapped))
    shell.output.say("\nnothing was started (dry run)")
    return 0


def _try(
    shell: Shell, config: Config, place: Config | None, inputs: TrialInputs, wrangler_environment: str | None
) -> Certificate:
    from backout.analysis.certify.judging import KnownCode
    from backout.analysis.certify.statements import find_in_code, select_known
    from backout.analysis.compatibility import judge
    from backout.runbook.certify.certificates import make_certificate
    from backout.runbook.certify.trial import run_round_trip
    from backout.wiring.certify.inputs import deploy, make_copy, open_stage

    began = time.monotonic()

    def say(text: str) -> None:
        style = shell.output.talk
        shell.output.say(f"{style.dim(f'{time.monotonic() - began:5.1f} s')}  {text}")

    twin = "a twin of a host" if config.environment.platform.caddy else "a twin without a network"
    say(f"start {twin}" if place is None else f"check {place.name}")
    with open_stage(config, place, inputs) as stage:
        say(f"schema up to {inputs.head or 'nothing'}, and rows")
        stage.prepare(inputs.before, inputs.seed, make_copy(config))
        say(f"deploy the old code: {inputs.old.name}")
        old = deploy(stage, config, inputs.old, wrangler_environment)
        say(f"deploy the new code: {inputs.new.name}")
        new = deploy(stage, config, inputs.new, wrangler_environment)
        tables = {name.rpartition(".")[2].strip('"') for name in stage.database.read_rows()}
        seen = run_round_trip(
            stage.open_application(old, new), stage.database, inputs.requests, inputs.pending, say=say
        )
    known = KnownCode(select_known((*inputs.known, *find_in_code(old.text)), tables))
    verdicts = judge((*inputs.before, *inputs.pending))[len(inputs.before) :]
    on = "" if place is None else place.name
    codes = ((inputs.old.version or old.hash, old.hash), (inputs.new.version or new.hash, new.hash))
    return make_certificate(codes, inputs.head, inputs.pending, seen, known, verdicts, at=time.time(), place=on)


def _show(shell: Shell, config: Config, certificate: Certificate) -> int:
    from backout.report.database.certificate import format_text, make_record
    from backout.runbook.certify.certificates import record_certificate
    from backout.wiring.records import find_actor, open_journal

    record_certificate(open_journal(config), config.name, certificate, actor=find_actor())
    record = {"environment": config.name, "dry_run": False, **make_record(certificate)}
    shell.output.result("certify", record, format_text(certificate, width=shell.output.style.width))
    environment = shlex.quote(config.name)
    if certificate.reversible is None:
        more = f"backout certify --new DIR --requests FILE -e {environment}  # requests that write: docs/certify.md"
        shell.output.next(more)
        return 7
    shell.output.next(f"backout preflight -e {environment}  # it heeds this")
    return 0 if certificate.reversible else 1
