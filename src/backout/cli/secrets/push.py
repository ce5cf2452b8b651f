"""`backout secrets push` and `put`: plan first, confirm, one call, read back, ask the health endpoint."""

from __future__ import annotations

import getpass
import shlex
import sys
from typing import TYPE_CHECKING

from click import argument, option
from msgspec.structs import replace

from backout.cli.support.glass import BREAK_GLASS
from backout.cli.support.options import REASON, command, pass_shell
from backout.errors import UsageError
from backout.model.incident.incident import RunState
from backout.model.plan import Plan, PlanKind
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.cli.support.session import Session
    from backout.cli.support.shell import Shell
    from backout.config import Config
    from backout.model.incident.incident import Run
    from backout.model.plan import Json
    from backout.ports import SecretSource
    from backout.runbook.secrets.secrets import PushAsk

    Spec = dict[str, Json]

MAX_STDIN_BYTES = 1024 * 1024
COMMAND_S = 60.0
STDIN, TYPED = "stdin", "the prompt"


class _Given(Value, frozen=True):
    """Where the values come from: as a plan names it, what a shell's line says instead, and stdin's own source."""

    spec: Spec
    file: str = "secrets.json"
    source: SecretSource | None = None


def _changing(wrapped: Callable[..., int]) -> Callable[..., int]:
    """Add the options of the commands that change something."""
    for each in reversed(
        (
            option(
                "-m",
                "--message",
                type=REASON,
                metavar="WHY",
                help="The reason; goes into the journal and the deployment's message.",
            ),
            BREAK_GLASS,
            option("-n", "--dry-run", is_flag=True, help="Print the plan and change nothing; reads the source."),
            option("--no-wait", is_flag=True, help="End after reading the names back; skip the health endpoint."),
            option("--report", is_flag=True, help="Write an incident report."),
            option("--confirm", "typed", metavar="ENV", help="Confirm a protected environment by its name."),
        )
    ):
        wrapped = each(wrapped)
    return wrapped


