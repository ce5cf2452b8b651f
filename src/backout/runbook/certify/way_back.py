"""What a trial said of the way back that a rollback is about to take."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.analysis.certify.wording import describe_certificate
from backout.errors import BackoutError
from backout.runbook.certify.certificates import find_certificate, list_certificates

if TYPE_CHECKING:
    from collections.abc import Collection

    from backout.model.database.certificate import Certificate
    from backout.model.situation import Situation
    from backout.runbook.toolbox import Toolbox

_WRITES: Final = re.compile(
    r"\s*(?:(?:insert|update|delete|merge|truncate|with)\b|copy\b.*\bfrom\b)", re.IGNORECASE | re.DOTALL
)


def heed_trial(tools: Toolbox, situation: Situation) -> Situation:
    """Return the situation, with what failed in a trial of a way back from what is live, where one still counts."""
    if situation.schema.refuted:
        return situation
    found = find_way_back(tools, situation, old=None, new=situation.live.main)
    if found is None or found[0].reversible is not False:
        return situation
    return replace(situation, schema=replace(situation.schema, refuted=describe_certificate(found[0])))


def find_way_back(tools: Toolbox, situation: Situation, *, old: str | None, new: str) -> tuple[Certificate, str] | None:
    """Return the certificate of a way back that still counts, and why that is not known for sure ("" where it is).

    The migrations that it is about have to be the newest ones in the history, with the checksums of the trial.

    Args:
        old, new: the version to return to (None: whatever was tried), and the one being left.
    """
    state = situation.schema.state
    if state is None or not any(True for _ in list_certificates(tools.journal, tools.environment)):
        return None
    names_of_old = None if old is None else _list_names(tools, old)
    names_of_new = _list_names(tools, new)
    applied = [(each.name, each.checksum) for each in state.applied if each.rolled_back_at is None]
    for count in range(len(applied) + 1):
        at = len(applied) - count
        found = find_certificate(
            tools.journal,
            tools.environment,
            old=names_of_old,
            new=names_of_new,
            head=applied[at - 1][0] if at else "",
            migrations=applied[at:],
            now=tools.clock.now(),
        )
        if found is not None:
            return _check_writes(tools, situation, found)
    return None


def _list_names(tools: Toolbox, version: str) -> Collection[str]:
    """Return what a certificate may call a version: its id, and the hash of its code where that is kept here."""
    from backout.model.bundle import hash_modules

    try:
        kept = tools.rollback.bundle_store.find(version) if tools.rollback.bundle_store is not None else None
    except BackoutError:
        kept = None
    return {version} if kept is None else {version, hash_modules(kept.modules)}


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
    counts = find_certificate(
        tools.journal,
        tools.environment,
        old={found.old},
        new={found.new},
        head=found.head,
        migrations=found.migrations,
        now=tools.clock.now(),
        writes=writes,
    )
    return None if counts is None else (counts, "")
