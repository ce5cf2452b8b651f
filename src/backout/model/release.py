"""Releases on hosts of the team's own: what is said of one that is pushed, and the state of each."""

from __future__ import annotations

from backout.model.value import Value


class ReleaseNote(Value, frozen=True):
    """What somebody says of a release that they push; "" where it is not known."""

    git_sha: str = ""
    tag: str = ""
    message: str = ""


class ReleaseState(Value, frozen=True):
    """A release on this host.

    Args:
        number: rises with each push.
        created_at: Unix seconds.
        address: where its process listens.
        answers: whether something accepts connections there.
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
    answers: bool = False
