"""Releases on hosts of the team's own: what is said of one that is pushed, and what is known of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

MAINTENANCE: Final = "maintenance"
"""What makes a release that has no process of its own: Caddy itself answers 503."""


class ReleaseNote(Value, frozen=True):
    """What somebody says of a release that they push; "" where it is not known."""

    git_sha: str = ""
    tag: str = ""
    message: str = ""


class Release(Value, frozen=True, omit_defaults=True):
    """What is known of a release.

    Args:
        number: of the releases of this application, from 1.
        created_at: Unix seconds.
        code_hash: SHA-256 of its code: names, contents, and what may be run.
        address: where its process listens: "127.0.0.1:PORT" or "unix/" and a path; of several hosts, on the first.
        fingerprints: keyed ones of the values of its environment, by name.
        source: "push", "secret", "carry" or `MAINTENANCE`: what made it.
        hosts: whether it accepts connections, by the host's name; None: it is not there, or that was not read.
        damage: why its record cannot be read, "" where it can; then its number is 0, and there is no hash of its code.
    """

    id: str
    number: int
    created_at: float
    code_hash: str
    address: str
    git_sha: str = ""
    tag: str = ""
    message: str = ""
    author: str = ""
    source: str = "push"
    fingerprints: dict[str, str] = msgspec.field(default_factory=dict)
    hosts: dict[str, bool | None] = msgspec.field(default_factory=dict)
    damage: str = ""

    @property
    def has_process(self) -> bool:
        """Whether a process of its own answers for it."""
        return self.source != MAINTENANCE

    @property
    def logged_as(self) -> str:
        """Its address, as Caddy's access log has it."""
        return self.address.removeprefix("unix/")

    @property
    def answers(self) -> bool:
        """Whether it accepts connections on every host."""
        return bool(self.hosts) and all(self.hosts.values())


class ReleaseProcess(Value, frozen=True):
    """What runs of a release on a host.

    Args:
        runs: whether it accepts connections.
        memory_bytes: of the processes that listen where it is to; None: not measured.
    """

    host: str
    runs: bool
    memory_bytes: int | None = None


class Leftover(Value, frozen=True):
    """What a push or a removal that was killed left on a host: code, and often the variables of a release.

    Args:
        where: its folder, with the host.
        is_gone: whether it was removed.
    """

    where: str
    is_gone: bool = False


class OtherRelease(Value, frozen=True):
    """A folder among the releases that another tool made: it is read, and left as it is.

    Args:
        git_sha: the commit that it was made from.
        created_at: Unix seconds, None: not known.
    """

    name: str
    host: str
    git_sha: str
    created_at: float | None = None


def count_next(known: Sequence[Release]) -> int:
    """Return the number of the next release: one that none of these has, whatever the damaged ones had."""
    return max((each.number for each in known), default=0) + sum(not each.number for each in known) + 1
