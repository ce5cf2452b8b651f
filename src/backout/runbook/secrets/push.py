"""The steps that set secrets: set them on what is live, read back their names, ask the health endpoint.

Values are read from their source when needed, a resumed run reads them again, and none is ever recorded.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from backout.analysis.history.proof import describe_trouble
from backout.analysis.history.remarks import find_underneath, is_deciding
from backout.errors import (
    BackoutError,
    Busy,
    Interrupted,
    NewestNotLive,
    PartlyDone,
    ProviderUnavailable,
    Refused,
    Unmeasured,
    WorldMoved,
)
from backout.model.guard.signals import Reach
from backout.model.guard.verdict import CriterionResult, CriterionState, Verification
from backout.model.incident.notice import NoticeKind
from backout.model.remark import Remark, RemarkKind
from backout.model.steps.secrets import PushSecretsResult, PushSecretsStep, ReadSecretsResult, ReadSecretsStep
from backout.model.steps.verification import VerifyHealthStep
from backout.plan.secrets import RULE
from backout.ports import Action, Done, NotDone, find_result
from backout.report.redact import Redactor
from backout.runbook.incident.tell import tell
from backout.runbook.probing.served import measure_error_rate
from backout.runbook.rollback.marked import make_message
from backout.runbook.rollback.reupload import find_earlier_upload, read_bundle
from backout.runbook.safety.checks import (
    HOLD_RULE,
    READ_AGAIN_S,
    READ_EVERY_S,
    await_listed,
    await_own_listed,
    await_still_listed,
    check_not_held,
    check_on_every_host,
    check_undisturbed,
    check_unmoved,
    find_own,
    look_after_trouble,
    make_read_back,
)
from backout.runbook.safety.identity import check_identity
from backout.runbook.secrets.secrets import lacks, push_tools

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from backout.model.deployment import Deployment
    from backout.model.guard.signals import HealthReport
    from backout.model.plan import Json
    from backout.model.secrets import SecretValues
    from backout.ports import Probe, StepContext
    from backout.runbook.secrets.tools import PushTools
    from backout.runbook.toolbox import Toolbox

HEALTH_S, LOOK_EVERY_S, GOOD_LOOKS = 60.0, 1.0, 2
"""How long the endpoint is asked at most, until this many answers in a row are good."""
_NEWEST, _APART = "newest", "apart"


class PushSecrets(Action[PushSecretsStep, PushSecretsResult]):
    """Step `push_secrets` {secrets, source, expected, version, code_hash, message, detected}: set them on what is live.

    `secrets` are the fingerprints, by name, of what the source held when this was planned: a value that changed since
    is refused. If the newest version is the live one it is one call to the provider; otherwise the live code is
    uploaded again with these values, and made live.
    """

    arguments = PushSecretsStep

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: PushSecretsStep, context: StepContext) -> PushSecretsResult:
        """Return {secrets, way, from, deployment, version, made_at, at} as the provider lists it.

        If guard cannot set them in place of a rollback, it returns {problem, ...} instead of stopping there.
        """
        try:
            return self._set(args, context)
        except (Busy, Interrupted, PartlyDone, Unmeasured):  # another one acts, or the outcome is not known
            raise
        except BackoutError as error:
            is_held = isinstance(error, Refused) and error.rule == HOLD_RULE
            if not args.detected or is_held:
                raise
            self._tools.say(f"secrets are not set: {error.what}")
            return PushSecretsResult(
                problem=error.what, secrets={}, way="", deployment=args.expected, version=args.version
            )

    def _set(self, args: PushSecretsStep, context: StepContext) -> PushSecretsResult:
        tools = self._tools
        check_identity(tools)
        history = self._read_history(args, context)
        live = find_underneath(history)
        if live.sole is None:
            raise Refused(
                "a gradual deployment began meanwhile, and a change of secrets would end it",
                where=tools.environment,
                rule=RULE,
                options=("end it first: all of the traffic to one version, then repeat",),
            )
        pushing = push_tools(tools)
        values = read_values(tools, args.secrets, args.source, again=f"backout secrets push -e {tools.environment}")
        newest = None if pushing.on_live else next(iter(tools.versions.recent()), None)
        way = _NEWEST if newest is None or newest.id == live.main else _APART
        context.progress({"way": way})
        check_not_held(tools, history, is_automatic=bool(args.detected))  # last: a hold stops it right up to the change
        with mask_errors(values):
            try:
                made = self._on_newest(pushing, values, history[0].id) if way == _NEWEST else None
            except NewestNotLive:  # a version was uploaded just now
                context.progress({"way": _APART})
                made = None
            if made is not None:
                return self._make_result(args, made, _NEWEST)
            made = self._apart(values, live, args, context.run)
        return self._make_result(args, made, _APART)

    def probe(self, args: PushSecretsStep, context: StepContext) -> Probe[PushSecretsResult]:
        """Look for our own deployment; if there is none, it is right to set the same values (again)."""
        progress = context.last_progress()
        if progress is None or progress.get("way") != _APART:
            return NotDone()
        history = await_own_listed(self._tools, context.run, RemarkKind.SECRETS)
        made = find_own(history, context.run, RemarkKind.SECRETS)
        if made is None or history[0].hosts or self._tools.versions.detail(made.main).code_hash != args.code_hash:
            return NotDone()
        return Done(self._make_result(args, made, _APART))

    def _read_history(self, args: PushSecretsStep, context: StepContext) -> tuple[Deployment, ...]:
        """Return the history if it is as planned; anything that our own earlier attempt may have set is as planned.

        Raises:
            WorldMoved: other code is live (safety rule 8).
        """
        tools, expected = self._tools, args.expected
        history = await_listed(tools, expected)
        if context.last_progress() is None or not history or is_deciding(history, expected, args.version):
            check_unmoved(tools, history, expected, context.run, args.version)
            return history
        since = next((number for number, deployment in enumerate(history) if deployment.id == expected), len(history))
        only_secrets = all(self._sets_secrets(deployment, context.run) for deployment in history[:since])
        if not only_secrets or tools.versions.detail(find_underneath(history).main).code_hash != args.code_hash:
            check_unmoved(tools, history, expected, context.run, args.version)
        return history

    def _sets_secrets(self, deployment: Deployment, run: str) -> bool:
        return deployment.triggered_by == "secret" or find_own((deployment,), run) is not None

    def _on_newest(self, pushing: PushTools, values: SecretValues, before: str) -> Deployment:
        pushing.writer.put(values)
        tools = self._tools
        deadline = tools.clock.now() + READ_AGAIN_S
        while True:
            history = tools.deployments.history()
            if history and history[0].id != before:
                check_on_every_host(tools, history[0])
                return find_underneath(history)
            if tools.clock.now() >= deadline:
                raise ProviderUnavailable(
                    "the provider took the values, and does not list the version that has them yet",
                    where=tools.environment,
                )
            tools.clock.sleep(READ_EVERY_S)

    def _apart(self, values: SecretValues, live: Deployment, args: PushSecretsStep, run: str) -> Deployment:
        """Upload the live code again with the values, and make that live; an earlier attempt's upload is reused."""
        tools, marker = self._tools, f"[backout {run} secrets]"
        version = str(live.main)
        made = find_earlier_upload(tools, f"{marker} {version}", tools.versions.detail(version).code_hash)
        if made is None:
            tools.say(
                f"the newest version is not the live one, so the code of version {version[:8]} is uploaded again with "
                "these values"
            )
            bundle = read_bundle(tools, version)
            assert tools.rollback.bundles is not None
            made = tools.rollback.bundles.upload(bundle, message=f"{marker} {version}", secrets=values)
        remark = Remark(RemarkKind.SECRETS, run, text=args.message)
        text = make_message(tools, remark, next(iter(tools.deployments.history()), None))
        try:
            deployed = tools.deployments.activate(made.id, message=text)
        except ProviderUnavailable:
            found = look_after_trouble(tools, live.id, run, RemarkKind.SECRETS)
            if found is None:
                raise
            deployed = found
        history = await_listed(tools, deployed.id)
        check_undisturbed(tools, history, deployed.id, expected=live.id, run=run)
        check_on_every_host(tools, history[0])
        return deployed

    def _make_result(self, args: PushSecretsStep, made: Deployment, way: str) -> PushSecretsResult:
        """Return the record: names, fingerprints, and the version that has the values."""
        version = self._tools.versions.detail(made.main)
        return PushSecretsResult(
            secrets=args.secrets,
            way=way,
            source_version=args.version,
            deployment=made.id,
            version=made.main,
            made_at=version.created_at,
            at=made.created_at,
        )


