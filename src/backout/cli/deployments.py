"""`backout deployments`: what was live, with the marks that backout put on it; and lifting a quarantine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.analysis.history.remarks import find_remark, get_text, is_remark
from backout.analysis.history.stability import find_quarantine, find_questioned, find_stable_mark
from backout.cli.support.in_need import observe_in_need
from backout.cli.support.options import REASON, group, pass_shell
from backout.cli.support.style import Tone
from backout.errors import Refused, UsageError
from backout.escaping import shorten
from backout.model.remark import RemarkKind
from backout.report.times import format_ago, format_clock, format_day, format_time

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.model.deployment import Deployment
    from backout.model.situation import Situation
    from backout.model.version import Version, VersionMark
    from backout.runbook.toolbox import Toolbox


UNSIGNED = "not signed"
SHORT = 8
"""Length of version ids in tables: a prefix that every command accepts."""


@group("deployments", short_help="List, show and release deployments.")
def deployments() -> None:
    """List, show and release deployments."""


def _make_tools(shell: Shell) -> Toolbox:
    from backout.wiring.hooks import Hooks

    return shell.toolbox(shell.config(), Hooks(say=shell.output.warn))


def _observe_with_details(tools: Toolbox) -> Situation:
    """Return the situation with the code hashes of all listed versions, so that quarantine by code is seen."""
    from backout.runbook.observe import add_details, observe

    situation = observe_in_need(tools, observe)
    listed = dict.fromkeys(share.version for deployment in situation.history for share in deployment.shares)
    return add_details(tools, situation, listed)


def _get_marks(situation: Situation, version: str) -> tuple[VersionMark | None, VersionMark | None]:
    known = situation.version(version)
    return find_stable_mark(situation, version), find_quarantine(situation, version, known.code_hash if known else None)


def _make_version_record(situation: Situation, version: str) -> dict[str, object]:
    known = situation.version(version)
    stable, bad = _get_marks(situation, version)
    doubted = find_questioned(situation.marks, version)
    said = bad or doubted or stable
    record: dict[str, object] = {
        "version": version,
        "deployable": known is not None,
        "stable": stable is not None and bad is None,
        "stable_since": None if stable is None else format_time(stable.at),
        "quarantined": bad is not None,
        "questioned": doubted is not None,
        "why": said.why if said else None,
    }
    if known is not None:
        record |= {
            "number": known.number,
            "created_at": format_time(known.created_at),
            "code_hash": known.code_hash,
            "tag": known.tag,
            "git_sha": known.git_sha,
            "message": known.message,
            "secrets": list(known.secret_names),
            "bindings": list(known.bindings),
        }
    return record


def make_deployment_record(situation: Situation, deployment: Deployment) -> dict[str, object]:
    """Return a deployment with its versions as JSON values; `remark` names the purpose of one that moved no traffic."""
    return {
        "deployment_id": deployment.id,
        "created_at": format_time(deployment.created_at),
        "live": deployment.id == situation.live.id,
        "message": deployment.message,
        "triggered_by": deployment.triggered_by,
        "author": deployment.author,
        "remark": _find_remark_kind(deployment),
        "doubt": None if deployment.doubt is None else str(deployment.doubt),
        "versions": [
            {"percentage": share.percentage, **_make_version_record(situation, share.version)}
            for share in deployment.shares
        ],
        "cohorts": deployment.record_cohorts(),
    }


def _find_remark_kind(deployment: Deployment) -> str | None:
    return str(deployment.remark.kind) if deployment.remark is not None and is_remark(deployment) else None


def format_badge(shell: Shell, situation: Situation, version: str) -> str:
    """Return the mark of a version in a word and a symbol."""
    stable, bad = _get_marks(situation, version)
    if bad is not None:
        return shell.output.style.badge("quarantined", Tone.BAD)
    if stable is not None:
        return shell.output.style.badge("stable", Tone.GOOD)
    doubted = find_questioned(situation.marks, version) is not None
    return shell.output.style.badge("questioned" if doubted else "unproven", Tone.WARN if doubted else Tone.DIM)


@deployments.command("list", short_help="List deployments, newest first, with what is known of their versions.")
@pass_shell
def list_(shell: Shell) -> None:
    """List the deployments, newest first, with what backout knows of their versions."""
    tools = _make_tools(shell)
    situation = _observe_with_details(tools)
    rows = []
    for deployment in situation.listed:
        if is_remark(deployment):
            rows.append(_format_remark_row(shell, situation, deployment))
            continue
        live = "live" if deployment.id == situation.live.id else ""
        groups = [("", deployment.shares), *((f"{each.name} ", each.shares) for each in deployment.cohorts)]
        for name, share in ((shorten(name), share) for name, shares in groups for share in shares):
            known = situation.version(share.version)
            rows.append(
                (
                    live,
                    share.version[:SHORT],
                    f"v{known.number}" if known else "gone",
                    f"{name}{share.percentage:g} %",
                    format_badge(shell, situation, share.version),
                    format_ago(deployment.created_at, situation.read_at),
                    get_text(deployment) or (known.message if known else "") or deployment.triggered_by,
                )
            )
    head = ("", "VERSION", "NO", "SHARE", "MARK", "SINCE", "MESSAGE")
    records = [make_deployment_record(situation, deployment) for deployment in situation.listed]
    payload = {"environment": situation.environment, "deployments": records}
    shell.output.result("deployments", payload, shell.output.table(head, rows))
    shell.output.next(
        f"backout deployments show VERSION -e {situation.environment}",
        f"backout rollback --dry-run -e {situation.environment}",
    )


def _format_remark_row(shell: Shell, situation: Situation, deployment: Deployment) -> tuple[str, ...]:
    """Return the row of a deployment that moved no traffic: its message, faint."""
    said = find_remark(deployment)
    code = said.code.version if said and said.code else ""
    kind = "unhold" if said and said.kind is RemarkKind.HOLD and not said.until else said.kind if said else ""
    kind = kind if deployment.doubt is None else f"{kind} ({UNSIGNED})"
    cells = ("", code, "", "", kind, format_ago(deployment.created_at, situation.read_at))
    return tuple(shell.output.style.dim(cell) for cell in (*cells, said.text if said else ""))


@deployments.command("show", short_help="Show one version: who, when, which code, its marks, when it was live.")
@click.argument("target", required=False)
@pass_shell
def show(shell: Shell, *, target: str | None) -> None:
    """Show the version TARGET (id, deployment id, number, tag, git sha, time), or the live one."""
    from backout.plan.target import resolve
    from backout.runbook.observe import add_details

    tools = _make_tools(shell)
    situation = _observe_with_details(tools)
    version = resolve(target, situation) if target else situation.live.main
    situation = add_details(tools, situation, [version])
    known = situation.version(version)
    lived = [d for d in situation.history if d.serves(version)]
    payload = {
        "environment": situation.environment,
        **_make_version_record(situation, version),
        "deployments": [make_deployment_record(situation, d) for d in lived],
    }
    shell.output.result("deployment", payload, _format_text(shell, situation, version, known))
    bad = _get_marks(situation, version)[1]
    if bad is not None:
        shell.output.next(f"backout deployments release {version} -e {situation.environment} -m WHY")


def _format_text(shell: Shell, situation: Situation, version: str, known: Version | None) -> str:
    from backout.cli.support.paint import paint_for
    from backout.report.text import format_fields

    stable, bad = _get_marks(situation, version)
    rows = [("version", version), ("mark", format_badge(shell, situation, version))]
    if known is not None:
        rows += [
            ("number", str(known.number)),
            ("uploaded", f"{format_day(known.created_at)} {format_clock(known.created_at)} UTC"),
            ("code", known.code_hash or "not known"),
        ]
        rows += [(name, text) for name, text in (("tag", known.tag), ("git", known.git_sha)) if text]
        rows += [("message", shorten(known.message))] if known.message else []
        rows += [
            ("secrets", ", ".join(known.secret_names) or "none"),
            ("bindings", ", ".join(known.bindings) or "none"),
        ]
    rows += (
        [("stable", f"since {format_day(stable.at)} {format_clock(stable.at)} UTC: {shorten(stable.why)}")]
        if stable
        else []
    )
    rows += (
        [("quarantine", f"since {format_day(bad.at)} {format_clock(bad.at)} UTC: {shorten(bad.why)}")] if bad else []
    )
    for deployment in situation.history:
        share = next((s.percentage for s in deployment.shares if s.version == version), None)
        if share is not None:
            word = "live since" if deployment.id == situation.live.id else "went live"
            rows.append(
                (word, f"{format_day(deployment.created_at)} {format_clock(deployment.created_at)} UTC at {share:g} %")
            )
    style = shell.output.style
    return "\n".join(format_fields(rows, style.width, indent="", paint=paint_for(style)))


@deployments.command("release", short_help="Lift the quarantine of a version (and of its code).")
@click.argument("target")
@click.option("-m", "--message", type=REASON, metavar="WHY", help="The reason; recorded in the journal.")
@click.option("--confirm", "typed", metavar="ENV", help="Confirm a protected environment by its name.")
@pass_shell
def release(shell: Shell, *, target: str, message: str | None, typed: str | None) -> None:
    """Lift the quarantine of TARGET (a version, or a git sha) and of every version with the same code."""
    from backout.cli.support.confirm import confirm
    from backout.runbook.safety import release as procedure
    from backout.runbook.safety.identity import check_identity

    config = shell.config()
    tools = _make_tools(shell)
    check_identity(tools)
    found = procedure.find_standing(tools, target)
    version = found.versions[0] if len(found.versions) == 1 else target
    if found.bad is None:
        raise Refused(
            f"version {version} is not quarantined",
            where=tools.environment,
            hint=f"backout deployments list -e {tools.environment}",
        )
    why = confirm(shell, config, f"release version {version[:8]}", message=message, typed=typed)
    told = procedure.release(tools, found.situation, found.bad, why)
    payload = {
        "environment": tools.environment,
        "version": version,
        "released": True,
        "was": found.bad.why,
        "provider_mark": told.record(),
    }
    where = f"released here only ({told.problem})" if told.problem else "released"
    text = f"Version {version} is {where}; it was quarantined because: {shorten(found.bad.why)}"
    shell.output.result("release", payload, text)
    shell.output.next(f"backout rollback {version} -e {tools.environment} -m WHY")


@deployments.command("check", short_help="Before a deployment: exit 3 when this commit or version is quarantined.")
@click.argument("target", metavar="[SHA_OR_VERSION]", required=False)
@click.option("--commit", metavar="SHA", help="The commit to be deployed.")
@pass_shell
def check(shell: Shell, *, target: str | None, commit: str | None) -> int:
    """Check before a deployment whether a commit or version is known bad: on any machine, with an empty journal.

    Exit code 0 when nothing is known against it, 3 when it, or its code, was rolled back and not released since.
    """
    from backout.runbook.recovery.restore_points import BEFORE_DEPLOYMENT, await_point, mark_meanwhile
    from backout.runbook.safety.release import find_standing

    asked = target or commit
    if asked is None or (target and commit):
        raise UsageError("name one commit or version", hint="backout deployments check SHA -e ENV")
    tools = _make_tools(shell)
    found = find_standing(tools, asked)
    bad = found.bad
    if bad is None:  # the deployment is about to happen
        moment, live = f"{tools.clock.now():.0f}", found.situation.live.main
        await_point(mark_meanwhile(tools, BEFORE_DEPLOYMENT, asked, moment, live=live))
    freed = f"backout deployments release {asked} -e {tools.environment} -m WHY"
    unread = f"; the code of {', '.join(v[:8] for v in found.unread)} could not be read" if found.unread else ""
    payload = {
        "environment": tools.environment,
        "asked": asked,
        "versions": list(found.versions),
        "allowed": bad is None,
        "why": f"nothing is known against it{unread}" if bad is None else bad.why,
        "quarantined_since": None if bad is None else format_time(bad.at),
        "quarantined_by": None if bad is None else bad.by or None,
        "run_id": None if bad is None else bad.run or None,
        "release": None if bad is None else freed,
    }
    shell.output.result("check", payload, _show_answer(shell, asked, bad, unread))
    if bad is None:
        return 0
    shell.output.next(f"{freed}  # once it is fixed, or was not to blame")
    return 3


def _show_answer(shell: Shell, asked: str, bad: VersionMark | None, unread: str) -> str:
    style = shell.output.style
    if bad is None:
        return f"{style.badge('allowed', Tone.GOOD)}: nothing is known against {asked}{unread}"
    since = f"{format_day(bad.at)} {format_clock(bad.at)} UTC"
    by = (f" in {bad.run}" if bad.run else "") + (f" by {shorten(bad.by)}" if bad.by else "")
    return f"{style.badge('quarantined', Tone.BAD)}: {asked}, since {since}{by}: {shorten(bad.why)}"
