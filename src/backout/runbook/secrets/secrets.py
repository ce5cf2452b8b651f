"""Secrets: those expected, present and changed, and the plan that sets some ("Scenario 5"); nothing changes here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from backout.analysis.history.remarks import find_underneath
from backout.analysis.history.stability import find_newcomer, list_candidates
from backout.analysis.secrets import find_binding, look_at
from backout.errors import BackoutError, Refused, Unmeasured, UsageError
from backout.model.plan import Plan
from backout.model.secrets import ExpectedSecrets, OnHand, PushedSecret
from backout.model.setting import describe_setting
from backout.model.steps.rollback import ActivateStep
from backout.model.steps.secrets import PushSecretsStep
from backout.model.value import Value
from backout.plan.rollback import Request
from backout.plan.secrets import RULE, LiveNow, PushRequest, plan_push
from backout.ports import find_result
from backout.runbook.rollback.jobs import add_job_steps
from backout.runbook.rollback.rollback import prepare
from backout.runbook.safety.clock import find_target_version
from backout.runbook.safety.identity import check_identity

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from backout.model.deployment import Deployment
    from backout.model.plan import Json, PlanRefused
    from backout.model.secrets import SecretsLook
    from backout.model.version import Version
    from backout.ports import SecretSource
    from backout.runbook.secrets.tools import PushTools
    from backout.runbook.toolbox import Toolbox

_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*", re.ASCII)


class PushAsk(Value, frozen=True):
    """The request of a person (or guard).

    Args:
        names: exactly these; none: all that the source lists, or the expected ones where it cannot list.
        source: as a plan names it.
        file: the placeholder for the values in the line to type by hand.
        Others as in `PushRequest`.
    """

    names: tuple[str, ...]
    source: Mapping[str, Json]
    message: str = ""
    file: str = "secrets.json"
    wait: bool = True
    report: bool = False
    cause: str = ""
    detected: str = ""
    detected_at: float | None = None


def push_tools(tools: Toolbox) -> PushTools:
    """Return the tools that set secrets. Raises UsageError if none are set up."""
    if tools.pushing is None:
        raise UsageError("secrets cannot be set here", where=tools.environment)
    return tools.pushing()


def prepare_push(tools: Toolbox, ask: PushAsk) -> Plan | PlanRefused:
    """Return the plan, or its refusal. Changes nothing; the source is read, so that the plan knows what it holds.

    Raises:
        UsageError: nothing to set, or an impossible name.
        Refused: a name is bound as something else, the source lacks it, or this is another environment.
        BackoutError: the source cannot be asked.
    """
    check_identity(tools)
    pushing = push_tools(tools)
    live, version = read_live_version(tools)
    newest = None if pushing.on_live else next(iter(tools.versions.recent()), None)
    source = pushing.opened(ask.source)
    names, passed_over = _choose_names(pushing, source, ask.names, version)
    values = source.read(names)
    lacking = sorted(set(names) - set(values.names))
    if lacking and ask.names:
        raise lacks(tools, source.described, lacking)
    if not values.names:
        expected = f" (expected: {', '.join(names)})" if names else ""
        raise UsageError(f"{source.described} holds nothing to set{expected}", where=tools.environment)
    passed_over += [f"{name} is not set: {source.described} does not hold it" for name in lacking]
    words = f"set {', '.join(values.names)}"
    request = PushRequest(
        fingerprints={name: pushing.fingerprints.of(name, values.reveal(name)) for name in values.names},
        source=ask.source,
        described=source.described,
        message=ask.message or words,
        file=ask.file,
        wait=ask.wait,
        report=ask.report,
        passed_over=tuple(passed_over),
        cause=ask.cause,
        detected=ask.detected,
        detected_at=ask.detected_at,
    )
    now = LiveNow(live, version, newest.id if newest else "")
    lines = tools.rollback.equivalents
    plan = plan_push(tools.environment, request, now, lines)
    if not isinstance(plan, Plan):
        return plan
    return add_job_steps(tools, plan, "", version.id)


def list_on_hand(tools: Toolbox, names: Collection[str]) -> OnHand:
    """Return the names for which the configured source has a value; the values themselves go nowhere.

    For guard: the names are those that a diagnosis calls missing or invalid.
    """
    wanted = tuple(sorted(set(names)))
    if tools.pushing is None:
        return OnHand((), wanted)
    described = ""
    try:
        pushing = tools.pushing()
        if pushing.configured is None:
            return OnHand((), wanted)
        source = pushing.opened(pushing.configured)
        described = source.described
        held = source.read(wanted).names
    except BackoutError as error:
        return OnHand((), wanted, described, str(error))
    return OnHand(held, tuple(name for name in wanted if name not in held), described)


def prepare_mending(
    tools: Toolbox, names: Collection[str], *, detected: str, detected_at: float | None = None, cause: str = ""
) -> Plan | PlanRefused:
    """Return the plan that sets exactly these names from the configured source, for guard to hand over to.

    A plan with `detected` obeys a hold, and ends with an incident report. Raises as `prepare_push`; UsageError without
    a configured source.
    """
    configured = push_tools(tools).configured
    if configured is None:
        raise UsageError(
            "no source of secrets is configured",
            where=tools.environment,
            hint=describe_setting("environments", tools.environment, "secrets", source={"from": "env"}),
        )
    ask = PushAsk(
        names=tuple(sorted(set(names))),
        source=configured,
        message=detected,
        report=True,
        cause=cause,
        detected=detected,
        detected_at=detected_at,
    )
    return prepare_push(tools, ask)


def look_at_secrets(tools: Toolbox, target: str | None = None, *, ask_source: bool = False) -> SecretsLook:
    """Return the names expected and present, for what is live and for what a rollback would return to.

    Args:
        target: what a person typed (id, number, tag, time), None: the last stable version.
        ask_source: read the configured source, too, and compare fingerprints with what was set last.
    """
    live, version = read_live_version(tools)
    del live
    expected, source, held = ExpectedSecrets(), "", None
    if tools.pushing is not None:
        pushing = tools.pushing()
        expected = pushing.expected()
        if pushing.configured is not None:
            opened = pushing.opened(pushing.configured)
            source = opened.described
            if ask_source:
                values = opened.read({*expected.example, *expected.required, *version.secret_names})
                held = {name: pushing.fingerprints.of(name, values.reveal(name)) for name in values.names}
    found, why, returns = _find_comparison(tools, target)
    return look_at(
        tools.environment,
        expected=expected,
        live=version,
        target=found,
        target_why=why,
        returns=returns,
        versions=tools.versions.recent(),
        pushes=list_pushes(tools),
        source=source,
        held=held,
    )


def list_pushes(tools: Toolbox) -> tuple[PushedSecret, ...]:
    """Return every secret that backout set, as the journal has it: fingerprints, never values."""
    found = []
    for run in tools.runs.runs(tools.environment):
        made = find_result(tools.runs, run.id, PushSecretsStep) if run.plan.has(PushSecretsStep) else None
        if made is not None:
            found += [
                PushedSecret(name, mark, made.version, made.made_at, run.id, run.actor)
                for name, mark in made.secrets.items()
            ]
    return tuple(found)


def read_live_version(tools: Toolbox) -> tuple[Deployment, Version]:
    """Return what decides about the traffic, and its (main) version in detail. Raises Unmeasured: nothing is live."""
    history = tools.deployments.history()
    if not history:
        raise Unmeasured("nothing was ever deployed here", where=tools.environment, hint="deploy once, then try again")
    live = find_underneath(history)
    return live, tools.versions.detail(live.main)


def lacks(tools: Toolbox, described: str, names: Collection[str]) -> Refused:
    """Return the error for names that a source should hold."""
    return Refused(
        f"{described} does not hold {', '.join(sorted(names))}",
        where=tools.environment,
        rule=RULE,
        options=("put it there, then repeat", f"or type it: `backout secrets put NAME -e {tools.environment}`"),
    )


def _find_comparison(tools: Toolbox, target: str | None) -> tuple[Version | None, str, bool]:
    """Return the version to compare with (None: there is none), why that one, and whether a rollback goes there.

    One that only lacks a proof, or secrets that are gone by now, is also considered: that is the question here.
    """
    situation, outcome = prepare(tools, Request(message="look at the secrets", target=target))
    if isinstance(outcome, Plan):
        wanted = outcome.arguments(ActivateStep).version
        why = next((note.partition(": ")[2] for note in outcome.notes if note.startswith("target ")), "")
    elif target is not None:
        wanted, why = find_target_version(tools, target, situation), outcome.reason
    else:
        ranked = list_candidates(situation, leaving=find_newcomer(situation), accept_unproven=True)
        nearest = next((c for c in ranked if (c.eligible or c.rule == RULE) and c.last_live_at > 0), None)
        if nearest is None:
            return None, outcome.reason, False
        wanted, why = nearest.version, nearest.reason
    known = situation.version(wanted)
    detailed = known if known is not None and known.code_hash else tools.versions.detail(wanted)
    return detailed, why, isinstance(outcome, Plan)


def _choose_names(
    pushing: PushTools, source: SecretSource, typed: Collection[str], live: Version
) -> tuple[list[str], list[str]]:
    """Return the names to set, and a sentence for each that is passed over."""
    if typed:
        for name in typed:
            kind = find_binding(live, name)
            if not _NAME.fullmatch(name):
                raise UsageError(f"{name!r} cannot be the name of a secret", hint="letters, digits and _")
            if kind and not kind.startswith("secret"):
                raise Refused(
                    f"{name} is bound as {kind}, which is no secret",
                    rule=RULE,
                    options=(f"take {name} out of the application's configuration and deploy, then repeat",),
                )
        return sorted(set(typed)), []
    listed = source.names()
    expected = pushing.expected()
    needed = {*expected.example, *expected.required}
    names = {*needed, *live.secret_names} if listed is None else set(listed)
    chosen, passed_over = [], []
    for name in sorted(names):
        kind = find_binding(live, name)
        if kind and not kind.startswith("secret"):
            passed_over += [f"{name} is not set: it is bound as {kind}"] if listed is not None else []
        elif name in pushing.own:
            passed_over += [f"{name} is not set: it is for backout and deployments"] if listed is not None else []
        elif not _NAME.fullmatch(name):
            passed_over.append(f"{name!r} is not set: no secret can have that name")
        else:
            chosen.append(name)
    passed_over += [
        f"{name} is not set: {source.described} does not hold it"
        for name in sorted(needed - names)
        if name not in pushing.own and not find_binding(live, name)
    ]
    return chosen, passed_over