def read_values(tools: Toolbox, planned: Mapping[str, str], source: Mapping[str, Json], *, again: str) -> SecretValues:
    """Return the planned values, read from their source (again).

    Args:
        planned: fingerprints by name.
        source: as a plan names it.
        again: the command that plans again.

    Raises:
        Refused: the source lacks one, or holds another value than when this was planned.
    """
    pushing = push_tools(tools)
    opened = pushing.opened(source)
    values = opened.read(planned)
    lacking = set(planned) - set(values.names)
    if lacking:
        raise lacks(tools, opened.described, lacking)
    with mask_errors(values):
        other = [name for name in planned if pushing.fingerprints.of(name, values.reveal(name)) != planned[name]]
    if other:
        raise Refused(
            f"{opened.described} holds another value of {', '.join(sorted(other))} than when this was planned",
            where=tools.environment,
            rule=RULE,
            options=(f"plan again: `{again}`",),
        )
    return values


@contextmanager
def mask_errors(values: SecretValues) -> Iterator[None]:
    """Remove the values from any error that leaves the block: errors are journalled.

    Raises:
        RuntimeError: instead of an error of ours whose text holds one.
    """
    mask = Redactor()
    for name in values.names:
        mask.register(values.reveal(name))
    try:
        yield
    except BackoutError as error:
        error.what = mask.redact(error.what)
        error.hint = None if error.hint is None else mask.redact(error.hint)
        error.args = (error.what,)
        raise
    except Exception as error:  # a bug of ours; its text may hold anything
        if mask.redact(str(error)) != str(error):
            raise RuntimeError(f"{type(error).__name__}, whose text is left out: it holds a value") from None
        raise


