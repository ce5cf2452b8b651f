"""The engine of all checks: questions asked in parallel, each with a deadline; missing answers are reported.

Questions that share a connection are in one lane and are asked one after the other. A question that does not come back
in time is left behind (its thread dies with the process), and so is the rest of its lane: it is not known what it still
uses.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from backout.errors import AuthError, BackoutError, ConfigError, Refused, UsageError
from backout.model.checkup import Check, CheckState, Level, Subject
from backout.model.hint import NO_HINT, Hint, parse_hint
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

WITHIN_S: Final = 8.0
"""How long one question may take."""
ALL_WITHIN_S: Final = 15.0
"""How long a lane may take."""
_WRONG: Final = (AuthError, ConfigError, Refused, UsageError)
"""The standing of a question that did not answer, in place of its check."""


class Question(Value, frozen=True):
    """One question of a checkup.

    Args:
        name: of its check, also when it does not answer.
        level: of that.
        ask: returns its checks, one or more; raises BackoutError.
        next: what to type when it does not answer.
    """

    name: str
    level: Level
    ask: Callable[[], Iterable[Check]]
    next: Hint = NO_HINT
    within_s: float = WITHIN_S


Lane = tuple[Question, ...]


def examine(lanes: Sequence[Lane], environment: str, *, within_s: float = ALL_WITHIN_S) -> tuple[Check, ...]:
    """Ask every question about an environment.

    Returns the checks in the order of the lanes, after `within_s` at the latest.
    """
    found: list[list[Check]] = [[] for _ in lanes]
    threads = [
        threading.Thread(target=_walk, args=(lane, environment, checks, within_s), name="backout-checkup", daemon=True)
        for lane, checks in zip(lanes, found, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tuple(check for checks in found for check in checks)


def _walk(lane: Lane, environment: str, found: list[Check], within_s: float) -> None:
    ends = time.monotonic() + within_s
    for number, question in enumerate(lane):
        answer = _ask_in_time(question, environment, min(question.within_s, max(ends - time.monotonic(), 0.0)))
        if answer is None:
            why = f"no answer within {min(question.within_s, within_s):g} s"
            found.append(Subject(question.name, question.level).unmeasured(why, question.next))
            for other in lane[number + 1 :]:
                not_asked = f"not asked: {question.name} did not answer"
                found.append(Subject(other.name, other.level).unmeasured(not_asked, other.next))
            return
        found += answer


def _ask_in_time(question: Question, environment: str, within_s: float) -> list[Check] | None:
    """Return its checks, None when it did not answer in time."""
    answered: list[list[Check]] = []
    thread = threading.Thread(
        target=lambda: answered.append(_ask_question(question, environment)),
        name=f"backout-{question.name}",
        daemon=True,
    )
    thread.start()
    thread.join(within_s)
    return answered[0] if answered else None


def _ask_question(question: Question, environment: str) -> list[Check]:
    try:
        return list(question.ask())
    except BackoutError as error:
        state = CheckState.MISSING if isinstance(error, _WRONG) else CheckState.UNMEASURED
        mistakes = "; ".join(error.mistakes) if isinstance(error, ConfigError) else ""
        hint = parse_hint(error.hint, environment) if error.hint else question.next
        why = mistakes or str(error.what)
        return [Check(question.name, question.level, state, why, hint, error.exit_code)]
    except Exception as error:  # noqa: BLE001 the other questions are asked all the same
        why = f"a mistake in backout itself: {type(error).__name__}: {error}"
        return [Subject(question.name, question.level).unmeasured(why, question.next)]
