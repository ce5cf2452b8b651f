"""`backout twin`: start, stop and inspect the local cloud, and break it on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.support.options import Amount, group, pass_shell
from backout.cli.support.style import Tone
from backout.cli.twin_env import DEFAULT_DIRECTORY, HOSTS, choose_folder, config, directory_option, env, make_relative
from backout.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from backout.cli.support.output import Output
    from backout.cli.support.shell import Shell
    from backout.twin.lifecycle import TwinStatus
    from backout.twin.remote import FaultRecord

KINDS = (
    "service-down",
    "storage-denied",
    "latency",
    "errors",
    "worker-crash",
    "api-down",
    "api-slow",
    "api-429",
    "api-limit",
    "telemetry-lag",
    "api-token-refused",
)


@group(
    "twin",
    epilog="""
Examples:
  backout twin up
  backout twin up --home hosts       # Caddy in front of releases of yours, in place of Cloudflare
  backout twin fault set service-down database --for 30s
""",
)
def twin() -> None:
    """A local cloud: a Cloudflare API and workerd, or a host with Caddy; Postgres and S3; all on loopback."""


@twin.command("up", short_help="Start the twin in the background.")
@directory_option
@click.option(
    "--home",
    type=click.Choice(("cloudflare", "hosts")),
    help="What it stands in for; a folder stays what it is. Default: what it was, at first cloudflare.",
)
@click.option("--port", type=click.IntRange(1, 65535), metavar="PORT", help="Default: the last one, or any free one.")
@pass_shell
def up(shell: Shell, directory: Path, home: str | None, port: int | None) -> int:
    """Start the twin in the background; a running one is left alone."""
    from backout.twin import lifecycle
    from backout.twin.dataplane import workerd

    place = choose_folder(shell, directory)
    kind = home or lifecycle.read_status(place).home
    if kind == HOSTS and port is not None:
        raise UsageError(
            "the ports of a host are drawn at its first start, and kept",
            where="--port",
            hint="backout twin up --home hosts",
        )
    if kind != HOSTS:
        workerd.ensure(place, shell.output.say)
    shell.output.say(shell.output.talk.dim(f"starting the twin in {directory} ..."))
    status = lifecycle.start_twin(place, port, kind=kind)
    _show(shell.output, status)
    where = _format_directory(directory)
    if status.home == HOSTS:
        variables = make_relative(shell, status.env_file)
        shell.output.next(
            f"backout twin config{where} >> backout.toml",
            f"backout release push DIR -e twin --env-file {variables}",
            f"backout twin down{where}",
        )
    elif status.api_base_url and status.api_token_file:
        shell.output.next(
            f'eval "$(backout twin env{_format_directory(directory)})"  # then: npx wrangler deploy',
            f"backout twin config WORKER{_format_directory(directory)} >> backout.toml",
            f"backout twin down{_format_directory(directory)}",
        )
    return 0


@twin.command("down", short_help="Stop the twin and all its processes; its state stays.")
@directory_option
@pass_shell
def down(shell: Shell, directory: Path) -> int:
    """Stop the twin and every process it started; its state stays."""
    from backout.twin import lifecycle

    status = lifecycle.stop_twin(choose_folder(shell, directory))
    _show(shell.output, status)
    return 0


@twin.command("status", short_help="Show addresses, Workers, faults; exit 1 when it is down.")
@directory_option
@pass_shell
def status_(shell: Shell, directory: Path) -> int:
    """Show addresses, Workers, faults and the calls that the twin could not answer; exit 1 when it is down."""
    from backout.twin import lifecycle

    status = lifecycle.read_status(choose_folder(shell, directory))
    _show(shell.output, status)
    if not status.running:
        shell.output.next(f"backout twin up{_format_directory(directory)}")
    return 0 if status.running else 1


@twin.command("cron", short_help="Run a schedule of a Worker now.")
@click.argument("worker")
@click.argument("expression", required=False)
@directory_option
@pass_shell
def cron(shell: Shell, worker: str, expression: str | None, directory: Path) -> int:
    """Run a schedule of WORKER now: its only one, or EXPRESSION. Exit 1 when it failed.

    Every schedule also runs by itself at its time.
    """
    from backout.twin import lifecycle, remote

    run = remote.run_schedule(lifecycle.read_status(choose_folder(shell, directory)), worker, expression)
    ended_well = run.outcome == "ok"
    badge = shell.output.style.badge(f"{run.cron}: {run.outcome}", Tone.GOOD if ended_well else Tone.BAD)
    record = {"worker": worker, "cron": run.cron, "version": run.version, "outcome": run.outcome}
    shell.output.result("twin-cron", {**record, "scheduled_at": run.scheduled_at}, f"{badge}  version {run.version}")
    return 0 if ended_well else 1


_KINDS_HELP = """
Kinds:
  service-down database|storage|email    it stops answering
  storage-denied [BUCKET]                storage answers 403
  latency [WORKER|VERSION]               --latency-ms before --share of requests
  errors [WORKER|VERSION]                --status to --share of requests
  worker-crash [WORKER|VERSION]          killed, and killed again
  api-down, api-slow, api-429            the control plane
  api-limit                              1,200 calls in 5 minutes, as at Cloudflare
  telemetry-lag                          the telemetry of Workers Logs is --latency-ms late, else 30 s
  api-token-refused                      as after the token was revoked

