"""`backout certify`: old code, migrations, new code, old code again, before it counts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from backout.cli.support.options import command, pass_shell

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.config import Config
    from backout.model.database.certificate import Certificate
    from backout.wiring.certify_inputs import TrialInputs

_FILE = click.Path(path_type=Path)


@command(
    "certify",
    short_help="Try the way back before it counts.",
    epilog="""
Examples:
  backout certify --new . -e production                    # from the live version to this folder
  backout certify --old ../before --new . --after 0007_note --requests certify.jsonl
  backout certify --new . -e production --dry-run          # what would be tried
""",
)
@click.option(
    "--new", required=True, metavar="DIR|VERSION", help="The new code: a folder for wrangler, or a version id."
)
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
@click.option("-n", "--dry-run", is_flag=True, help="Print what would be tried, and start nothing.")
@pass_shell
def certify(shell: Shell, /, *, wrangler_env: str | None, dry_run: bool, **typed: Any) -> int:
    """Run the old code, migrate, run the new code, and return to the old code, on a local twin without a network.

    The twin's Workers reach its own parts alone, with secrets that are made up. Nothing is changed anywhere else.
    The result is what was seen. It is kept in the journal for 24 hours. Exit codes: 0 the old code runs again,
    1 it does not, and the failing statement is quoted, 7 too little was seen.
    """
    from backout.wiring.certify_inputs import TrialOptions, read_inputs

    config = shell.config()
    inputs = read_inputs(config, shell.folder, TrialOptions(**typed))
    if dry_run:
        return _show_plan(shell, config, inputs)
    certificate = _try(shell, config, inputs, wrangler_env)
    return _show(shell, config, certificate)


def _show_plan(shell: Shell, config: Config, inputs: TrialInputs) -> int:
    rows = "rows copied from the database" if config.environment.certify.data == "clone" else "generated rows"
    names = [file.name for file in inputs.pending]
    lines = [
        "1. Start a local twin without a network.",
        f"2. Build the schema up to {inputs.head or 'nothing'} ({len(inputs.before)} migrations), with {rows}.",
        f"3. Deploy there {inputs.old.name} and {inputs.new.name}.",
        f"4. Old code: {len(inputs.requests)} requests, twice.",
        f"5. Migrate: {', '.join(names) or 'nothing'}.",
        "6. New code: the same requests. 7. Old code again: the same requests.",
        "8. Compare answers, statements and rows; stop the twin.",
    ]
    record = {
        "environment": config.name,
        "dry_run": True,
        "from": inputs.old.name,
        "to": inputs.new.name,
        "head": inputs.head or None,
        "migrations": names,
        "requests": len(inputs.requests),
    }
    shell.output.result("certify", record, "\n".join(lines))
    shell.output.say("\nnothing was started (dry run)")
    return 0


def _try(shell: Shell, config: Config, inputs: TrialInputs, wrangler_environment: str | None) -> Certificate:
    from backout.analysis.certify.judging import KnownCode
    from backout.analysis.certify.statements import find_in_code, select_known
    from backout.analysis.compatibility import judge
    from backout.runbook.certify.certificates import make_certificate
    from backout.runbook.certify.trial import run_round_trip
    from backout.wiring.certify import CertifyStage
    from backout.wiring.certify_inputs import deploy, make_copy

    began = time.monotonic()

    def say(text: str) -> None:
        style = shell.output.talk
        shell.output.say(f"{style.dim(f'{time.monotonic() - began:5.1f} s')}  {text}")

    say("start a twin without a network")
    with CertifyStage() as stage:
        say(f"schema up to {inputs.head or 'nothing'}, and rows")
        stage.database.prepare(inputs.before, inputs.seed, copy=make_copy(config))
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
    codes = ((inputs.old.version or old.hash, old.hash), (inputs.new.version or new.hash, new.hash))
    return make_certificate(codes, inputs.head, inputs.pending, seen, known, verdicts, at=time.time())


def _show(shell: Shell, config: Config, certificate: Certificate) -> int:
    from backout.report.database.certificate import format_text, make_record
    from backout.runbook.certify.certificates import record_certificate
    from backout.wiring.records import find_actor, open_journal

    record_certificate(open_journal(config), config.name, certificate, actor=find_actor())
    record = {"environment": config.name, "dry_run": False, **make_record(certificate)}
    shell.output.result("certify", record, format_text(certificate, width=shell.output.style.width))
    if certificate.reversible is None:
        return 7
    return 0 if certificate.reversible else 1
