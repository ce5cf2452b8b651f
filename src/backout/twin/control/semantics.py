"""Cloudflare's rules about versions, bindings, secrets and deployments, as pure functions over records.

Where the documentation gives no number for a refusal the code is a guess and says so.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from backout.twin.api.answers import ApiError
from backout.twin.control.records import (
    SECRET_TYPES,
    UPDATE_STRATEGY,
    ApiObject,
    Deployment,
    Script,
    Share,
    StoredModule,
    Version,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

WINDOW = 100
"""Only this many of a script's newest versions can be deployed (documented 2025-09-11)."""
MAX_VERSIONS = 2
MAX_COHORTS = 5
_COHORT = re.compile(r"[A-Za-z0-9_-]{1,10}")
_MOST_DELAY_S = 86_400
MAX_MESSAGE_BYTES = 1000
_HUNDRED = 100.0
_TOLERANCE = 1e-6
SOURCE_MAP = "application/source-map"


def compute_etag(modules: Iterable[StoredModule], main_module: str) -> str:
    """Return the hash of the code: module names, types and bytes, never the configuration or the source maps."""
    parts = sorted((m.name, m.content_type, m.blob) for m in modules if m.content_type != SOURCE_MAP)
    return hashlib.sha256(repr((main_module, parts)).encode()).hexdigest()


def list_public_bindings(version: Version) -> list[ApiObject]:
    """Return the bindings as the API answers them: secrets by name only."""
    return [
        {"name": b["name"], "type": b["type"]} if b.get("type") in SECRET_TYPES else dict(b) for b in version.bindings
    ]


def merge_bindings(
    given: Iterable[ApiObject],
    keep: Collection[str],
    previous: Version | None,
    named: Callable[[str], Version | None] = lambda _id: None,
    *,
    strict: bool = False,
) -> tuple[ApiObject, ...]:
    """Return the bindings of a new version: the given ones, `inherit` resolved, and the kept types of the previous.

    Secrets are always kept: wrangler asks for it since 4.164 only, and no deploy before that lost one.

    Args:
        named: returns the version that an `inherit` names by its `version_id`; without one it is the previous.
        strict: an inherited binding has to exist; else one that does not is left out.

    Raises:
        ApiError: 10057 when an inherited binding has to exist and does not, 10021 when one has no name or type.
    """
    before = {str(b["name"]): b for b in previous.bindings} if previous else {}
    merged: dict[str, ApiObject] = {}
    for binding in given:
        name, kind = binding.get("name"), binding.get("type")
        if not isinstance(name, str) or not isinstance(kind, str):
            raise ApiError(400, 10021, "Every binding needs a name and a type.")
        found = binding if kind != "inherit" else _inherit_binding(binding, name, _find_source(binding, before, named))
        if found is not None:
            merged[name] = found
        elif strict:
            text = f"Cannot inherit binding {name!r}: the previous version of this Worker has no such binding."
            raise ApiError(400, 10057, text)
    for name, binding in before.items():
        if name not in merged and binding.get("type") in {*keep, *SECRET_TYPES}:
            merged[name] = binding
    return tuple(merged.values())


def _find_source(
    binding: ApiObject, before: Mapping[str, ApiObject], named: Callable[[str], Version | None]
) -> Mapping[str, ApiObject]:
    wanted = str(binding.get("version_id", "latest"))
    if wanted == "latest":
        return before
    found = named(wanted)
    return {str(b["name"]): b for b in found.bindings} if found else {}


def _inherit_binding(binding: ApiObject, name: str, before: Mapping[str, ApiObject]) -> ApiObject | None:
    source = before.get(str(binding.get("old_name", name)))
    return None if source is None else {**source, "name": name}


def clean_annotations(given: object) -> dict[str, str]:
    """Return the caller's annotations; a message is cut at 1000 bytes, never inside a character."""
    if not isinstance(given, dict):
        return {}
    texts = {str(k): v for k, v in given.items() if isinstance(v, str)}
    return {key: text.encode()[:MAX_MESSAGE_BYTES].decode(errors="ignore") for key, text in texts.items()}


