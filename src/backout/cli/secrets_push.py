"""`backout secrets push` and `put`: plan first, confirm, one call, read back, ask the health endpoint."""

from __future__ import annotations

import getpass
import shlex
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from click import argument, option

from backout.cli.options import REASON, command, pass_shell
from backout.errors import UsageError
from backout.model.incident import RunState
from backout.model.plan import Plan, PlanKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.cli.bench import Bench
    from backout.cli.shell import Shell
    from backout.config import Config
    from backout.model.incident import Run
    from backout.model.plan import Json
    from backout.ports import SecretSource
    from backout.runbook.secrets import PushAsk

    Spec = dict[str, Json]

MAX_STDIN_BYTES = 1024 * 1024
COMMAND_S = 60.0
STDIN, TYPED = "stdin", "the prompt"


@dataclass(frozen=True, slots=True)
class _Given:
    """Where the values come from: as a plan names it, what a shell's line says instead, and stdin's own source."""

    spec: Spec
    file: str = "secrets.json"
    source: SecretSource | None = None


def _changing(wrapped: Callable[..., int]) -> Callable[..., int]:
    """Add the options of what changes something."""
    for each in reversed(
        (
            option(
                "-m",
                "--message",
                type=REASON,
                metavar="WHY",
                help="Why; goes into the journal and the deployment's message.",
            ),
            option("-n", "--dry-run", is_flag=True, help="Print the plan and change nothing; the source is read."),
            option(
                "--no-wait", is_flag=True, help="End after reading the names back; the health endpoint is not asked."
            ),
            option("--report", is_flag=True, help="Write an incident report."),
            option("--confirm", "typed", metavar="ENV", help="Confirm a protected environment by its name."),
        )
    ):
        wrapped = each(wrapped)
    return wrapped


@command(
    "push",
    short_help="Set values from a file, variables, a keyring, a command.",
    epilog="""
Examples:
  backout secrets push -e staging                              from secrets.source of backout.toml
  backout secrets push JWT_SECRET -e production -m "rotated" --from-file .env.production
  sops -d secrets.enc.json | backout secrets push -e staging --from-file - --yes
  backout secrets push -e staging --from-command "op read op://staging/fm5/{name}"
""",
)
@argument("names", nargs=-1)
@option("--from-file", metavar="FILE", help="NAME=value lines or a JSON object; - is stdin.")
@option("--from-env", is_flag=True, help="This process's variables.")
@option("--prefix", metavar="TEXT", help="With --from-env: NAME is kept in TEXT + NAME.")
@option("--from-keyring", metavar="SERVICE", help="The system's keyring (backout[keyring]).")
@option("--from-command", metavar="WORDS", help="A command, run without a shell; {name}: once for each name.")
@_changing
@pass_shell
def push(
    shell: Shell,
    *,
    names: tuple[str, ...],
    from_file: str | None,
    from_env: bool,
    prefix: str | None,
    from_keyring: str | None,
    from_command: str | None,
    message: str | None,
    dry_run: bool,
    no_wait: bool,
    report: bool,
    typed: str | None,
) -> int:
    """Set secrets of what is live, in one call.

    NAMES: exactly these. Without names: all that a file holds; from the others, those that are expected. Nobody sees a
    value: they are not printed, journalled or put on a command line.
    """
    from backout.runbook.secrets import PushAsk  # noqa: PLC0415 - only what acts pays for it

    if prefix is not None and not from_env:
        raise UsageError("--prefix belongs to --from-env", hint="add --from-env")
    variables = (prefix or "") if from_env else None
    options = {"file": from_file, "env": variables, "keyring": from_keyring, "command": from_command}
    config = shell.config()
    given = _given(shell, config, {kind: value for kind, value in options.items() if value is not None})
    ask = PushAsk(
        names=names,
        source=given.spec,
        message=shell.masked(message or ""),
        file=given.file,
        wait=not no_wait,
        report=report,
    )
    return _run(shell, config, given, ask, _Answers(message, typed, dry_run=dry_run))


@command(
    "put",
    short_help="Set one, typed or from stdin.",
    epilog="""
Examples:
  backout secrets put JWT_SECRET -e staging                    asks for the value; what is typed is not shown
  openssl rand -base64 48 | backout secrets put JWT_SECRET -e staging --yes
""",
)
@argument("name")
@_changing
@pass_shell
def put(
    shell: Shell,
    *,
    name: str,
    message: str | None,
    dry_run: bool,
    no_wait: bool,
    report: bool,
    typed: str | None,
) -> int:
    """Set one secret of what is live to what is typed, or to what comes through stdin (without the line end)."""
    from backout.providers.sources.sources import from_values  # noqa: PLC0415 - only what acts pays for it
    from backout.runbook.secrets import PushAsk  # noqa: PLC0415 same

    config = shell.config()
    what, value = _typed(shell, name)
    shell.redactor.register(value)
    source = from_values({name: value}, what, shell.redactor.register)
    given = _Given({"from": "given", "what": what}, source=source)
    ask = PushAsk(
        names=(name,),
        source=given.spec,
        message=shell.masked(message or ""),
        wait=not no_wait,
        report=report,
    )
    return _run(shell, config, given, ask, _Answers(message, typed, dry_run=dry_run))