class ReadSecrets(Action[ReadSecretsStep, ReadSecretsResult]):
    """Step `read_secrets` {names}: the names that the live version has now; only that is reported (safety rule 14)."""

    arguments = ReadSecretsStep
    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: ReadSecretsStep, context: StepContext) -> ReadSecretsResult:
        """Return {names, deployment, version, since, read_at}. Raises WorldMoved: what is live lacks one of them."""
        tools = self._tools
        pushed = find_result(tools.runs, context.run, PushSecretsStep)
        made = pushed.deployment if pushed is not None else ""
        live = find_underneath(await_still_listed(tools, made))
        names = tools.versions.detail(live.main).secret_names
        failed = pushed is not None and bool(pushed.problem)
        gone = [] if failed else sorted(set(args.names) - set(names))
        if gone:
            raise WorldMoved(
                f"version {live.main} is live, which has no secret {', '.join(gone)}",
                where=tools.environment,
                hint=f"backout secrets list -e {tools.environment}",
            )
        return ReadSecretsResult(
            names=() if failed else args.names, **msgspec.structs.asdict(make_read_back(tools, live))
        )


class VerifyHealth(Action[VerifyHealthStep, Verification]):
    """Step `verify_health`: ask the health endpoint until it is well, at most a minute; then say how it ended.

    After guard set secrets, the errors must stop too, if they are counted: they are why it acts.
    """

    arguments = VerifyHealthStep
    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: VerifyHealthStep, context: StepContext) -> Verification:
        """Return the Verification as JSON."""
        tools = self._tools
        pushed = find_result(tools.runs, context.run, PushSecretsStep)
        before, problem = (pushed.source_version, pushed.problem) if pushed is not None else ("", "")
        started = tools.clock.now()
        failed = (CriterionState.FAILED, f"nothing could be set: {problem}")
        state, why = failed if problem else self._ask_health(context, before)
        health = CriterionResult("health", state, why, tools.clock.now() if state is CriterionState.PASSED else None)
        criteria = [health]
        found = tools.runs.find(context.run)
        is_automatic = found is not None and bool(found.plan.arguments(PushSecretsStep).detected)
        if is_automatic and state is not CriterionState.FAILED and pushed is not None:
            served = measure_error_rate(tools, context, pushed.version)  # health may not show what fails
            criteria += [served] if served is not None else []
            if served is not None and served.state is CriterionState.FAILED:
                state, why = served.state, served.evidence
        verified = {CriterionState.PASSED: True, CriterionState.FAILED: False}.get(state)
        verification = Verification(verified, tuple(criteria), started, tools.clock.now(), why)
        self._tell(context.run, verification, is_set=not problem)
        return verification

    def _ask_health(self, context: StepContext, before: str) -> tuple[CriterionState, str]:
        tools = self._tools
        if tools.health is None:
            return CriterionState.NOT_SET_UP, "no health check is set up, so nothing proves that the values are right"
        deadline = tools.clock.now() + HEALTH_S
        good = 0
        while True:
            context.check()
            report = tools.health.look()
            elsewhere = before != "" and report.version == before
            trouble = describe_trouble(report, tools.policy)
            good = 0 if trouble or elsewhere else good + 1
            if good >= GOOD_LOOKS:
                return CriterionState.PASSED, "the health endpoint answers, and nothing critical is down"
            if tools.clock.now() >= deadline:
                return self._not_well(report, trouble, elsewhere=elsewhere)
            tools.clock.sleep(LOOK_EVERY_S)

    def _not_well(self, report: HealthReport, trouble: str, *, elsewhere: bool) -> tuple[CriterionState, str]:
        if elsewhere and not trouble:
            return CriterionState.UNMEASURED, f"version {report.version} still answers in place of the new one"
        readable = report.reach is not Reach.UNREADABLE
        return CriterionState.FAILED if readable else CriterionState.UNMEASURED, f"after {HEALTH_S:g} s: {trouble}"

    def _tell(self, run: str, verification: Verification, *, is_set: bool) -> None:
        """Send a notice of what no person typed (safety rule 18)."""
        tools = self._tools
        found = tools.runs.find(run)
        if found is None or not found.plan.arguments(PushSecretsStep).detected:
            return
        names = ", ".join(found.plan.arguments(PushSecretsStep).secrets)
        did = "set from the configured source, without a rollback" if is_set else "were to be set"
        word = {True: "the service is healthy", False: "the service is NOT healthy", None: "not verified"}
        tell(
            tools,
            NoticeKind.SECRETS_PUSHED,
            f"{tools.environment}: secrets {'' if is_set else 'NOT '}set ({names}), {word[verification.verified]}",
            f"{found.plan.why}. {names} {did}. {verification.summary}.",
            key=run,
            run=run,
            next=(f"backout secrets check -e {tools.environment}", f"backout runs show {run}"),
            facts={"secrets": names, "verified": str(verification.verified).lower()},
        )
