"""backout's own requests: their answers, the results for one version, and pairs of two versions."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from msgspec import field

from backout.model.guard.answers import AnswerClass, classify
from backout.model.guard.policy import WITH_CREDENTIALS
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOVED = (301, 308)
_REFUSED = (403, 429)
HEALTH = "health"
"""The name under which looks at the health endpoint stand beside paths, which begin with a slash."""


def split_probe_name(name: str) -> tuple[str, str]:
    """Return the method and the path of a request of backout's own, by its name.

    >>> split_probe_name("/app"), split_probe_name("HEAD /app with credentials")
    (('GET', '/app'), ('HEAD', '/app'))
    """
    method, _, path = ("GET", "", name) if name.startswith("/") else name.partition(" ")
    return method, path.partition(" ")[0]


class SyntheticAnswer(Value, frozen=True):
    """The answer to one synthetic request.

    Args:
        at: Unix seconds.
        path: on the host of the health endpoint, or the name of the check.
        status: HTTP status, None without a whole answer.
        why: the expectation that was not met, in words, "" for none.
        media_type: the content type of the answer.
    """

    at: float
    path: str
    status: int | None
    why: str = ""
    media_type: str = ""

    @property
    def kind(self) -> AnswerClass | None:
        """The class of the answer, None for a server error or no answer."""
        return classify(self.status)

    @property
    def is_denied(self) -> bool:
        """Whether our credentials are no longer accepted, by this version or by what checks them."""
        return WITH_CREDENTIALS in self.path and self.kind is AnswerClass.DENIED

    @property
    def failed(self) -> bool:
        """Whether a visitor would have seen an error (5xx, or no answer in time), or the team expects another answer.

        >>> [SyntheticAnswer(0.0, "/", status).failed for status in (200, 404, 503, None)]
        [False, False, True, True]
        """
        return self.status is None or self.status >= 500 or bool(self.why)


class ProbesBefore(Value, frozen=True):
    """How backout's probes of a version ended before a deployment: {`HEALTH` or path: (made, failed)}.

    `good`: those of the requests that were answered well the last time, in the narrow sense of `AnswerClass.GOOD`.
    """

    ended: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    good: frozenset[str] = frozenset()

    def has_answered(self, what: str) -> bool:
        """Whether a probe of that was ever answered well."""
        made, failed = self.ended.get(what, (0, 0))
        return failed < made


class VersionAnswer(Value, frozen=True):
    """One version's answer to a request that both versions were sent.

    Args:
        status: HTTP status, None without a whole answer.
        location: where a redirect leads, "" for none.
        has_words: whether the declared content (words, fields, content type) was there; None: none is declared.
        ends_well: whether a redirect ends in a good answer within five hops, None for no redirect, or not followed.
        loops: whether a redirect leads round and round.
    """

    status: int | None
    location: str = ""
    has_words: bool | None = None
    ends_well: bool | None = None
    loops: bool = False

    @property
    def kind(self) -> AnswerClass | None:
        """The class of the answer, None for a server error or no answer."""
        return classify(self.status)

    @property
    def is_moved(self) -> bool:
        """Whether it says that the page has moved for good, and the page is there.

        >>> VersionAnswer(301, "/new", ends_well=True).is_moved, VersionAnswer(302, "/login", ends_well=True).is_moved
        (True, False)
        """
        return self.status in _MOVED and bool(self.ends_well)


NOT_PROVED: Final = "not proved: "
"""How the reason begins for a target that could not be asked."""


class Compared(StrEnum):
    """What a comparison of two versions' answers to the same request says about the new one."""

    NEW_WORSE = "new worse"
    OLD_WORSE = "old worse"
    BOTH_WELL = "both well"
    BOTH_FAIL = "both fail"
    GONE = "gone"  # for good (410), of the new version alone: that answer is no accident
    REFUSED = "refused"  # one version alone refused it (403, 429): so does what limits robots, whatever the version


class PairedAnswer(Value, frozen=True):
    """The same safe request, answered by the watched version and by the one before it.

    Args:
        at: Unix seconds.
        path: on the host of the health endpoint, or the name of the check.
    """

    at: float
    path: str
    new: VersionAnswer
    old: VersionAnswer

    @property
    def compared(self) -> Compared:
        """Return which version answered worse. A redirect of both is what it was before.

        >>> PairedAnswer(0.0, "/", VersionAnswer(404), VersionAnswer(200)).compared
        <Compared.NEW_WORSE: 'new worse'>
        >>> PairedAnswer(0.0, "/", VersionAnswer(302), VersionAnswer(302)).compared
        <Compared.BOTH_WELL: 'both well'>
        >>> PairedAnswer(0.0, "/", VersionAnswer(410), VersionAnswer(200)).compared
        <Compared.GONE: 'gone'>
        >>> PairedAnswer(0.0, "/", VersionAnswer(429), VersionAnswer(200)).compared
        <Compared.REFUSED: 'refused'>
        """
        both_redirect = self.new.kind is self.old.kind is AnswerClass.REDIRECT
        new, old = (_is_good(answer, may_redirect=both_redirect) for answer in (self.new, self.old))
        if new and old:
            return Compared.BOTH_WELL
        if old and self.new.kind is AnswerClass.GONE:
            return Compared.GONE
        if new == old:
            return Compared.BOTH_FAIL
        worse = self.old if new else self.new
        if worse.status in _REFUSED and not self._is_denied(worse):
            return Compared.REFUSED
        return Compared.OLD_WORSE if new else Compared.NEW_WORSE

    def _is_denied(self, answer: VersionAnswer) -> bool:
        """Whether an answer turns down our credentials: no limit of robots does."""
        return WITH_CREDENTIALS in self.path and answer.kind is AnswerClass.DENIED


def _is_good(answer: VersionAnswer, *, may_redirect: bool) -> bool:
    if answer.loops or answer.has_words is False:
        return False
    if answer.kind is AnswerClass.REDIRECT:
        return may_redirect or answer.is_moved
    return answer.kind is AnswerClass.GOOD
