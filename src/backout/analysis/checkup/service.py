"""Checks of watching and rollback: health, counts, stable version, kept code, guard, hold; pure."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.analysis.history.proof import describe_trouble
from backout.errors import Unmeasured
from backout.escaping import shorten
from backout.model.checkup import must, should
from backout.model.clock import format_duration, to_utc
from backout.model.hint import suggest_command, suggest_setting, suggest_words
from backout.model.incident.incident import RunState
from backout.model.plan import Plan
from backout.model.setting import describe_setting
from backout.model.steps.rollback import ActivateStep

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from backout.model.checkup import Check
    from backout.model.guard.policy import Policy
    from backout.model.guard.signals import HealthReport, SourceTraits
    from backout.model.hold import Hold
    from backout.model.incident.incident import Run
    from backout.model.plan import PlanRefused

NAMES_VERSION: Final = suggest_words(
    'in wrangler.jsonc "version_metadata": {"binding": "CF_VERSION"}, '
    'in the answer of /health "version": {"id": env.CF_VERSION.id}'
)
"""The settings by which an application reports the version that answers."""
_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{16}")


def check_health(report: HealthReport | None, policy: Policy, environment: str, *, is_blind: bool) -> Check:
    """Return whether the health endpoint answers, and answers well.

    Args:
        report: None where none is set up.
        is_blind: guard acts by itself, and has no counts to act on either.
    """
    if report is None:
        why = "there is no health endpoint: a rollback is verified by error rate and latency alone"
        url = suggest_setting(
            describe_setting("environments", environment, "health", url="https://app.example.com/health")
        )
        return must("health").missing(why, url) if is_blind else should("health").not_set_up(why, url)
    trouble = describe_trouble(report, policy)
    code = 0 if report.measured else Unmeasured.exit_code
    if report.is_down or (report.measured and trouble):
        why = trouble or f"it is down ({report.reach})"
        return must("health").missing(why, suggest_command("diagnose", environment), code=code)
    if not report.measured:
        why = report.findings[0].rstrip(".") if report.findings else report.why_unmeasured
        again = suggest_command("status", environment)
        return must("health").missing(why, replace(again, words="fix health.url, or what answers there"), code=code)
    took = "" if report.latency_ms is None else f" in {report.latency_ms:.0f} ms"
    return must("health").ok(f"{report.status}{took}, {report.overall}")


def check_health_version(
    report: HealthReport | None, live: Collection[str] | None, *, acts: bool, no_url: str | None = None
) -> Check:
    """Return whether the health endpoint says which version answered: without it a target is hard to prove.

    Args:
        live: ids of the versions that have traffic, None when the platform did not list them.
        no_url: why a version cannot be asked at a URL of its own instead, "" if it can, None where that is not known.
    """
    subject = must("health_version", when=acts)
    if report is None:
        return should("health_version").not_set_up("there is no health endpoint to ask", NAMES_VERSION)
    if not report.measured:
        return subject.unmeasured("the health endpoint gave no readable answer")
    if report.version is None and no_url == "":
        why = (
            "/health does not say which version answers: a target is asked at its own URL instead, which proves its "
            "code and bindings, not the route and the settings of your domain"
        )
        return should("health_version").missing(why, NAMES_VERSION)
    if report.version is None:
        cannot = f" (nor has a version a URL of its own: {no_url})" if no_url else ""
        why = (
            "/health does not say which version answers: no target can be proved before it gets traffic, so a rollback "
            f"wants --accept-unproven, and guard acts in a total outage alone{cannot}"
        )
        return subject.missing(why, NAMES_VERSION)
    named = f"/health says that version {report.version} answers"
    if not _ID.fullmatch(report.version):
        return subject.missing(f"{named}, which is no version's id", NAMES_VERSION)
    if live is None or report.version in live:
        return subject.ok(named if live is None else f"{named}, which is live")
    why = f"{named}, which is not live"
    return subject.missing(
        why, suggest_words("look at what answers there: another Worker, a cache before it, or a deployment just now")
    )


def check_traffic(traits: SourceTraits | None, *, acts: bool, environment: str, silence: Collection[str] = ()) -> Check:
    """Return whether requests are counted, and whether guard may act on the counts; the source has just answered.

    Args:
        silence: why it counted nothing at all, as far as it knows; empty where it did count.
    """
    if traits is None:
        why = "requests are not counted: guard sees only the health endpoint"
        return should("traffic").not_set_up(
            why, suggest_setting(describe_setting("environments", environment, "traffic", provider="tail"))
        )
    if silence:
        why = f"{traits.name} answers, and counted nothing: {'; '.join(sorted(silence))}"
        look = suggest_command("config check", environment)
        return must("traffic", when=acts).missing(why, look, code=Unmeasured.exit_code)
    if traits.may_act:
        return must("traffic").ok(f"{traits.name} answers, at most {format_duration(traits.lag_s)} late")
    why = f"{traits.name} answers, and no rollback may rest on it alone: {', '.join(traits.list_shortfalls())}"
    if not acts:
        return should("traffic").allowed(why)
    return should("traffic").missing(why, suggest_words("the flight recorder counts exactly: `backout init` writes it"))


def check_return(outcome: Plan | PlanRefused, *, stable: bool, acts: bool, environment: str, failed: str = "") -> Check:
    """Return whether there is a version to go back to: from what is live now, or from what will be deployed next.

    Args:
        outcome: what a rollback would do now.
        stable: whether a watch of what is live ended healthy.
        failed: the last proof of the version that it would go to, in words, where that failed; "" otherwise.
    """
    subject = must("stable_version", when=acts)
    if isinstance(outcome, Plan):
        version, why = outcome.arguments(ActivateStep).version, outcome.notes[0].partition(": ")[2]
        if failed:
            other = suggest_command("deployments list", environment, "whether there is another one")
            return subject.missing(f"a rollback would try version {version}, and {failed}", other)
        return subject.ok(f"a rollback would go to version {version}: {why}")
    if stable:
        return subject.ok("what is live is stable, so the next deployment can go back to it; there is no older one")
    watch = suggest_command("guard", environment, "a watch that ends healthy makes what is live a version to return to")
    return subject.missing(outcome.reason, watch)


def check_kept_code(kept: Collection[str], wanted: Collection[str], environment: str) -> Check:
    """Return whether the code of these versions is kept on this machine, so that it can be uploaded again."""
    lacking = ", ".join(version for version in wanted if version not in kept)
    if lacking:
        why = (
            f"the code of {lacking} is not kept on this machine: it can be brought back only while the platform has it"
        )
        return should("kept_code").missing(why, suggest_command("guard", environment, "it keeps what it watches"))
    return should("kept_code").ok(f"the code of {', '.join(wanted)} is kept here")


def check_releases(obstacles: Mapping[str, str], environment: str) -> Check:
    """Return whether what is live could be made live again: its code is there as it was pushed, on every host.

    Args:
        obstacles: what speaks against each live release, "" for nothing.
    """
    found = "; ".join(f"release {release}: {why}" for release, why in obstacles.items() if why)
    if found:
        why = f"the next release could not be rolled back to what is live: {found}"
        return must("kept_code").missing(why, suggest_command("release push DIR", environment, "the same code again"))
    return must("kept_code").ok(f"the code of {', '.join(obstacles)} is as it was pushed")


def check_watch(
    newest: Run | None, watch_gap_s: float | None, *, stable: bool | None, now: float, environment: str
) -> Check:
    """Return whether what is live was watched.

    Args:
        newest: this journal's last guard.
        watch_gap_s: how old the live deployment is, where it is fresh and no guard watches it.
        stable: whether a watch of what is live ended healthy, None where that is not known.
        now: by this machine's clock.
    """
    subject, guard = should("last_watch"), suggest_command("guard", environment)
    if watch_gap_s is not None:
        return subject.missing(
            f"the live deployment is {format_duration(watch_gap_s)} old, and no guard watches it", guard
        )
    if newest is None:
        if stable:
            return subject.ok("a watch on another machine found what is live healthy")
        return subject.missing("there was no watch yet, as far as this journal knows", guard)
    at = newest.ended_at or newest.alive_at or newest.started_at
    why = f"{newest.id} {newest.state}, {format_duration(max(now - at, 0.0))} ago"
    if newest.state in (RunState.INTERRUPTED, RunState.BLOCKED, RunState.PAUSED):
        return subject.missing(why, suggest_command(f"runs show {newest.id}", environment))
    return subject.ok(f"{why}; what is live is not marked stable" if stable is False else why)


def check_hold(hold: Hold | None, environment: str, *, blocks: bool = False) -> Check:
    """Return whether automatic actions are stopped; that is allowed, and has to be known.

    Args:
        blocks: a deployment is to be made, which guard could not take back.
    """
    if hold is None:
        return should("hold").ok("none: what is automatic may act")
    until = "until it is lifted" if math.isinf(hold.until) else f"until {to_utc(hold.until):%Y-%m-%d %H:%M} UTC"
    why = f"nothing automatic {until}: {shorten(hold.why)} (by {hold.by or 'someone'}, {hold.where or 'this host'})"
    lift = suggest_command("unhold", environment, "when guard may act again")
    return must("hold").missing(why, lift) if blocks else should("hold").allowed(why, lift)


def check_secrets(required: Collection[str], present: Collection[str] | None, environment: str) -> Check:
    """Return whether the application has every secret that the configuration requires; `present` None: not readable."""
    if not required:
        names = suggest_setting(describe_setting("environments", environment, "secrets", required=["NAME"]))
        return should("secrets").not_set_up("which secrets the application needs is not declared", names)
    if present is None:
        return must("secrets").unmeasured("their names cannot be read", suggest_command("secrets check", environment))
    lacking = sorted(set(required) - set(present))
    if lacking:
        put = suggest_command(f"secrets put {lacking[0]} -m WHY", environment)
        return must("secrets").missing(f"the application lacks {', '.join(lacking)}", put)
    return must("secrets").ok(f"all {len(set(required))} that are required are there")
