"""Remarks: judgements written into the provider's own history, so that every machine reads the same (safety rule 15).

A remark is a deployment of exactly what is live, with a message. Reading what is live and deploying it again are two
calls, so another deployment may slip in between: it is put back at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.history.remarks import find_underneath, is_same_version, is_served_alike
from backout.errors import BackoutError, ProviderRejected, ProviderUnavailable, Refused, WorldMoved
from backout.model.remark import Doubt, RemarkKind
from backout.model.value import Value
from backout.runbook.rollback.marked import make_message
from backout.runbook.safety.checks import READ_AGAIN_S, READ_EVERY_S, await_listed, check_unmoved, find_own
from backout.runbook.safety.identity import check_identity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.deployment import Deployment
    from backout.model.remark import Remark
    from backout.runbook.toolbox import Toolbox

_TRIES = 3


class Told(Value, frozen=True):
    """The result of a remark: the deployment that carries it, or why there is none ("" when none was wanted)."""

    deployment: Deployment | None = None
    problem: str = ""

    def record(self) -> dict[str, str | None]:
        """Return it as JSON values."""
        return {"deployment": self.deployment.id if self.deployment else None, "problem": self.problem or None}


def tell_provider(tools: Toolbox, remark: Remark, expected: str) -> Told:
    """Write a remark while the deployment `expected` decides what has traffic; a run's remark is written once.

    An obstacle changes no verdict: it is reported, and returned as the problem.
    """
    try:
        check_identity(tools)
        history = tools.deployments.history()
        made = find_written(history, remark)
        if made is None:
            check_unmoved(tools, history, expected, remark.run)
        return Told(_put(tools, remark, history[0], made))
    except BackoutError as error:
        problem: BackoutError = error
        try:
            found = _find_after_error(tools, remark, error)
            if found is not None:  # what slipped in beneath it is still put back
                return Told(_put(tools, remark, found, found))
        except BackoutError as again:
            problem = again
        tools.say(f"the provider was not told ({remark.kind}), so other machines do not know it: {problem}")
        return Told(problem=str(problem))


def write_remark(tools: Toolbox, remark: Remark, under: Deployment) -> Deployment:
    """Deploy what a deployment serves once more, with the remark as its message, and return that.

    Raises:
        BackoutError: the provider did not take it.
        WorldMoved: other deployments keep coming; the remark may be there.
    """
    return _put(tools, remark, under, None)


def _put(tools: Toolbox, remark: Remark, under: Deployment, made: Deployment | None) -> Deployment:
    """Write the remark (`made`: an earlier attempt did); what slipped in between is put back, and the remark renewed.

    A remark on a version means nothing once another one has taken its place.
    """
    for _ in range(_TRIES):
        if made is None:
            made = _deploy(tools, under, make_message(tools, remark, under))
        history = await_listed(tools, made.id)
        beneath = _find_beneath(history, made)
        if beneath is not None and not is_served_alike(beneath, made):
            under, made = _put_back(tools, beneath), None
            if remark.kind is RemarkKind.STABLE:  # a question is about a version, whatever is live
                what = f"deployment {beneath.id} came at the same moment, and was put back"
                raise WorldMoved(what, where=tools.environment, hint=f"backout status -e {tools.environment}")
        elif _lies_elsewhere(history, made):  # another remark slipped in, and the signature names what is beneath
            under, made = history[0], None
        else:
            return made
    raise WorldMoved(
        "other deployments come in faster than a remark can be written",
        where=tools.environment,
        hint=f"backout status -e {tools.environment}",
    )


def _lies_elsewhere(history: Sequence[Deployment], made: Deployment) -> bool:
    listed = next((deployment for deployment in history if deployment.id == made.id), None)
    signed = listed is not None and listed.claim is not None and bool(listed.claim.signature)
    return signed and listed is not None and listed.doubt is Doubt.UNSIGNED


def _deploy(tools: Toolbox, under: Deployment, text: str) -> Deployment:
    """Deploy what a deployment serves; a target at 0 % that a proof left behind must not stand in the way."""
    try:
        return tools.deployments.deploy(under.shares, message=text, cohorts=under.cohorts)
    except (Refused, ProviderRejected):  # its secrets changed, or it can no longer run
        with_traffic = tuple(share for share in under.shares if under.serves(share.version))
        if len(with_traffic) == len(under.shares):
            raise
        return tools.deployments.deploy(with_traffic, message=text, cohorts=under.cohorts)


def _put_back(tools: Toolbox, aside: Deployment) -> Deployment:
    """Make live again what a remark pushed aside."""
    try:
        # A moment ago it was deliberately live, its secrets included.
        message = f"put back by backout: {aside.message}"
        return tools.deployments.deploy(aside.shares, message=message, force=True, cohorts=aside.cohorts)
    except BackoutError as error:
        raise WorldMoved(
            f"deployment {aside.id} (version {aside.main}) came at the same moment as a remark on the one before it, "
            f"lost its traffic to that, and could not be put back: {error}",
            where=tools.environment,
            hint=f"make version {aside.main} live again, by hand",
        ) from error


def _find_beneath(history: Sequence[Deployment], made: Deployment) -> Deployment | None:
    """Return what was live before our remark; None when others decide by now, or the list does not say."""
    live = find_underneath(history) if history else None
    if live is None or live.message != made.message:
        return None
    below = history[history.index(live) + 1 :]
    return next((deployment for deployment in below if deployment.message != made.message), None)


def find_written(history: Sequence[Deployment], remark: Remark) -> Deployment | None:
    """Return the deployment that carries this run's remark; a person's remark (no run) is separate each time.

    A run may say the same about several versions: each is a separate remark.
    """
    if not remark.run:
        return None
    of_it = [each for each in history if each.claim is not None and _speak_of_one(each.claim, remark)]
    return find_own(of_it, remark.run, remark.kind)


def _speak_of_one(one: Remark, other: Remark) -> bool:
    if one.code is None or other.code is None:
        return one.code is other.code
    return is_same_version(one.code.version, other.code.version)


def _find_after_error(tools: Toolbox, remark: Remark, error: BackoutError) -> Deployment | None:
    """Return a remark that was made although no answer came back; a list that fails is asked for again."""
    if not isinstance(error, ProviderUnavailable) or not remark.run:
        return None
    deadline = tools.clock.now() + READ_AGAIN_S
    while True:
        try:
            found = find_written(tools.deployments.history(), remark)
        except ProviderUnavailable:
            found = None
        if found is not None or tools.clock.now() >= deadline:
            return found
        tools.clock.sleep(READ_EVERY_S)
