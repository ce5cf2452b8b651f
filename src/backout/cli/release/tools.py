"""What the commands of `backout release` share: the ports, and a release as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import PartlyDone
from backout.model.value import Value
from backout.report.times import format_time

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.model.deployment import Deployment
    from backout.model.release import Release
    from backout.ports import Releases
    from backout.runbook.release import PushedRelease
    from backout.runbook.toolbox import Toolbox


class MovedJobs(Value, frozen=True):
    """What became of the job workers.

    Args:
        run: that moved them, "" where none did.
        problem: why not only those of what is live run, "" where they do.
        hint: what to type next, and the exit code.
    """

    run: str = ""
    problem: str = ""
    hint: str = ""
    exit_code: int = 0


def open_releases(shell: Shell) -> tuple[Toolbox, Releases]:
    """Return the toolbox and the releases. Raises ConfigError: the environment does not run on hosts."""
    from backout.wiring.caddy import open_home
    from backout.wiring.hooks import Hooks

    config = shell.config()
    home = open_home(config)
    return shell.toolbox(config, Hooks(say=shell.output.warn)), home.make_releases()


def make_release_record(release: Release) -> dict[str, object]:
    """Return a release as JSON values."""
    return {
        "id": release.id,
        "number": release.number,
        "commit": release.git_sha or None,
        "tag": release.tag or None,
        "message": release.message or None,
        "hash": release.code_hash,
        "created_at": format_time(release.created_at),
        "address": release.address,
        "runs": release.answers,
        "hosts": release.hosts,
        "damage": release.damage or None,
    }


def list_live_hosts(release: Release, live: Deployment | None) -> dict[str, str | None]:
    """Return the release that all visitors of each host get; None: there is none, or that was not read.

    Args:
        release: any, with the hosts' names.
    """
    sole = None if live is None else live.sole
    shown = {each.name: each.sole for each in live.hosts} if live is not None else {}
    return {name: shown.get(name) if shown else sole for name in release.hosts}


def show_pushed(shell: Shell, tools: Toolbox, pushed: PushedRelease, jobs: MovedJobs | None = None) -> int:
    """Say what became of a release that was to be live, and of its job workers, and return the exit code."""
    from backout.cli.support.style import Tone

    hosts = list_live_hosts(pushed.release, pushed.live)
    live = next(iter(hosts.values())) if len(set(hosts.values())) == 1 else None
    payload = {
        "environment": tools.environment,
        "release": make_release_record(pushed.release),
        "live": live,
        "hosts": hosts,
        "share": None if pushed.missing else pushed.share,
        "proved": False if pushed.unproved else pushed.is_proved or None,
        "unproved": pushed.unproved or None,
        "jobs": None if jobs is None else {"run_id": jobs.run or None, "problem": jobs.problem or None},
    }
    style = shell.output.style
    name = f"release {pushed.release.id} (no. {pushed.release.number})"
    if pushed.missing:
        lines = [f"{style.badge('not live everywhere', Tone.BAD)} {name}: {pushed.missing}"]
    elif pushed.unproved:
        lines = [
            f"{style.badge('not live', Tone.BAD)} {name}: {pushed.unproved}",
            f"no visitor gets it; what was live stays live{f': {live}' if live else ''}",
        ]
    else:
        unsaid = "not proved: no health endpoint says which release answers"
        proof = "it answered well before any visitor got it" if pushed.is_proved else unsaid
        got = f"{pushed.share:g} % of the visitors get it" if pushed.share else "runs, and no visitor gets it"
        lines = [f"{style.badge('live' if pushed.share else 'started', Tone.GOOD)} {name}: {got}; {proof}"]
    if jobs is not None:
        lines.append(f"job workers: {jobs.problem or 'those of this release run, and no others'}")
    shell.output.result("release", payload, "\n".join(lines))
    if pushed.missing:
        shell.output.next(f"backout release live {pushed.release.id} -e {tools.environment}")
        return PartlyDone.exit_code
    if jobs is not None and jobs.problem:
        shell.output.next(jobs.hint)
        return jobs.exit_code
    if pushed.share:
        shell.output.next(f"backout guard -e {tools.environment}")
    return 1 if pushed.unproved else 0