def parse_update_strategy(given: object) -> ApiObject:
    """Return how Durable Objects get their code: at once, or when they are idle and after `max_delay` seconds at most.

    Source: Cloudflare documentation, "Durable Objects code updates" (read 2026-12-01); wrangler 4.164's own check.

    Raises:
        ApiError: 400 where it says something else (the number is a guess).
    """
    if given is None:
        return dict(UPDATE_STRATEGY)
    told = given if isinstance(given, dict) else {}
    mode, delay = told.get("mode"), told.get("max_delay", UPDATE_STRATEGY["max_delay"])
    is_delay = isinstance(delay, int | float) and not isinstance(delay, bool) and 0 <= delay <= _MOST_DELAY_S
    if mode not in ("immediate", "deferred") or not is_delay or (mode == "immediate" and "max_delay" in told):
        raise ApiError(400, 10021, f"code_update_strategy is immediate, or deferred by at most {_MOST_DELAY_S} s.")
    return {"mode": mode} if mode == "immediate" else {"mode": mode, "max_delay": delay}


def find_delay_s(strategy: ApiObject) -> float:
    """Return for how many seconds Durable Objects may keep the code that they run."""
    delay = strategy.get("max_delay", 0)
    return float(delay) if isinstance(delay, int | float) else 0.0


def parse_shares(given: object) -> tuple[Share, ...]:
    """Return the shares of a deployment request.

    Raises:
        ApiError: 400 unless it is one or two different versions whose percentages sum to 100 (the number is a guess).
    """
    shares: list[Share] = []
    for item in given if isinstance(given, list) else ():
        if not isinstance(item, dict):
            break
        version_id, percentage = item.get("version_id"), item.get("percentage")
        if not isinstance(version_id, str) or isinstance(percentage, bool) or not isinstance(percentage, int | float):
            break
        shares.append(Share(version_id, float(percentage)))
    problem = _explain_shares_problem(shares, len(given) if isinstance(given, list) else 0)
    if problem:
        raise ApiError(400, 10021, problem)
    return tuple(shares)


def parse_cohorts(given: object, shares: tuple[Share, ...]) -> dict[str, tuple[Share, ...]]:
    """Return the cohorts of a deployment request; all of it together may have two versions.

    Source: Cloudflare documentation, "Cohort-based deployments" (read 2026-12-01).

    Raises:
        ApiError: 400 for anything else, as documented (its number is a guess).
    """
    found: dict[str, tuple[Share, ...]] = {}
    for item in given if isinstance(given, list) else ():
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str) or not isinstance(item, dict) or not _COHORT.fullmatch(name):
            raise ApiError(400, 10021, "A cohort has a name of at most 10 letters, digits, - and _, and versions.")
        if name.lower() in {known.lower() for known in found}:
            raise ApiError(400, 10021, f"Two cohorts are named {name}.")
        found[name] = parse_shares(item.get("versions"))
    if len(found) > MAX_COHORTS:
        raise ApiError(400, 10021, f"A deployment can hold at most {MAX_COHORTS} cohorts, not {len(found)}.")
    versions = {each.version_id for part in (shares, *found.values()) for each in part}
    if len(versions) > MAX_VERSIONS:
        raise ApiError(400, 10021, f"A deployment and its cohorts can hold at most {MAX_VERSIONS} versions together.")
    return found


def _explain_shares_problem(shares: list[Share], given: int) -> str | None:
    if given == 0 or len(shares) != given:
        return "A deployment needs versions, each with version_id and percentage."
    if len(shares) > MAX_VERSIONS:
        return f"A deployment can hold at most {MAX_VERSIONS} versions, not {len(shares)}."
    if len({share.version_id for share in shares}) != len(shares):
        return "A deployment cannot hold the same version twice."
    if any(not 0 <= share.percentage <= _HUNDRED for share in shares):
        return "A percentage must be between 0 and 100."
    total = sum(share.percentage for share in shares)
    if abs(total - _HUNDRED) > _TOLERANCE:
        return f"The percentages of a deployment must sum to 100, not {total:g}."
    return None


