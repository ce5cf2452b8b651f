"""What a person means by TARGET: a version id, deployment id, number, tag, git sha prefix, or a time; pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backout.errors import UsageError
from backout.model.clock import to_utc
from backout.model.version import VersionId

if TYPE_CHECKING:
    from backout.model.situation import Situation

_AGO = re.compile(r"^(\d+(?:\.\d+)?)\s*(s|sec|seconds?|m|min|minutes?|h|hours?|d|days?)\s+ago$")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MIN_PREFIX = 4


def parse_time(text: str, now: float) -> float | None:
    """Return Unix seconds for "2 hours ago", "15m ago", RFC 3339, or "HH:MM[:SS]" (UTC, today); None for anything else.

    >>> parse_time("2 hours ago", 10_000.0)
    2800.0
    >>> parse_time("2026-11-25T10:00:00Z", 0.0)
    1795600800.0
    >>> parse_time("v41", 0.0), parse_time("25:00", 0.0), parse_time("23:59", 0.0)
    (None, None, 86340.0)
    """
    text = text.strip()
    ago = _AGO.match(text.lower())
    if ago:
        return now - float(ago[1]) * _SECONDS[ago[2][0]]
    clock = re.match(r"^(\d{1,2}):(\d{2})(?::(\d{2}))?Z?$", text)
    if clock:
        if int(clock[1]) > 23 or int(clock[2]) > 59 or int(clock[3] or 0) > 59:
            return None
        midnight = now - now % 86400
        return midnight + int(clock[1]) * 3600 + int(clock[2]) * 60 + int(clock[3] or 0)
    if re.match(r"^\d{4}-\d{2}-\d{2}", text):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return None


def resolve(text: str, situation: Situation) -> VersionId:
    """Return the version that `text` means.

    Raises:
        UsageError: nothing matches, or several versions do (all are named).
    """
    matches = match_versions(text, situation)
    if not matches:
        at = parse_time(text, situation.read_at)
        if at is not None:
            return _find_live_at(at, text, situation)
        raise UsageError(f"no version or deployment matches '{text}'", hint="backout deployments list")
    if len(matches) > 1:
        listed = ", ".join(sorted(matches))
        raise UsageError(f"'{text}' is ambiguous: it matches versions {listed}", hint="type more of the id")
    return matches.pop()


def is_time(text: str, situation: Situation) -> bool:
    """Whether `resolve` would read `text` as a time."""
    return not match_versions(text, situation) and parse_time(text, situation.read_at) is not None


def match_versions(text: str, situation: Situation) -> set[VersionId]:
    """Match exact ids, numbers and tags first; prefixes only when nothing matches exactly.

    A version that was live is named by its id even when the provider no longer deploys it: that is said later.
    """
    number = text.removeprefix("v")
    exact: set[VersionId] = set()
    known = (*situation.versions, *situation.kept)
    for version in known:
        if text in (version.id, version.tag, version.git_sha) or (number.isdigit() and int(number) == version.number):
            exact.add(version.id)
    listed = situation.listed or situation.history
    lived = {share.version for deployment in listed for share in deployment.shares}
    exact |= {deployment.main for deployment in listed if deployment.id == text} | ({VersionId(text)} & lived)
    if exact:
        return exact
    if len(text) < _MIN_PREFIX or not re.fullmatch(r"[0-9a-fA-F-]+", text):
        return set()
    prefix = text.lower()
    found = {version for version in {*lived, *(v.id for v in known)} if version.lower().startswith(prefix)}
    found |= {v.id for v in known if v.git_sha and v.git_sha.lower().startswith(prefix)}
    found |= {d.main for d in listed if d.id.lower().startswith(prefix)}
    return found


def _find_live_at(at: float, text: str, situation: Situation) -> VersionId:
    if at > situation.read_at:
        raise UsageError(f"'{text}' lies in the future", hint="backout deployments list")
    for deployment in situation.history:
        if deployment.created_at <= at:
            return deployment.main
    oldest = situation.history[-1] if situation.history else None
    since = to_utc(oldest.created_at).strftime("%Y-%m-%dT%H:%M:%SZ") if oldest else "never"
    raise UsageError(
        f"nothing is known to have been live at '{text}'; the provider's history begins at {since}",
        hint="backout deployments list",
    )
