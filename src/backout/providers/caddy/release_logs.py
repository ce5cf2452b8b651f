"""Port Logs on what the processes of releases write where the small supervisor runs them: a file for each release.

What a line says of its time counts; where it says none it is taken for as old as the newest line of its file, so a
release's file counts as long as it is written to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.errors import ProviderUnavailable
from backout.model.incident.events import LogPage
from backout.providers.caddy.remote_log import RemoteFile
from backout.providers.events.tally import EventTally
from backout.providers.events.text import TextEntries

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backout.model.incident.events import Invocation
    from backout.providers.caddy.hosts import Host
    from backout.providers.events.tally import KeyOf

LOG: Final = "log"
_MOST_BYTES: Final = 2 * 1024 * 1024
_NANOSECONDS: Final = 1e9


class ReleaseLogs:
    """Port Logs.

    Args:
        key_of: as `EventTally`.
    """

    def __init__(self, hosts: Sequence[Host], key_of: KeyOf) -> None:
        self._hosts = hosts
        self._key_of = key_of

    def read(self, since: float, until: float) -> LogPage:
        """Return what the newest two megabytes of each release's file say of these times, warnings and errors.

        Raises:
            ProviderUnavailable: a host was not reached.
            BackoutError: its releases cannot be read.
        """
        tally = EventTally(self._key_of)
        for host in self._hosts:
            for release in host.releases.list():
                for event in self._read_file(host, release.id, since):
                    if event.said and event.at is not None and since <= event.at <= until:
                        tally.add(event._replace(version=release.id), lambda: "a release's log")
        return LogPage(tally.result())

    @staticmethod
    def _read_file(host: Host, release: str, since: float) -> Iterator[Invocation]:
        path, machine = host.releases.folder / release / LOG, host.releases.machine
        try:
            written_at = machine.tell_change(path) / _NANOSECONDS
            if written_at < since:
                return
            file = RemoteFile(machine, path)
            try:
                content = file.read(max(file.measure() - _MOST_BYTES, 0), _MOST_BYTES)
            finally:
                file.close()
        except FileNotFoundError:  # somebody else runs it
            return
        except OSError as error:
            where = machine.describe(path)
            raise ProviderUnavailable(f"the log cannot be read: {error.strerror}", where=where) from error
        entries = TextEntries()
        for number, line in enumerate(content.decode(errors="replace").splitlines(), 1):
            for event, _, _ in entries.take(line, number):
                yield _add_time(event, written_at)
        for event, _, _ in entries.rest():
            yield _add_time(event, written_at)


def _add_time(event: Invocation, written_at: float) -> Invocation:
    return event if event.at is not None else event._replace(at=written_at)
