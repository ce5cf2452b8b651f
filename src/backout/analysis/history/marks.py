"""Which deployment messages count as our marks: the one way from a provider's history to a remark; pure.

The message is free text, and pipelines put the subject of a commit there. So a message counts only
when the deployment did what a deployment with such a mark does (safety rule 15):

    prove, pair, stable, questioned, hold, release
                                   the versions with traffic are those of the deployment before it
    rollback                       all of the traffic goes from the version that it calls bad to another one, which had
                                   traffic before that one had any (or was uploaded before it, where nothing older is
                                   listed), or to the same code, uploaded again
    ramp                           the pair of versions of the deployment before it, with other shares; of a cut-over,
                                   it and the version before it
    secrets                        another version of the same code, in place of the one before it
    maintenance                    a version that is one by its tag, alone

The oldest that the provider lists has nothing before it, so it says nothing.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from backout.analysis.history.remark_text import parse
from backout.analysis.history.remarks import is_same_hash, is_same_version, is_served_alike, list_serving
from backout.model.remark import Doubt, RemarkKind
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.analysis.history.seal import Seal
    from backout.model.deployment import Deployment
    from backout.model.remark import Remark
    from backout.model.version import Version

    Detail = Callable[[str], Version | None]

LISTED = 10
"""The least number of deployments that a provider lists; a shorter list is complete."""
_MOST_VERSIONS = 2
_CARRIED = re.compile(r"\[backout ([!-Z\\^-~]+) carry\] ([!-~]+)(?: |\Z)", re.ASCII)


def find_nothing(version: str) -> Version | None:  # noqa: ARG001 one signature with what can look
    """Return None: nothing more is known of any version."""
    return None


def read_marks(
    history: Sequence[Deployment], detail: Detail = find_nothing, seal: Seal | None = None
) -> tuple[Deployment, ...]:
    """Return a provider's history, newest first, with what each deployment says: its `claim`, and the `doubt` of it.

    Args:
        history: all that the provider lists, newest first.
        detail: returns a version in full, None where it is not to be had; it is asked only where the history alone does
            not tell whether a rollback or a push is one.
        seal: what marks are signed with; with one, an unsigned mark is in doubt.
    """
    look = _Look(detail, seal, is_full=len(history) >= LISTED)
    read: list[Deployment] = []
    for deployment in reversed(history):
        read.insert(0, _read(deployment, read, look))
    return tuple(read)


class _Look(Value, frozen=True):
    """What is asked beside the list itself; `is_full`: there may have been deployments that it does not name."""

    detail: Detail
    seal: Seal | None
    is_full: bool


def _read(deployment: Deployment, below: Sequence[Deployment], look: _Look) -> Deployment:
    said = parse(deployment.message)
    if said is None or (below and _repeats(said, deployment, below[0])):
        return replace(deployment, claim=said, doubt=None)
    seal = look.seal
    signed = seal is not None and bool(below) and seal.is_good(said, below[0].id)
    doubt = _find_doubt(said, deployment, below, look)
    if signed and doubt in _SIGNED_AWAY:
        doubt = None
    elif doubt is None and seal is not None and not signed:
        doubt = Doubt.UNSIGNED
    return replace(deployment, claim=said, doubt=doubt)


_SIGNED_AWAY = (Doubt.NOT_BEFORE,)
"""What a list that is too short leaves open, and a signature settles."""


def _repeats(said: Remark, deployment: Deployment, before: Deployment) -> bool:
    """Whether a switch was made once more: its first answer was lost, and the list was late."""
    first = before.remark
    if first is None or not said.kind.moves_traffic or list_serving(deployment) != list_serving(before):
        return False
    # All that such a mark says: else anyone could repeat one with another meaning.
    ours, theirs = (
        (each.kind, each.run, each.auto, each.hop, each.code, each.until, each.incident) for each in (first, said)
    )
    return ours == theirs


def _find_doubt(said: Remark, deployment: Deployment, below: Sequence[Deployment], look: _Look) -> Doubt | None:
    """Return what speaks against a remark, or None."""
    if not below:
        return Doubt.SHARES if said.kind.moves_traffic else Doubt.PUSHED_OUT
    if not said.kind.moves_traffic:
        return _find_doubt_pure(said, deployment, below[0])
    if said.kind is RemarkKind.MAINTENANCE:
        shown = look.detail(deployment.sole) if deployment.sole is not None else None
        return None if shown is not None and shown.is_maintenance else Doubt.OTHER_CODE
    # What a maintenance stood between is compared with each other: it is an interruption, and no part of the history.
    below = [each for each in below if each.remark is None or each.remark.kind is not RemarkKind.MAINTENANCE]
    if not below:
        return Doubt.SHARES
    before = below[0]
    if said.kind is RemarkKind.ROLLBACK:
        return _find_doubt_of_rollback(said, deployment, below, look)
    if said.kind is RemarkKind.SECRETS:
        return _find_doubt_of_secrets(deployment, before, look.detail)
    pair = _list_pair(below)
    moved = (
        list_serving(deployment) != list_serving(before)
        and {version for version, _ in list_serving(deployment)} <= pair
    )
    return None if len(pair) == _MOST_VERSIONS and moved else Doubt.SHARES


def _list_pair(below: Sequence[Deployment]) -> set[str]:
    """Return the versions that the step of a ramp may move traffic between.

    Those of the deployment before it; of a cut-over, which a holdback turns into a split, it and the version before.
    """
    pair = {str(version) for version, _ in list_serving(below[0])}
    if len(pair) == 1:
        served = ({str(version) for version, _ in list_serving(deployment)} for deployment in below)
        pair |= next((versions for versions in served if versions != pair and len(versions) == 1), set())
    return pair


def _find_doubt_pure(said: Remark, deployment: Deployment, before: Deployment) -> Doubt | None:
    if not is_served_alike(deployment, before):
        return Doubt.SHARES
    if said.kind in (RemarkKind.PROVE, RemarkKind.PAIR):  # the target stands at 0 %, or has traffic beside another one
        return None if len(deployment.shares) == _MOST_VERSIONS else Doubt.SHARES
    if said.kind is RemarkKind.HOLD:
        return None
    if said.code is None:
        return Doubt.OTHER_CODE
    if said.kind is RemarkKind.STABLE and _find_served(deployment, said.code.version) is None:
        return Doubt.OTHER_CODE
    return None


def _find_doubt_of_rollback(
    said: Remark, deployment: Deployment, below: Sequence[Deployment], look: _Look
) -> Doubt | None:
    target, code = deployment.sole, said.code
    bad = _find_served(below[0], code.version) if code is not None else None
    if target is None or bad is None:
        return Doubt.SHARES
    if target == bad:
        return Doubt.OTHER_CODE
    earlier = _Earlier(bad, below, look)
    return (
        None if earlier.has(target) or earlier.has(_find_original(target, said.run, look.detail)) else Doubt.NOT_BEFORE
    )


class _Earlier:
    """What had traffic before a version had any, as far as the list reaches; beyond that, what was uploaded before."""

    def __init__(self, bad: str, below: Sequence[Deployment], look: _Look) -> None:
        since = next((number for number, d in enumerate(below) if not d.serves(bad)), len(below))
        self._listed = {str(share.version) for d in below[since:] for share in d.shares if share.percentage > 0}
        self._is_beyond = look.is_full and since == len(below)
        self._bad, self._detail = bad, look.detail

    def has(self, version: str) -> bool:
        if not version or not self._is_beyond:
            return version in self._listed
        made, bad = self._detail(version), self._detail(self._bad)
        return made is not None and bad is not None and made.number < bad.number


def _find_original(target: str, run: str, detail: Detail) -> str:
    """Return the version whose code that run uploaded again as the target, "" when it is no such upload."""
    new = detail(target)
    found = _CARRIED.match(new.message) if new is not None else None
    if new is None or found is None or found[1] != run:
        return ""
    old = detail(found[2])
    return found[2] if old is not None and is_same_hash(new.code_hash, old.code_hash) else ""


def _find_doubt_of_secrets(deployment: Deployment, before: Deployment, detail: Detail) -> Doubt | None:
    new, old = deployment.sole, before.sole
    if new is None or old is None or new == old:
        return Doubt.SHARES
    made, left = detail(new), detail(old)
    same = made is not None and left is not None and is_same_hash(made.code_hash, left.code_hash)
    return None if same else Doubt.OTHER_CODE


def _find_served(deployment: Deployment, digits: str) -> str | None:
    """Return the version of these first digits when it has traffic."""
    return next((s.version for s in deployment.shares if s.percentage > 0 and is_same_version(digits, s.version)), None)