def check_window(script: Script, version: Version) -> None:
    """Raise ApiError for a version that is not among the newest 100 (10218; the number is a guess)."""
    if version.number <= script.last_number - WINDOW:
        raise ApiError(
            400,
            10218,
            f"Version {version.id} cannot be deployed: only the {WINDOW} most recently uploaded versions can.",
        )


def check_consumers(script: Script, known: Iterable[Script], refusal: ApiError) -> None:
    """Raise the refusal when a Tail Worker that the script names does not exist; it may name itself.

    Source: workers-sdk issues 3367 (an upload: 10007) and 8275 (a change of the settings: 10203).
    """
    if not set(script.consumers()) <= {script.name, *(other.name for other in known)}:
        raise refusal


def check_buckets(version: Version, existing: Collection[str]) -> None:
    """Raise ApiError for a version that is bound to an R2 bucket which is not there (10085)."""
    for bucket in version.buckets():
        if bucket not in existing:
            raise ApiError(400, 10085, f"R2 bucket '{bucket}' not found. Please use a different name and try again.")


def check_exports(versions: tuple[Version, ...]) -> None:
    """Raise ApiError for versions of one deployment that declare different `exports` (100405).

    Source: wrangler 4.164, `versions deploy`.
    """
    if any(version.exports != versions[0].exports for version in versions):
        raise ApiError(400, 100405, "All versions in a multi-version deployment must declare identical `exports`.")


def check_migrations(script: Script, version: Version) -> None:
    """Raise ApiError for a version from before (or after) the Durable Object migration that the script is at.

    Its number, 10211, is a guess.
    """
    if version.migration_tag != script.migration_tag:
        raise ApiError(
            400,
            10211,
            f"Version {version.id} cannot be deployed: a Durable Object migration lies between it "
            f"(at {version.migration_tag or 'none'}) and the current state (at {script.migration_tag or 'none'}).",
        )


def list_changed_secrets(target: Version, live: Iterable[Version]) -> tuple[str, ...]:
    """Return the names of the secrets that changed between an older target and the newest live version, sorted.

    A target newer than everything live brings its own secrets on purpose; so nothing changed behind its back.
    """
    newest = max(live, key=lambda version: version.number, default=None)
    if newest is None or target.number >= newest.number:
        return ()
    old, new = target.secrets(), newest.secrets()
    return tuple(sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name)))


def check_secrets(targets: Iterable[Version], live: tuple[Version, ...]) -> None:
    """Raise ApiError where old secrets would come back, which the caller may force (10220)."""
    names = sorted({name for target in targets for name in list_changed_secrets(target, live)})
    if names:
        raise ApiError(
            400,
            10220,
            f"You cannot deploy this version without force. The following secrets have changed: {', '.join(names)}",
        )


def check_names(latest: Version, names: Iterable[str]) -> None:
    """Raise ApiError for a secret under a name that another kind of binding has already (10053)."""
    taken = {str(b["name"]) for b in latest.bindings if b.get("type") not in SECRET_TYPES}
    for name in names:
        if name in taken:
            raise ApiError(
                400, 10053, f"Binding name '{name}' already in use. Please use a different name and try again."
            )


def check_latest_is_live(latest: Version | None, live: Deployment | None) -> Version:
    """Return the newest version, which a change of secrets builds on.

    Raises:
        ApiError: 10215 when it does not serve 100 %. That a split also counts as "not deployed" is a guess.
    """
    if latest is None or live is None or [s.version_id for s in live.shares if s.percentage > 0] != [latest.id]:
        raise ApiError(
            400,
            10215,
            "Secret edit failed. You attempted to modify a secret, but the latest version of your Worker "
            "isn't currently deployed.",
        )
    return latest
