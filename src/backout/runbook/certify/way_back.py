"""What a trial said of the way back that a rollback is about to take: the newest one of the same two versions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.analysis.certify.wording import describe_certificate
from backout.errors import BackoutError
from backout.runbook.certify.certificates import has_unknown_write, is_about_new, is_about_old, list_counting

if TYPE_CHECKING:
    from collections.abc import Collection

    from backout.model.database.certificate import Certificate
    from backout.model.situation import Situation
    from backout.runbook.toolbox import Toolbox

_WRITES: Final = re.compile(
    r"\s*(?:(?:insert|update|delete|merge|truncate|with)\b|copy\b.*\bfrom\b)", re.IGNORECASE | re.DOTALL
)


def heed_trials(tools: Toolbox, situation: Situation) -> Situation:
    """Return the situation, with what failed in trials of a way back from what is live, by the version to return to.

    Of each pair of versions the newest trial counts.
    """
    left = {share.version for share in situation.live.shares if situation.live.serves(share.version)}
    found = _list_certificates(tools, situation, _list_names(tools, left))
    if not any(each.reversible is False for each in found):
        return situation
    refuted = {}
    for version in (*situation.versions, *situation.kept):
        newest = _find_newest(found, _list_names(tools, {version.id}))
        if newest is not None and newest.reversible is False:
            refuted[version.id] = describe_certificate(newest)
    return replace(situation, schema=replace(situation.schema, refuted_by_version=refuted))


def find_way_back(tools: Toolbox, situation: Situation, *, old: str, new: str) -> tuple[Certificate, str] | None:
    """Return the certificate of a way back that still counts, and why that is not known for sure ("" where it is).

    The migrations that it is about have to be the newest ones in the history, with the checksums of the trial.

    Args:
        old, new: the version to return to, and the one being left.
    """
    found = _list_certificates(tools, situation, _list_names(tools, {new}))
    newest = _find_newest(found, _list_names(tools, {old})) if found else None
    return None if newest is None else _check_writes(tools, situation, newest)


def _list_certificates(tools: Toolbox, situation: Situation, new: Collection[str]) -> list[Certificate]:
    """Return the certificates of ways back from this code that are young enough and about this schema, oldest first."""
    state = situation.schema.state
    if state is None:
        return []
    applied = [(each.name, each.checksum) for each in state.applied if each.rolled_back_at is None]

    def is_about_schema(found: Certificate) -> bool:
        at = len(applied) - len(found.migrations)
        return at >= 0 and tuple(applied[at:]) == found.migrations and found.head == (applied[at - 1][0] if at else "")

    return [
        found
        for found in list_counting(tools.journal, tools.environment, now=tools.clock.now())
        if is_about_new(found, new) and is_about_schema(found)
    ]


def _find_newest(found: list[Certificate], old: Collection[str]) -> Certificate | None:
    return next((each for each in reversed(found) if is_about_old(each, old)), None)


def _list_names(tools: Toolbox, versions: Collection[str]) -> Collection[str]:
    """Return what a certificate may call versions: their ids, and the hashes of their code where that is kept here."""
    from backout.model.bundle import hash_modules

    names, store = set(versions), tools.rollback.bundle_store
    for version in versions if store is not None else ():
        try:
            kept = store.find(version) if store is not None else None
        except BackoutError:
            continue
        if kept is not None:
            names.add(hash_modules(kept.modules))
    return names


def _check_writes(tools: Toolbox, situation: Situation, found: Certificate) -> tuple[Certificate, str] | None:
    """Return the certificate unless the new code has written in a way that the trial had no shape of."""
    if found.reversible is False:
        return found, ""  # more writes can make a yes void, never a no
    if tools.rollback.statements is None:
        return found, "whether the new code has written in other ways since is not known: no source of statements"
    try:
        read = tools.rollback.statements.read()
    except BackoutError as error:
        return found, f"whether the new code has written in other ways since is not known: {error.what}"
    since = situation.live.created_at
    writes = [each.sql for each in read if (each.since is None or each.since >= since) and _WRITES.match(each.sql)]
    return None if has_unknown_write(found, writes) else (found, "")
