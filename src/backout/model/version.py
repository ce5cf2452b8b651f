"""Versions, and the marks that backout puts on them."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, NewType

from backout.model.value import Value

VersionId = NewType("VersionId", str)

MAINTENANCE_TAG: Final = "backout-maintenance"
"""The tag of a version that answers 503 to everything: into a tag no pipeline puts the subject of a commit."""


_COMMIT: Final = re.compile(r"[0-9a-fA-F]{7,64}", re.ASCII)


def is_commit(text: str) -> bool:
    """Whether a text is a git commit, whole or abbreviated: 7 to 64 hexadecimal digits.

    >>> is_commit("3f2a9c1"), is_commit("release-12"), is_commit("")
    (True, False, False)
    """
    return _COMMIT.fullmatch(text) is not None


class Version(Value, frozen=True):
    """An immutable build (code + configuration).

    Args:
        number: the provider's running number.
        created_at: Unix seconds.
        code_hash: hash of the uploaded modules alone; versions that differ only in a secret share it. None: unknown.
        message, tag, git_sha, triggered_by: annotations, "" when absent.
        secret_names: names of the secrets bound.
        bindings: "type:name" of all bindings, sorted.
        handlers: the kinds of events that its code answers (fetch, scheduled, queue ...), () when unknown.
        source: the program that uploaded it, in the provider's word, "" when unknown.
        damage: why what is known of it cannot be read, so that it is no target; "" where it can.
    """

    id: VersionId
    number: int
    created_at: float
    code_hash: str | None = None
    message: str = ""
    tag: str = ""
    git_sha: str = ""
    triggered_by: str = ""
    author: str = ""
    secret_names: tuple[str, ...] = ()
    bindings: tuple[str, ...] = ()
    handlers: tuple[str, ...] = ()
    source: str = ""
    damage: str = ""

    @property
    def is_maintenance(self) -> bool:
        """Whether it answers 503 to everything, on purpose: never stable, never a target, counted nowhere.

        >>> Version(VersionId("1"), 1, 0.0, tag="backout-maintenance").is_maintenance
        True
        """
        return self.tag == MAINTENANCE_TAG


class Mark(StrEnum):
    """A judgement on a version that outlives its run."""

    STABLE = "stable"
    QUARANTINED = "quarantined"
    RELEASED = "released"  # a person lifted the quarantine
    QUESTIONED = "questioned"  # it was stable, and a later look contradicts that: no robot returns to it


class VersionMark(Value, frozen=True):
    """One mark: which version (and which code), when, by which run, and why."""

    mark: Mark
    version: VersionId
    code_hash: str | None
    at: float
    run: str
    why: str
    migration_head: str | None = None
    """The migration head while the version was judged; None when it was not measured."""
    git_sha: str = ""
    """The commit that it was built from, "" when unknown: a rebuild of the same commit is the same code."""
    by: str = ""
    """Who made it, as the journal or the provider names them; "" when unknown."""
