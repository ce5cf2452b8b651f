"""Checks of the access to the platform: tokens, the environment's identity, the clock, the marks' key; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import asdict

from backout.analysis.history.remarks import is_remark
from backout.errors import AuthError, Refused, Unmeasured
from backout.model.checkup import must, should
from backout.model.clock import describe_offset, format_duration, is_off, to_utc
from backout.model.hint import suggest_command, suggest_line, suggest_setting, suggest_words
from backout.model.setting import describe_setting
from backout.model.token import Needed, TokenRole, find_needed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from backout.model.checkup import Check
    from backout.model.deployment import Deployment
    from backout.model.hint import Hint
    from backout.model.identity import Identity
    from backout.model.token import Permission, TokenState

SOON_S: Final = 14 * 86_400.0
"""A token that expires within this is reported, so that it need not be replaced at night."""
_MAY_BE_UNREADABLE: Final = frozenset({"database_system_identifier"})


def check_tokens(
    states: Sequence[TokenState],
    needed: Needed,
    *,
    now: float,
    outlives_s: float,
    acts: bool,
    places: Mapping[str, str],
) -> Iterator[Check]:
    """Yield for each token whether it is valid for long enough, and whether it may do what it is for.

    Args:
        now: Unix seconds by the provider's clock.
        outlives_s: so long a token has to be valid, or no watch begins.
        acts: whether guard acts by itself.
        places: {role: where its token is kept, in words}.
    """
    roles = [state.role for state in states]
    for state in states:
        name = "token" if state.role == "all" else f"token_{state.role}"
        place = places.get(state.role, "its place")
        yield _check_validity(name, state, now, outlives_s, suggest_words(f"put a new token into {place}"))
        if state.valid:
            mine = Needed(find_needed(needed.permissions, state.role, roles), needed.template)
            yield _check_permission(f"{name}_permissions", state, mine, acts=acts, place=place)


def _check_validity(name: str, state: TokenState, now: float, outlives_s: float, renew: Hint) -> Check:
    if not state.valid:
        return must(name).missing(f"it is not valid: {state.status}", renew, code=AuthError.exit_code)
    if state.expires_at is None:
        return must(name).ok(f"{state.status}; it does not expire")
    left_s, until = state.expires_at - now, f"until {to_utc(state.expires_at):%Y-%m-%d %H:%M} UTC"
    if left_s < outlives_s:
        lacks = f"and a watch begins only when {format_duration(outlives_s)} are left"
        why = f"it expires in {format_duration(max(left_s, 0.0))}, {lacks}"
        return must(name).missing(why, renew, code=Refused.exit_code)
    if left_s < SOON_S:
        return should(name).missing(f"it expires in {format_duration(left_s)}: it is valid {until}", renew)
    return must(name).ok(f"{state.status}, {until}")


def _check_permission(name: str, state: TokenState, needed: Needed, *, acts: bool, place: str) -> Check:
    if state.scopes is None:
        vital = list_uses(each for each in needed.permissions if not each.optional)
        why = f"it may not read its own permissions: they show only when it is used. It needs {vital}"
        return should(name).unmeasured(
            why, suggest_words('give it "API Tokens Read" as well, or look at it in the dashboard')
        )
    lacking = [each for each in needed.permissions if not each.is_in(state.scopes)]
    missing, less = ([each for each in lacking if each.optional is wanted] for wanted in (False, True))
    more = f'; "not measured" without it: {list_uses(less)}' if less else ""
    if not missing:
        return must(name).ok(f"{', '.join(state.scopes)}{more}")
    blocks = any(each.vital and (acts or each.role is TokenRole.READ) for each in missing)
    only_reads = all(each.role is not TokenRole.READ for each in missing if each.vital)
    so = ": it can read, but not roll back" if only_reads and any(each.vital for each in missing) else ""
    why = f"it lacks {list_uses(missing)}{so}{explain_template(missing, needed.template)}"
    names = " and ".join(dict.fromkeys(f'"{each.name}"' for each in missing))
    return must(name, when=blocks).missing(why, suggest_words(f"put a token with {names} into {place}"))


def list_uses(permissions: Iterable[Permission]) -> str:
    """Return permissions with what each is for, as '"A" (to look; to list), "B" (to set)'."""
    uses: dict[str, list[str]] = {}
    for each in permissions:
        uses.setdefault(each.name, []).append(each.use)
    return ", ".join(f'"{name}" ({"; ".join(said)})' for name, said in uses.items())


def explain_template(missing: Iterable[Permission], template: str) -> str:
    """Return which of these the dashboard's template for tokens does not have, as the end of a sentence, or ""."""
    lacks = list(dict.fromkeys(each.name for each in missing if not each.templated))
    return f'; the template "{template}" has no {" and no ".join(lacks)}' if lacks else ""


