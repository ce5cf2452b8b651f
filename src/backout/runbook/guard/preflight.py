"""Before a watch: check that guard could act if it has to (safety rules 1, 2 and 13).

Each refusal is one of the checks that `backout doctor` and `backout preflight` show, by its name there: they say before
what would keep a watch from beginning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.errors import AuthError
from backout.runbook.guard.telemetry_gate import check_source
from backout.runbook.safety.identity import check_identity
from backout.runbook.safety.token import check_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.runbook.toolbox import Toolbox


def check_marks(tools: Toolbox) -> None:
    """Check that marks can be read. Raises AuthError: they are signed, and this machine has no key."""
    if tools.seal is not None and not tools.seal.keys:
        raise AuthError(
            "marks are signed, and their key is not here: guard could not tell which versions are stable or released",
            where=tools.environment,
            hint=f"set {tools.seal.variable} to the key that the other machines have",
        )


REFUSALS: Final[Mapping[str, Callable[[Toolbox, float], None]]] = {
    "token": check_tokens,
    "pin": lambda tools, _for_s: check_identity(tools),
    "traffic": lambda tools, _for_s: check_source(tools),
    "marks_key": lambda tools, _for_s: check_marks(tools),
}
"""{name of the check: what raises while a watch of so many seconds may not begin}."""


def run_preflight(tools: Toolbox, for_s: float) -> None:
    """Check that a watch of that many seconds may begin. Raises Refused or AuthError."""
    for refuse in REFUSALS.values():
        refuse(tools, for_s)
    if tools.safety.doubt:
        tools.say(tools.safety.doubt)
