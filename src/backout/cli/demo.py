"""`backout demo`: the main job on the local twin, from the first deployment to the incident report."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from backout.cli.incident.pages import Page
from backout.cli.support import outcome
from backout.cli.support.options import Amount, command, pass_shell
from backout.cli.twin_env import choose_folder
from backout.errors import BackoutError
from backout.model.plan import PlanKind
from backout.report.text import reflow_markdown
from backout.report.times import format_duration

if TYPE_CHECKING:
    from backout.cli.support.session import Session
    from backout.cli.support.shell import Shell
    from backout.model.incident.incident import Run
    from backout.twin.stage import Stage

DIRECTORY = ".backout/demo"
BAD = "throws-on-one-route"
RATE_PER_S = 100.0
_DEPLOY_AT_MOST_S = 60.0


@command(
    "demo",
    short_help="See it all happen on a local twin.",
    epilog="""
Examples:
  backout demo                                    # deploy good, deploy bad, detect, roll back, verify, report
  backout demo --home hosts                       # on a host behind Caddy in place of Cloudflare
  backout demo --bad errors-5-percent             # another way to be bad, see examples/fm5/README.md
  backout demo --keep                             # leave the twin running for your own tests
""",
)
@click.option(
    "--home",
    type=click.Choice(("cloudflare", "hosts")),
    default="cloudflare",
    show_default=True,
    help="Where the application runs: a twin of Cloudflare, or releases on a host behind Caddy.",
)
@click.option("--bad", default=BAD, show_default=True, help="The bad variant of examples/fm5.")
@click.option("--keep", is_flag=True, help="Leave the twin running.")
@click.option("--dir", "directory", default=DIRECTORY, show_default=True, help="The folder for everything it writes.")
@click.option("--rate", default=RATE_PER_S, show_default=True, type=Amount(1, 500), help="Requests a second.")
@pass_shell
def demo(shell: Shell, *, home: str, bad: str, keep: bool, directory: str, rate: float) -> int:
    """Start a local twin, deploy a good and a bad version of the sample application, and let guard act.

    By default that is a twin of Cloudflare, and the real wrangler deploys. With --home hosts it is a host with Caddy,
    Postgres and S3, and each version is a release with a process of its own.
    """
    stage = _make_stage(home, choose_folder(shell, Path(directory)))
    show = _Show(shell, stage)
    try:
        stage.clear()
        stage.check_variant(bad)
        show.say(f"Starting {stage.made_of}")
        twin = stage.set_up(show.done)
        show.done(f"up at {twin.ingress_url}, {len(twin.pids)} processes, all on loopback")
        shell.take(config=str(stage.config_file), environment="production")
        record = {"home": home, **_play(show, stage, bad, rate)}
    finally:
        if not keep:
            stage.tear_down()
    ok = bool(record.pop("as_expected"))
    report = Path(str(record["report_path"])) if record["report_path"] else None
    page = Page(report, report.read_text(encoding="utf-8"), 0.0) if report else None
    text = reflow_markdown(page.shown, shell.output.style.width) if page else None
    shell.output.result("demo", record, text)
    show.say(_describe_conclusion(record))
    where = f" --config {directory}/backout.toml -e production"
    if keep:
        shell.output.next(
            f"backout status{where}", f"backout deployments list{where}", f"backout twin down --dir {directory}/twin"
        )
    else:
        shell.output.next(f"backout runs list{where}", "backout demo --keep  # and look around while it runs")
    return 0 if ok else 1


def _make_stage(home: str, folder: Path) -> Stage:
    if home == "hosts":
        from backout.twin.hosts.stage import HostsStage

        return HostsStage(folder)
    from backout.twin.stage import Stage

    return Stage(folder)


@dataclass
class _Show:
    """Prints each event with the time since the start."""

    shell: Shell
    stage: Stage
    began: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        style = self.shell.output.talk
        self.shell.output.say(f"{style.dim(f'{time.monotonic() - self.began:5.1f} s')}  {style.strong(text)}")

    def done(self, text: str) -> None:
        self.shell.output.say(f"         {text}")


def _play(show: _Show, stage: Stage, bad: str, rate: float) -> dict[str, object]:
    """Deploy a good version and prove it, deploy a bad one and let guard act, and return the measurements."""
    from backout.cli.support.session import open_session
    from backout.model.steps.guard import ConcludeStep
    from backout.ports import find_result

    show.say(f"{stage.deploys_by}: the good version")
    good = stage.deploy("good")
    show.done(f"live: {good}")
    with stage.visitors(rate):
        show.say(f"Visitors come, {rate:g} a second; guard watches the good version")
        session = open_session(show.shell, show.shell.config(), "demo")
        concluded = find_result(session.tools.runs, _guard(session, early=True).id, ConcludeStep)
        proven = concluded is not None and concluded.action == "stable"
        show.say(f"{stage.deploys_by}: a bad version ({bad}), guard is waiting")
        run = _guard_next_deployment(session, stage, bad)
    live = session.tools.deployments.history()[0].main
    return _record(session, run, good, live, proven=proven)


def _guard(session: Session, *, early: bool = False) -> Run:
    from backout.model.guard.policy import Mode
    from backout.runbook.guard import guard

    plan = guard.plan(session.tools, mode=Mode.ACT, for_s=session.tools.policy.criteria.watch_s, early=early)
    return session.drive(session.submit(plan, plan.why))


def _guard_next_deployment(session: Session, stage: Stage, bad: str) -> Run:
    """Have a version deployed beside the waiting guard, as a pipeline would."""
    from backout.runbook.guard import next_deployment

    problems: list[BackoutError] = []

    def deploy() -> None:
        try:
            stage.deploy(bad)
        except BackoutError as error:
            problems.append(error)

    deployer = threading.Thread(target=deploy, name="deployer", daemon=True)
    deployer.start()
    try:
        next_deployment.wait_for_next(session.tools, _DEPLOY_AT_MOST_S)
        run = _guard(session)
    finally:
        deployer.join()
    if problems:
        raise problems[0]
    return run


def _record(session: Session, run: Run, good: str, live: str, *, proven: bool) -> dict[str, object]:
    from backout.model.steps.guard import WatchStep
    from backout.model.steps.rollback import ActivateStep
    from backout.ports import find_result

    tools = session.tools
    origin = tools.runs.find(run.plan.cause or run.id)
    assert origin is not None
    watch, watched = origin.plan.arguments(WatchStep), find_result(tools.runs, origin.id, WatchStep)
    deployed_at, bad = watch.deployed_at, watch.version
    detected_at = watched.decision.at if watched is not None else None
    rolled_back = run.plan.kind is PlanKind.ROLLBACK
    activated = find_result(tools.runs, run.id, ActivateStep) if rolled_back else None
    proof = outcome.make_rollback_record(tools, run) if rolled_back else {}
    seen, failed = _count_served(session, bad, deployed_at)
    criteria = tools.policy.criteria
    return {
        "run_id": run.id,
        "deployed_good_version": good,
        "deployed_bad_version": bad,
        "live_version": live,
        "detected_after_s": None if detected_at is None else round(detected_at - deployed_at, 3),
        "rolled_back_after_s": None if activated is None else round(activated.at - deployed_at, 3),
        "requests_seen_by_bad_version": seen,
        "bad_requests_served": failed,
        "verified": proof.get("verified"),
        "criteria": {
            "error_rate_below": criteria.error_rate_below,
            "error_rate_for_s": criteria.error_rate_for_s,
            "watch_s": criteria.watch_s,
            "latency_p99_at_most": criteria.latency_p99_at_most,
            "old_version_quiet_s": criteria.old_version_quiet_s,
        },
        "results": proof.get("criteria", []),
        "report_path": proof.get("report_path"),
        "as_expected": proven and live == good and proof.get("verified") is True,
    }


def _count_served(session: Session, version: str, since: float) -> tuple[int, int]:
    from backout.model.guard.signals import sum_counts

    assert session.tools.traffic is not None
    page = session.tools.traffic.read(int(since), int(session.tools.clock.now()) + 1)
    return sum_counts(row for row in page.counts if row.version == version)


def _describe_conclusion(record: dict[str, object]) -> str:
    if record["verified"] is not True:
        return f"Not as expected: live is {record['live_version']}, verified is {record['verified']}"
    detected, back = (_format_span(record[name]) for name in ("detected_after_s", "rolled_back_after_s"))
    return (
        f"Detected after {detected}, rolled back after {back}, verified; "
        f"{record['bad_requests_served']} of the bad version's {record['requests_seen_by_bad_version']} answers failed"
    )


def _format_span(seconds: object) -> str:
    return format_duration(seconds) if isinstance(seconds, float) else "an unknown time"
