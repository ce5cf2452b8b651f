"""A process that reads parts of files on requests from another one, over standard input; see `work`."""

from __future__ import annotations

import signal
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from backout.providers.events.work import read_part

if TYPE_CHECKING:
    from backout.model.incident.events import EventCounts


def main() -> None:
    """Read what the other process asks for, until it asks for no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    asked, answers = Connection(0, writable=False), Connection(1, readable=False)
    while True:
        try:
            part, key_of = asked.recv()
        except EOFError:
            return
        try:
            found: EventCounts | Exception = read_part(part, key_of)
        except Exception as error:  # noqa: BLE001 - raised again in the process that asked
            found = error
        answers.send(found)


if __name__ == "__main__":
    main()