@command(
    "push",
    short_help="Set values from a file, variables, a keyring or a command.",
    epilog="""
Examples:
  backout secrets push -e staging                              # from secrets.source of backout.toml
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
@option("--from-command", metavar="WORDS", help="A command, run without a shell; with {name}, once for each name.")
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
    """Set secrets of the live version, in one call.

    NAMES: exactly these. Without names: all that a file holds; from other sources, the expected ones. Values are never
    printed, journalled or put on a command line.
    """
    from backout.runbook.secrets.secrets import PushAsk

    if prefix is not None and not from_env:
        raise UsageError("--prefix belongs to --from-env", hint="add --from-env")
    variables = (prefix or "") if from_env else None
    options = {"file": from_file, "env": variables, "keyring": from_keyring, "command": from_command}
    config = shell.config()
    given = _choose_source(shell, config, {kind: value for kind, value in options.items() if value is not None})
    ask = PushAsk(
        names=names,
        source=given.spec,
        message=shell.mask_reason(message or ""),
        file=given.file,
        wait=not no_wait,
        report=report,
    )
    return _run(shell, config, given, ask, _Answers(message, typed, dry_run=dry_run))


@command(
    "put",
    short_help="Set one secret, typed or from stdin.",
    epilog="""
Examples:
  backout secrets put JWT_SECRET -e staging                    # asks for the value; what is typed is not shown
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
    """Set one secret of the live version to the value that you type, or that stdin holds (without the line end)."""
    from backout.runbook.secrets.secrets import PushAsk
    from backout.wiring.secrets import from_values

    config = shell.config()
    what, value = _read_value(shell, name)
    shell.redactor.register(value)
    source = from_values({name: value}, what, shell.redactor.register)
    given = _Given({"from": "given", "what": what}, source=source)
    ask = PushAsk(
        names=(name,),
        source=given.spec,
        message=shell.mask_reason(message or ""),
        wait=not no_wait,
        report=report,
    )
    return _run(shell, config, given, ask, _Answers(message, typed, dry_run=dry_run))


class _Answers(Value, frozen=True):
    """Answers given beforehand to the questions."""

    message: str | None
    typed: str | None
    dry_run: bool


def _run(shell: Shell, config: Config, given: _Given, ask: PushAsk, answers: _Answers) -> int:
    from backout.cli.rollback import make_refusal
    from backout.cli.support.confirm import confirm
    from backout.cli.support.session import make_busy_error, open_session
    from backout.runbook.secrets.secrets import prepare_push

    session = _add_source(open_session(shell, config, "secrets-push"), given)
    unfinished = None if answers.dry_run else session.in_the_way()
    if unfinished is not None:
        if not _is_this(unfinished, ask):
            raise make_busy_error(unfinished)
        shell.output.say(f"picking up run {unfinished.id}, which was interrupted; its plan stands")
        return finish(session, session.drive(unfinished.id))
    plan = prepare_push(session.tools, ask)
    if not isinstance(plan, Plan):
        raise make_refusal(plan, session.tools.environment)
    if answers.dry_run:
        return _show(shell, plan)
    shell.output.say(_format_text(shell, plan, talk=True))
    shell.output.say("")
    what = f"set {', '.join(_list_names(plan))}"
    reason = confirm(shell, config, what, message=answers.message, typed=answers.typed)
    if not answers.message and config.protected:  # elsewhere no reason is asked for: what runs is what --dry-run shows
        from backout.plan.secrets import set_reason

        plan = set_reason(plan, reason)
    return finish(session, session.drive(session.take_over(plan, reason)))


def _is_this(run: Run, ask: PushAsk) -> bool:
    """Whether an interrupted run is the one asked for again: from the same source, and with these names if given."""
    from backout.model.steps.secrets import PushSecretsStep

    if run.plan.kind is not PlanKind.SECRETS or run.state is not RunState.INTERRUPTED:
        return False
    planned = run.plan.arguments(PushSecretsStep)
    return planned.source == dict(ask.source) and (not ask.names or sorted(ask.names) == sorted(planned.secrets))


def _list_names(plan: Plan) -> list[str]:
    from backout.model.steps.secrets import PushSecretsStep

    return list(plan.arguments(PushSecretsStep).secrets)


def _choose_source(shell: Shell, config: Config, options: dict[str, str]) -> _Given:
    """Return the source that the options name, else the configured one, else stdin."""
    if len(options) > 1:
        flags = " and ".join(f"--from-{kind}" for kind in options)
        raise UsageError(f"{flags} contradict each other", hint="choose one of them")
    if not options:
        return _use_configured(shell, config)
    ((kind, value),) = options.items()
    if kind == "file" and value == "-":
        return _take_stdin(shell)
    if kind == "file":
        return _Given({"from": "file", "path": str(shell.folder / value)}, shlex.quote(value))
    if kind == "env":
        return _Given({"from": "env", "prefix": value})
    if kind == "keyring":
        return _Given({"from": "keyring", "service": value})
    return _Given({"from": "command", "command": [*_split_words(value)], "timeout": COMMAND_S})


def _use_configured(shell: Shell, config: Config) -> _Given:
    from backout.wiring.secrets import describe_source

    spec = describe_source(config)
    if spec is not None:
        return _Given(dict(spec), str(spec.get("path") or "secrets.json"))
    config.refuse_withheld("secrets.source.command")
    if not shell.stdin.isatty():
        return _take_stdin(shell)
    raise UsageError(
        "from where? No secrets.source is configured",
        where=str(config.path),
        hint="add --from-file FILE, --from-env, --from-keyring SERVICE or --from-command WORDS",
    )


def _split_words(value: str) -> list[str]:
    try:
        words = shlex.split(value)
    except ValueError as error:
        raise UsageError(f"--from-command: {error}", hint="quote its words as for a shell") from None
    if not words:
        raise UsageError("--from-command is empty", hint='--from-command "op read op://vault/item/{name}"')
    return words


def _take_stdin(shell: Shell) -> _Given:
    from backout.wiring.secrets import from_text

    data = _read_stdin(shell)
    if not data.strip():
        raise UsageError("stdin is empty", hint="NAME=value lines, or a JSON object")
    return _Given({"from": "given", "what": STDIN}, source=from_text(data, STDIN, shell.redactor.register))


def _read_stdin(shell: Shell) -> bytes:
    raw = getattr(shell.stdin, "buffer", None)
    if raw is not None:
        return bytes(raw.read(MAX_STDIN_BYTES + 1))
    return shell.stdin.read(MAX_STDIN_BYTES + 1).encode("utf-8", "surrogateescape")


def _read_value(shell: Shell, name: str) -> tuple[str, str]:
    """Return where a value came from, and the value: from stdin unless it is a terminal."""
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


def _add_source(session: Session, given: _Given) -> Session:
    """Return the session, with tools that use the values given on stdin, if any were."""
    source, pushing = given.source, session.tools.pushing
    if source is None or pushing is None:
        return session
    tools = replace(session.tools, pushing=lambda: replace(pushing(), opened=lambda _named: source))
    return replace(session, tools=tools)


def _format_text(shell: Shell, plan: Plan, *, talk: bool) -> str:
    from backout.cli.support.paint import paint_for
    from backout.report.plans import format_plan

    style = shell.output.talk if talk else shell.output.style
    return format_plan(plan, width=style.width, paint=paint_for(style))


def _show(shell: Shell, plan: Plan) -> int:
    from backout.cli.support import outcome

    return outcome.show_dry_run(
        shell, "secrets-push", plan, {"secrets": _list_names(plan)}, _format_text(shell, plan, talk=False)
    )


def finish(session: Session, run: Run) -> int:
    """Say which names the live version has, as read back, and how the service is."""
    from backout.cli.support import outcome

    record, text = describe_end(session, run)
    session.shell.output.result("secrets-push", record, text)
    session.shell.output.next(f"backout secrets check -e {run.environment}", f"backout status -e {run.environment}")
    session.renew_card()  # another version is live
    return outcome.find_exit_code(session.tools, run, "verify_health")


def describe_end(session: Session, run: Run) -> tuple[dict[str, object], str]:
    """Return how a run that sets secrets ended, as a record and in words."""
    from backout.model.steps.rollback import ReportStep
    from backout.model.steps.secrets import PushSecretsStep, ReadSecretsStep
    from backout.model.steps.verification import VerifyHealthStep
    from backout.ports import find_result
    from backout.report.times import format_clock
    from backout.report.verified import describe_verified

    tools = session.tools
    done, read = find_result(tools.runs, run.id, PushSecretsStep), find_result(tools.runs, run.id, ReadSecretsStep)
    report, proof = find_result(tools.runs, run.id, ReportStep), find_result(tools.runs, run.id, VerifyHealthStep)
    record: dict[str, object] = {
        "run_id": run.id,
        "state": run.state,
        "environment": run.environment,
        "secrets": _list_names(run.plan),
        "way": done.way if done is not None else None,
        "from_version": done.source_version if done is not None else None,
        "live_version": read.version if read is not None else None,
        "deployment_id": read.deployment if read is not None else None,
        "verified": proof.verified if proof else None,
        "why": proof.summary if proof else None,
        "report_path": report.path if report is not None else None,
    }
    lines = []
    if proof is not None:
        lines.append(f"{describe_verified(proof.verified)}: {proof.summary}")
    names = ", ".join(_list_names(run.plan))
    if done is not None and done.problem:
        lines.append(f"NOT set: {names}. Still live: version {done.version}")
    elif read is not None:
        is_apart = done is not None and done.way == "apart"
        how = "the live code, uploaded again with these values" if is_apart else "the same code"
        lines.append(f"Set: {names}. Now live: version {read.version}, {how} (read back {format_clock(read.read_at)})")
    else:
        lines.append(f"run {run.id} is {run.state}; what is live was not read back")
    if record["report_path"]:
        lines.append(f"Report: {record['report_path']}")
    return record, "\n".join(lines)


def resume(shell: Shell, run: Run) -> int:
    """Continue an interrupted run; the values are read from its source again."""
    from backout.cli.support.session import open_session

    session = open_session(shell, shell.config(), "secrets-push")
    return finish(session, session.drive(run.id))
