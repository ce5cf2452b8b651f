"""Why both versions of a cut-over are not asked side by side, in words, and what a person can do about that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import Refused
from backout.model.guard.policy import Mode
from backout.model.value import Value

if TYPE_CHECKING:
    from backout.errors import BackoutError
    from backout.model.guard.policy import SyntheticCheck
    from backout.model.steps.guard import WatchStep
    from backout.runbook.toolbox import Toolbox


class Obstacle(Value, frozen=True):
    """Why both versions are not asked, in words, and what a person can do about it: whole sentences with commands."""

    why: str
    options: tuple[str, ...] = ()


def find_obstacle(tools: Toolbox, args: WatchStep, mode: Mode) -> Obstacle | None:
    """Return the obstacle to asking both versions, as far as one is known when a watch begins.

    Args:
        args: of the step `watch`.
        mode: the mode it was started with: `observe` deploys nothing, `ask` deploys nothing unasked.
    """
    next_time, environment = "to have both versions asked the next time", tools.environment
    if mode is Mode.OBSERVE:
        option = f"{next_time}: `backout guard -e {environment} --mode act --next`"
        return Obstacle("guard only observes, so it deploys nothing (mode = observe)", (option,))
    if mode is Mode.ASK and tools.guard.consent is None:
        option = f"{next_time}: type `backout guard -e {environment} --mode ask --next` on a terminal"
        return Obstacle("guard deploys nothing unasked (mode = ask), and there is no terminal to ask on", (option,))
    if args.old in ("", args.version):
        return Obstacle("there is no version before it to compare with")
    if args.split < 1:
        return Obstacle("the traffic is split, which tells the two apart already")
    if not list_safe_checks(tools):
        option = f"{next_time}: `backout init --ask-routes -e {environment}` looks for requests that are safe to send"
        return Obstacle("no request is declared that is safe to send (guard.synthetic)", (option,))
    if tools.guard.pairing is None:
        return Obstacle("no health check is set up", (f"{next_time}: set health.url in backout.toml",))
    return None


def list_safe_checks(tools: Toolbox) -> list[SyntheticCheck]:
    """Return the declared requests; never a visitor's URL, and none whose answer is intended to change."""
    meant = tools.policy.guard.expect
    asked = tools.policy.guard.asked
    return [check for check in asked if not any(each.covers(check.method, check.path) for each in meant)]


def make_obstacle(error: BackoutError, environment: str, doing: str = "") -> Obstacle:
    """Return an error as an obstacle, with the way on that it names."""
    if isinstance(error, Refused):
        seen = f"see what stands in the way of going back: `backout rollback --dry-run -e {environment}`"
        return Obstacle(f"{doing}{error.what}", tuple(error.options) or (seen,))
    return Obstacle(
        f"{doing}{error.what}", (f"then both can be asked the next time: {error.hint}",) if error.hint else ()
    )
