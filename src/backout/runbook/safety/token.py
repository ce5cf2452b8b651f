"""The token for acting: valid beyond the watch, checked again during it, and its loss told at once (safety rule 2)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from backout.errors import AuthError, BackoutError, ProviderUnavailable, Refused
from backout.model.guard.verdict import Verdict
from backout.model.incident.notice import NoticeKind
from backout.rules import SafetyRule
from backout.runbook.incident.tell import tell

if TYPE_CHECKING:
    from backout.model.guard.verdict import Decision
    from backout.model.token import TokenState
    from backout.runbook.toolbox import Toolbox

MARGIN_S: Final = 86_400.0
"""A token must outlive the watch by this much: a regression found at the end is repaired with the same token."""
CHECK_EVERY_S, CHECK_AGAIN_S = 300.0, 3.0
"""How often the token is checked during a watch, and how soon again after a refusal."""
REFUSALS: Final = 2
"""How many refusals in a row mean that it is lost; one may be the provider's mistake."""


def check_tokens(tools: Toolbox, for_s: float) -> None:
    """Say what each token may do, and check that it is valid for that many seconds and a day.

    If the provider does not tell just now, that is said instead.

    Raises:
        AuthError: a token is not valid.
        Refused: one expires too soon.
    """
    if tools.safety.token is None:
        return
    try:
        states = tools.safety.token.look()
    except ProviderUnavailable as error:
        tools.say(f"the token could not be checked ({error.what}); the watch checks it again")
        return
    for state in states:
        if not state.valid:
            raise AuthError(f"{_name_token(state)} is not valid: {state.status}", where=tools.environment, hint=_RENEW)
        if state.expires_at is not None and state.expires_at < tools.clock.now() + for_s + MARGIN_S:
            raise Refused(
                f"{_name_token(state)} expires at {_format_time(state.expires_at)}: it has to outlive the watch of "
                f"{for_s:g} s by "
                f"{MARGIN_S / 3600:g} h",
                where=tools.environment,
                rule=SafetyRule.TOKEN,
                options=(
                    "make a token that lives longer (or does not expire), and put it in its place",
                    f"without a watch: `backout rollback -e {tools.environment} -m WHY`",
                ),
            )
        tools.say(f"{_name_token(state)} is {describe_worth(state)}")


_RENEW: Final = "put a valid token in its place; backout config check --online shows what it is worth"


class TokenWatch:
    """The token during one watch.

    Attributes:
        lost: why it counts as lost, or "". If it is found valid again, it is no longer lost.
    """

    def __init__(self, tools: Toolbox, run: str) -> None:
        self._tools = tools
        self._run = run
        self._check_at = tools.clock.now() + CHECK_EVERY_S
        self._refusals: Counter[str] = Counter()
        self.lost = ""

    def tick(self) -> None:
        """Check the tokens when it is due; a token that cannot be checked is not lost."""
        tools = self._tools
        now = tools.clock.now()
        if tools.safety.token is None or now < self._check_at:
            return
        self._check_at = now + CHECK_EVERY_S
        try:
            bad = next((state for state in tools.safety.token.look() if not state.valid), None)
        except BackoutError:
            return
        if bad is None:
            self.note_accepted("look")
        else:
            self.note_refused("look", f"{_name_token(bad)} is {bad.status}")

    def note_accepted(self, by: str) -> None:
        """Note that the provider accepted a token, in a "look" at it or in a "call" of the watch."""
        self._refusals[by] = 0
        if not any(self._refusals.values()):
            self.lost = ""

    def note_refused(self, by: str, why: str) -> None:
        """Note that the provider refused a token, and look again in a few seconds; the second time it is lost."""
        self._refusals[by] += 1
        self._check_at = min(self._check_at, self._tools.clock.now() + CHECK_AGAIN_S)
        if self._refusals[by] >= REFUSALS and not self.lost:
            self.lost = why
            _tell_lost(self._tools, self._run, why)


def _tell_lost(tools: Toolbox, run: str, why: str) -> None:
    text = f"The provider refuses the token ({why}). The watch goes on, but guard cannot roll back."
    tools.say(f"the token is lost: {why}; the watch goes on, but nothing can be rolled back")
    tell(
        tools,
        NoticeKind.TOKEN_LOST,
        f"{tools.environment}: the token is lost during a watch",
        text,
        key=run,
        run=run,
        next=("backout config check --online", f"backout status -e {tools.environment}"),
    )


def tell_nobody_acts(tools: Toolbox, run: str, decision: Decision, error: AuthError) -> AuthError:
    """Send the notice that a watch ended and its verdict could not be acted on, and return the error that says so."""
    left_undone = "not marked stable" if decision.verdict is Verdict.HEALTHY else "not rolled back"
    what = f"{decision.verdict}, and the token is lost: {left_undone}"
    tell(
        tools,
        NoticeKind.TOKEN_LOST,
        f"{tools.environment}: {what}",
        f"{decision.reason}. {error.what}.",
        key=f"{run}:end",
        run=run,
        next=(f"backout rollback -e {tools.environment} -m WHY",),
        facts={"verdict": str(decision.verdict), "version": decision.version},
    )
    return AuthError(
        f"{what} ({decision.reason})",
        where=error.where or tools.environment,
        hint=f"with a valid token: backout rollback -e {tools.environment} -m WHY",
    )


def _name_token(state: TokenState) -> str:
    return "the token" if state.role == "all" else f"the token for {state.role}"


def describe_worth(state: TokenState) -> str:
    """Return a token's state, its expiry, and what it may do."""
    if not state.valid:
        return state.status
    until = "does not expire" if state.expires_at is None else f"until {_format_time(state.expires_at)}"
    scopes = "may not read its own permissions" if state.scopes is None else f"may: {', '.join(state.scopes)}"
    return f"{state.status}; {until}; {scopes}"


def _format_time(at: float) -> str:
    from backout.report.times import format_time

    return format_time(at)