@dataclass(frozen=True, slots=True)
class _Answers:
    """What was said beforehand to the questions that are asked."""

    message: str | None
    typed: str | None
    dry_run: bool


def _run(shell: Shell, config: Config, given: _Given, ask: PushAsk, answers: _Answers) -> int:
    from backout.cli.bench import busy, open_bench  # noqa: PLC0415 - only commands that act pay for it
    from backout.cli.confirm import confirm  # noqa: PLC0415 same
    from backout.cli.rollback import refusal  # noqa: PLC0415 same
    from backout.runbook.secrets import prepare_push  # noqa: PLC0415 same

    bench = _with_source(open_bench(shell, config, "secrets-push"), given)
    unfinished = None if answers.dry_run else bench.in_the_way()
    if unfinished is not None:
        if not _is_this(unfinished, ask):
            raise busy(unfinished)
        shell.output.say(f"picking up run {unfinished.id}, which was interrupted; its plan stands")
        return finish(bench, bench.drive(unfinished.id))
    plan = prepare_push(bench.tools, ask)
    if not isinstance(plan, Plan):
        raise refusal(plan, bench.tools.environment)
    if answers.dry_run:
        return _show(shell, plan)
    shell.output.say(_text(shell, plan, talk=True))
    shell.output.say("")
    what = f"set {', '.join(_names(plan))}"
    reason = confirm(shell, config, what, message=answers.message, typed=answers.typed)
    if not answers.message and config.protected:  # elsewhere nobody was asked why: what runs is what --dry-run shows
        from backout.plan.secrets import worded  # noqa: PLC0415

        plan = worded(plan, reason)
    return finish(bench, bench.drive(bench.take_over(plan, reason)))


def _is_this(run: Run, ask: PushAsk) -> bool:
    """Whether an interrupted run is what is asked for again: from the same source, and these names where some are."""
    if run.plan.kind is not PlanKind.SECRETS or run.state is not RunState.INTERRUPTED:
        return False
    args = run.plan.step("push_secrets").args
    return args["source"] == dict(ask.source) and (not ask.names or sorted(ask.names) == sorted(_names(run.plan)))


def _names(plan: Plan) -> list[str]:
    secrets = plan.step("push_secrets").args["secrets"]
    return list(secrets) if isinstance(secrets, dict) else []


def _given(shell: Shell, config: Config, options: dict[str, str]) -> _Given:
    """Return the source that the options name, else the configured one, else what comes through stdin."""
    if len(options) > 1:
        flags = " and ".join(f"--from-{kind}" for kind in options)
        raise UsageError(f"{flags} contradict each other", hint="choose one of them")
    if not options:
        return _configured(shell, config)
    ((kind, value),) = options.items()
    if kind == "file" and value == "-":
        return _from_stdin(shell)
    if kind == "file":
        return _Given({"from": "file", "path": str(shell.folder / value)}, shlex.quote(value))
    if kind == "env":
        return _Given({"from": "env", "prefix": value})
    if kind == "keyring":
        return _Given({"from": "keyring", "service": value})
    return _Given({"from": "command", "command": [*_words(value)], "timeout": COMMAND_S})


def _configured(shell: Shell, config: Config) -> _Given:
    from backout.wiring.secrets import configured  # noqa: PLC0415 - only what acts pays for it

    spec = configured(config)
    if spec is not None:
        return _Given(dict(spec), str(spec.get("path") or "secrets.json"))
    config.refuse_withheld("secrets.source.command")
    if not shell.stdin.isatty():
        return _from_stdin(shell)
    raise UsageError(
        "from where? No secrets.source is configured",
        where=str(config.path),
        hint="add --from-file FILE, --from-env, --from-keyring SERVICE or --from-command WORDS",
    )


def _words(value: str) -> list[str]:
    try:
        words = shlex.split(value)
    except ValueError as error:
        raise UsageError(f"--from-command: {error}", hint="quote its words as for a shell") from None
    if not words:
        raise UsageError("--from-command is empty", hint='--from-command "op read op://vault/item/{name}"')
    return words


def _from_stdin(shell: Shell) -> _Given:
    from backout.providers.sources.sources import from_text  # noqa: PLC0415 - only what acts pays for it

    data = _read_stdin(shell)
    if not data.strip():
        raise UsageError("stdin is empty", hint="NAME=value lines, or a JSON object")
    return _Given({"from": "given", "what": STDIN}, source=from_text(data, STDIN, shell.redactor.register))


