"""The outcomes of an invocation: which are failures, and which count neither way.

Source: Cloudflare documentation, "Tail Handler" (outcomes; `responseStreamDisconnected`: the client or the server hung
up early, which is how server-sent events and other streams end all day); nginx, status 499.
"""

from __future__ import annotations

from typing import Final

OK: Final = "ok"
CANCELED: Final = "canceled"
CUT_OFF: Final = "responseStreamDisconnected"
GONE: Final = frozenset({CANCELED, CUT_OFF})
"""The client may have left: such an invocation is neither a request nor an error."""
CLIENT_GONE: Final = 499
"""The status that stands for a client that left."""
_SERVER_ERROR: Final = 500


def is_canceled(outcome: str, status: int | None = None) -> bool:
    """Whether an invocation counts neither way, as nobody waited for its end.

    >>> is_canceled("responseStreamDisconnected", 200), is_canceled("ok", 499), is_canceled("exception")
    (True, True, False)
    """
    return outcome in GONE or status == CLIENT_GONE


def has_failed(outcome: str, status: int | None = None) -> bool:
    """Whether an invocation is an error, by its outcome or its status; of what is canceled the status decides.

    >>> has_failed("exceededCpu"), has_failed("ok", 503), has_failed("canceled", 200)
    (True, True, False)
    """
    return (outcome != OK and outcome not in GONE) or (status or 0) >= _SERVER_ERROR