A twin of plain hosts has service-down and storage-denied.

Examples:
  backout twin fault set service-down database --for 30s
  backout twin fault set errors fm5-production --share 0.2
"""


@twin.group("fault", short_help="Break the twin on purpose: set, clear, list.")
def fault() -> None:
    """Break the twin on purpose."""


@fault.command("set", epilog=_KINDS_HELP)
@click.argument("kind", type=click.Choice(KINDS), metavar="KIND")
@click.argument("target", required=False)
@click.option("--share", type=Amount(0, 1, min_open=True), metavar="0..1", help="Share of requests hit, default 1.")
@click.option("--latency-ms", type=Amount(0), metavar="MS", help="The delay of latency, api-slow, telemetry-lag.")
@click.option(
    "--status", type=click.IntRange(500, 599), metavar="5XX", help="The status that `errors` answers with, default 503."
)
@click.option("--retry-after", type=Amount(0), metavar="SECONDS", help="The header of api-429.")
@click.option("--for", "lasting", metavar="DURATION", help="Clear the fault after this time, such as 30s.")
@directory_option
@pass_shell
def set_(
    shell: Shell,
    kind: str,
    target: str | None,
    share: float | None,
    latency_ms: float | None,
    status: int | None,
    retry_after: float | None,
    lasting: str | None,
    directory: Path,
) -> None:
    """Set a fault; TARGET is a service, a bucket, a Worker or a version, for the kinds that take one."""
    from backout.config.scalars import parse_seconds
    from backout.twin import lifecycle, remote

    order: dict[str, str | int | float | None] = {
        "kind": kind,
        "target": target,
        "share": share,
        "latency_ms": latency_ms,
        "status": status,
        "retry_after_s": retry_after,
        "duration_s": parse_seconds(lasting, "--for") if lasting else None,
    }
    made = remote.set_fault(lifecycle.read_status(choose_folder(shell, directory)), order)
    shell.output.result("twin-fault", {"fault": made}, shell.output.style.badge(_describe_fault(made), Tone.WARN))
    shell.output.next(f"backout twin fault clear {kind}{_format_directory(directory)}")


@fault.command("clear")
@click.argument("kind", type=click.Choice(KINDS), metavar="[KIND]", required=False)
@click.argument("target", required=False)
@directory_option
@pass_shell
def clear(shell: Shell, kind: str | None, target: str | None, directory: Path) -> None:
    """Clear faults: all, all of a kind, or one kind on one target."""
    from backout.twin import lifecycle, remote

    cleared = remote.clear_faults(lifecycle.read_status(choose_folder(shell, directory)), kind, target)
    _show_faults(shell.output, cleared, "cleared", "there was nothing to clear")


@fault.command("list")
@directory_option
@pass_shell
def list_(shell: Shell, directory: Path) -> None:
    """List the active faults."""
    from backout.twin import lifecycle, remote

    _show_faults(
        shell.output,
        remote.list_faults(lifecycle.read_status(choose_folder(shell, directory))),
        "active",
        "no fault is active",
    )


def _format_directory(directory: Path) -> str:
    return "" if directory == DEFAULT_DIRECTORY else f" --dir {directory}"


def _show(out: Output, status: TwinStatus) -> None:
    if status.postgres_dsn:
        out.redactor.allow(status.postgres_dsn)  # the one password that may be shown: it opens nothing but this twin
    payload = {key: value for key, value in status.as_json().items() if key != "schema"}
    out.result("twin", payload, _format_text(out, status))


def _format_text(out: Output, status: TwinStatus) -> str:
    if not status.running:
        return out.style.badge("twin is down", Tone.DIM) + f"  {status.directory}"
    first = [
        ("API", status.api_base_url),
        ("account", status.account_id),
        ("token file", status.api_token_file),
        ("ingress", status.ingress_url),
    ]
    if status.home == HOSTS:
        first = [
            ("Caddy", status.ingress_url),
            ("releases", status.releases),
            ("access log", status.access_log),
            ("variables", status.env_file),
        ]
    rows = [
        *first,
        ("Postgres", status.postgres_dsn),
        ("S3", status.s3_endpoint),
        ("S3 keys", status.s3_credentials_file),
        ("buckets", ", ".join(status.buckets) or None),
        ("outbox", status.outbox),
    ]
    what = "twin of a host is up" if status.home == HOSTS else "twin is up"
    lines = [out.style.badge(what, Tone.GOOD) + f"  {status.directory}"]
    lines += [f"  {out.style.dim(label.ljust(10))}  {value}" for label, value in rows if value]
    lines += [f"  {out.style.dim('worker'.ljust(10))}  {name}  (Host: {host})" for name, host in status.workers.items()]
    releases = [name.removeprefix("release-") for name in status.pids if name.startswith("release-")]
    lines += [f"  {out.style.dim('release'.ljust(10))}  {name} runs" for name in releases]
    lines += [f"  {out.style.badge(f'{name}: its live version does not start', Tone.BAD)}" for name in status.failed]
    lines += [f"  {out.style.badge(f'fault: {active}', Tone.WARN)}" for active in status.faults]
    lines += [f"  {out.style.badge(f'not answered: {route}', Tone.WARN)}" for route in status.unknown_routes]
    lines += [f"  {out.style.badge(f'refused: {what}', Tone.WARN)}" for what in status.refused]
    return "\n".join(lines)


def _show_faults(out: Output, found: Sequence[FaultRecord], word: str, nothing: str) -> None:
    lines = [out.style.badge(f"{word}: {_describe_fault(record)}", Tone.NOTE) for record in found]
    out.result("twin-faults", {"faults": found}, "\n".join(lines) or nothing)


def _describe_fault(record: FaultRecord) -> str:
    """Return a fault in one line, with the figures that its kind uses."""
    kind = record.get("kind")
    parts = [f"{kind}{' ' + str(record['target']) if record.get('target') else ''}"]
    if kind in {"latency", "api-slow"}:
        parts.append(f"+{record.get('latency_ms'):g} ms")
    if kind == "errors":
        parts.append(f"status {record.get('status')}")
    if kind == "api-429":
        parts.append(f"Retry-After {record.get('retry_after_s'):g} s")
    share = record.get("share")
    if kind in {"latency", "errors"} and isinstance(share, int | float):
        parts.append(f"{share:.0%} of requests")
    if record.get("expires_at"):
        parts.append(f"until {record['expires_at']}")
    return ", ".join(parts)


twin.add_command(env)
twin.add_command(config)