def _read_stdin(shell: Shell) -> bytes:
    raw = getattr(shell.stdin, "buffer", None)
    if raw is not None:
        return bytes(raw.read(MAX_STDIN_BYTES + 1))
    return shell.stdin.read(MAX_STDIN_BYTES + 1).encode("utf-8", "surrogateescape")


def _typed(shell: Shell, name: str) -> tuple[str, str]:
    """Return where a value came from, and the value: from stdin unless a person sits there."""
    if not shell.stdin.isatty():
        try:
            value = _read_stdin(shell).decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise UsageError("what came through stdin is not UTF-8") from None
        if not value:
            raise UsageError(
                f"stdin is empty: {name} needs a value", hint=f"printf %s VALUE | backout secrets put {name}"
            )
        return STDIN, value
    if shell.flags.no_input:
        raise UsageError(f"{name} needs a value", hint="give it through stdin")
    return TYPED, getpass.getpass(f"Value of {name} (not shown): ", stream=sys.stderr)


def _with_source(bench: Bench, given: _Given) -> Bench:
    """Return the bench whose tools take the values that were handed over, where they were."""
    source, pushing = given.source, bench.tools.pushing
    if source is None or pushing is None:
        return bench
    tools = replace(bench.tools, pushing=lambda: replace(pushing(), opened=lambda _named: source))
    return replace(bench, tools=tools)


def _text(shell: Shell, plan: Plan, *, talk: bool) -> str:
    from backout.cli.paint import paint_for  # noqa: PLC0415
    from backout.report.plans import plan_text  # noqa: PLC0415

    style = shell.output.talk if talk else shell.output.style
    return plan_text(plan, width=style.width, paint=paint_for(style))


def _show(shell: Shell, plan: Plan) -> int:
    from backout.cli import outcome  # noqa: PLC0415

    return outcome.dry_run(shell, "secrets-push", plan, {"secrets": _names(plan)}, _text(shell, plan, talk=False))


def finish(bench: Bench, run: Run) -> int:
    """Say which names the live version has, as read back, and how the service is."""
    from backout.cli import outcome  # noqa: PLC0415

    record, text = end_of(bench, run)
    bench.shell.output.result("secrets-push", record, text)
    bench.shell.output.next(f"backout secrets check -e {run.environment}", f"backout status -e {run.environment}")
    bench.renew_card()  # another version is live
    return outcome.exit_code(bench.tools, run, "verify_health")


def end_of(bench: Bench, run: Run) -> tuple[dict[str, object], str]:
    """Return how a run that sets secrets ended, as a record and in words."""
    from backout.cli import outcome  # noqa: PLC0415
    from backout.report.times import clock  # noqa: PLC0415

    tools = bench.tools
    pushed, live, report = (tools.runs.result(run.id, name) for name in ("push_secrets", "read_secrets", "report"))
    proof = outcome.verification(tools, run.id, "verify_health")
    done = pushed if isinstance(pushed, dict) else {}
    read = live if isinstance(live, dict) else {}
    record: dict[str, object] = {
        "run_id": run.id,
        "state": run.state,
        "environment": run.environment,
        "secrets": _names(run.plan),
        "way": done.get("way"),
        "from_version": done.get("from"),
        "live_version": read.get("version"),
        "deployment_id": read.get("deployment"),
        "verified": proof.verified if proof else None,
        "why": proof.summary if proof else None,
        "report_path": report.get("path") if isinstance(report, dict) else None,
    }
    lines = []
    if proof is not None:
        word = {True: "Verified", False: "NOT verified", None: "Not proven"}[proof.verified]
        lines.append(f"{word}: {proof.summary}")
    if done.get("problem"):
        lines.append(f"NOT set: {', '.join(_names(run.plan))}. Still live: version {done['version']}")
    elif read:
        how = "the live code, uploaded again with these values" if done.get("way") == "apart" else "the same code"
        at = clock(float(str(read["read_at"])))
        lines.append(f"Set: {', '.join(_names(run.plan))}. Now live: version {read['version']}, {how} (read back {at})")
    else:
        lines.append(f"run {run.id} is {run.state}; what is live was not read back")
    if record["report_path"]:
        lines.append(f"Report: {record['report_path']}")
    return record, "\n".join(lines)


def resume(shell: Shell, run: Run) -> int:
    """Go on with an interrupted run; its source is asked for the values again."""
    from backout.cli.bench import open_bench  # noqa: PLC0415 - only commands that act pay for it

    bench = open_bench(shell, shell.config(), "secrets-push")
    return finish(bench, bench.drive(run.id))