def check_identity(pinned: Identity, found: Identity, environment: str) -> Check:
    """Return whether the environment is the one that is pinned, and all of it is pinned."""
    differs = pinned.differences(found)
    wrong = [each for each in differs if each[2] is not None or each[0] not in _MAY_BE_UNREADABLE]
    if wrong:
        said = "; ".join(f"{name}: pinned {mine}, found {other or 'none'}" for name, mine, other in wrong)
        rebuilt = suggest_command("init --pin --force", environment, "if it was rebuilt on purpose")
        return must("pin").missing(said, rebuilt, code=Refused.exit_code)
    mine, there = asdict(pinned), asdict(found)
    loose = [name for name, value in there.items() if value is not None and mine[name] is None]
    if loose:
        why = f"not pinned: {', '.join(loose)}; a change compares only what is pinned"
        return should("pin").not_set_up(why, suggest_command("init --pin", environment))
    if differs:
        why = f"{', '.join(name for name, _, _ in differs)} could not be compared just now"
        return should("pin").unmeasured(why, suggest_command("config check --online", environment))
    count = sum(value is not None for value in mine.values())
    return must("pin").ok(f"{count} parts of the identity are as they are pinned")


def check_clock(offset_s: float | None) -> Check:
    """Return whether this machine's clock agrees with the provider's."""
    if offset_s is None:
        return should("clock").unmeasured("the provider's clock could not be read")
    if is_off(offset_s):
        return should("clock").missing(
            describe_offset(offset_s), suggest_line("timedatectl set-ntp true", "or as this machine sets its clock")
        )
    return should("clock").ok(describe_offset(offset_s))


def check_platform(history: Sequence[Deployment], deploy: Hint, environment: str) -> Check:
    """Return whether the application is there and something is live, on every host; remarks make nothing live.

    Args:
        deploy: how a version is deployed on this platform.
    """
    live = next((each for each in history if not is_remark(each)), history[-1] if history else None)
    if live is None:
        return must("platform").missing("the application is there, and nothing was ever deployed", deploy)
    if history[0].hosts:
        look = suggest_command("deployments list", environment, "then `backout runs resume RUN`, or make one live")
        return must("platform").missing(f"the hosts differ: {history[0].describe_hosts()}", look)
    return must("platform").ok(f"version {live.main} is live since {to_utc(live.created_at):%Y-%m-%d %H:%M} UTC")


def check_no_application(answer: str, deploy: Hint) -> Check:
    """Return that the platform knows no application of that name; `answer`: what it said."""
    return must("platform").missing(answer.rstrip("."), deploy, code=Unmeasured.exit_code)


def check_first_deployment() -> Check:
    """Return that nothing is live yet, before the first deployment."""
    return must("platform").allowed("nothing is live yet: this is the first deployment")


def check_marks(variable: str, keys: int, *, signs: bool, acts: bool) -> Check:
    """Return whether marks are signed, and their key is here."""
    if not signs:
        why = "marks are not signed: whoever may deploy can stop guard" if acts else "marks are not signed"
        return should("marks_key").not_set_up(
            why, suggest_setting(describe_setting("marks", key_env="BACKOUT_MARKS_KEY"))
        )
    if not keys:
        why = "marks are signed, but their key is not here: which versions are stable is unknown"
        return must("marks_key").missing(why, suggest_words(f"set {variable} to the key that the other machines have"))
    return must("marks_key").ok("marks are signed, and the key is here")
