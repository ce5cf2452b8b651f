"""Expected secrets compared with present ones, and changes since: by names, fingerprints and versions; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.secrets import SecretsLook, SecretState, Since

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from backout.model.secrets import ExpectedSecrets, PushedSecret
    from backout.model.version import Version

BY_SECRET = "secret"  # noqa: S105 - a provider's word
"""How a provider says that a version was made by changing secrets alone."""
_SECRET = "secret_"  # noqa: S105 - how the kinds of bindings begin


def find_binding(version: Version, name: str) -> str:
    """Return how a version binds a name ("secret_text", "plain_text", ...), "" when it does not."""
    if name in version.secret_names:
        return next((kind for kind in _list_kinds(version, name) if kind.startswith(_SECRET)), "secret_text")
    return next(iter(_list_kinds(version, name)), "")


def _list_kinds(version: Version, name: str) -> list[str]:
    pairs = (binding.partition(":") for binding in version.bindings)
    return [kind for kind, _, found in pairs if found == name]


def look_at(  # noqa: PLR0913 - one keyword for each thing that is looked at
    environment: str,
    *,
    expected: ExpectedSecrets,
    live: Version,
    target: Version | None,
    target_why: str = "",
    returns: bool = False,
    versions: Sequence[Version] = (),
    pushes: Iterable[PushedSecret] = (),
    source: str = "",
    held: Mapping[str, str] | None = None,
) -> SecretsLook:
    """Return what is known of every name that is expected or bound.

    Args:
        target: what a rollback `returns` to, or would if it were allowed (`target_why`).
        versions: those that the provider still lists.
        pushes: of every name, in any order.
        held: the fingerprints of what the configured source holds now; None: it was not asked.
    """
    by_name: dict[str, list[PushedSecret]] = {}
    for push in sorted(pushes, key=lambda push: push.at):
        by_name.setdefault(push.name, []).append(push)
    known = {push.version for ours in by_name.values() for push in ours}
    # Changes of secrets made by others; the provider does not say which secret it was.
    outside = tuple(v.created_at for v in versions if v.triggered_by == BY_SECRET and v.id not in known)
    wanted = {
        "example": set(expected.example),
        "required": set(expected.required),
        "live": set(live.secret_names),
        "target": set(target.secret_names) if target else set(),
    }
    states = []
    for name in sorted(set().union(*wanted.values())):
        ours = by_name.get(name, [])
        states.append(
            SecretState(
                name=name,
                expected_by=tuple(who for who, names in wanted.items() if name in names),
                live=find_binding(live, name),
                target=find_binding(target, name) if target else "",
                pushed=ours[-1] if ours else None,
                since_push=_judge_since_push(name, live, ours, outside),
                since_target=None if target is None else _judge_since_target(name, live, target, ours, outside),
                source=None if held is None else _judge_source(held.get(name), ours),
            )
        )
    return SecretsLook(
        environment=environment,
        live=live.id,
        target=target.id if target else "",
        target_why=target_why,
        states=tuple(states),
        missing=tuple(state.name for state in states if not state.live),
        missing_in_target=tuple(s.name for s in states if target and "required" in s.expected_by and not s.target),
        source=source,
        example=expected.where,
        returns=returns,
    )


def is_comparable(one: str, other: str) -> bool:
    """Whether two fingerprints were made with the same key: a lost key makes none of its fingerprints wrong.

    >>> is_comparable("a1b2-0123", "a1b2-4567"), is_comparable("a1b2-0123", "ffff-0123")
    (True, False)
    """
    return one.partition("-")[0] == other.partition("-")[0]


def _judge_since_push(name: str, live: Version, ours: Sequence[PushedSecret], outside: Sequence[float]) -> Since | None:
    if not ours:
        return None
    if name not in live.secret_names:
        return Since.GONE
    if live.created_at < ours[-1].at:  # an older version is live, with the value of its own time
        before = _find_in_effect(ours, live.created_at)
        return _compare_secrets(before, ours[-1]) if before else Since.CHANGED
    return Since.MAYBE if any(ours[-1].at < at <= live.created_at for at in outside) else Since.SAME


def _judge_since_target(
    name: str, live: Version, target: Version, ours: Sequence[PushedSecret], outside: Sequence[float]
) -> Since:
    if name not in live.secret_names:
        return Since.GONE
    if name not in target.secret_names:
        return Since.ADDED
    older, newer = sorted((target.created_at, live.created_at))
    then, now = _find_in_effect(ours, older), _find_in_effect(ours, newer)
    if now is not None and now is not then:
        compared = Since.CHANGED if then is None else _compare_secrets(then, now)
        if compared is not Since.SAME:
            return compared
    return Since.MAYBE if any(older < at <= newer for at in outside) else Since.SAME


def _find_in_effect(ours: Sequence[PushedSecret], at: float) -> PushedSecret | None:
    """Return the last value that was set by then."""
    return next((push for push in reversed(ours) if push.at <= at), None)


def _compare_secrets(one: PushedSecret, other: PushedSecret) -> Since:
    if not is_comparable(one.fingerprint, other.fingerprint):
        return Since.MAYBE
    return Since.SAME if one.fingerprint == other.fingerprint else Since.CHANGED


def _judge_source(fingerprint: str | None, ours: Sequence[PushedSecret]) -> Since:
    if fingerprint is None:
        return Since.GONE
    if not ours or not is_comparable(fingerprint, ours[-1].fingerprint):
        return Since.MAYBE
    return Since.SAME if fingerprint == ours[-1].fingerprint else Since.CHANGED
