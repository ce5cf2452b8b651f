"""The answer to one of our own requests: as much of it as is needed to compare versions or check expectations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import field

from backout.model.guard.answers import AnswerClass, classify
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_HOPS = 5
"""The most redirects followed, all on the same host."""
MOST_BODY_BYTES = 64 * 1024
MOVED = (301, 308)
"""Redirects that say: for good."""


class Fetched(Value, frozen=True):
    """One answer.

    Args:
        status: HTTP status, None where no whole answer came in time.
        headers: by name in lower case.
        body: "" for HEAD, for more than `MOST_BODY_BYTES`, and for anything that is not text.
        ends: the status at the end of the redirects on the same host, None without a redirect, where it leads to
            another host, and where an answer on the way did not come.
        hops: redirects followed.
        loops: the redirects formed a loop.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    ends: int | None = None
    hops: int = 0
    loops: bool = False

    @property
    def kind(self) -> AnswerClass | None:
        """The class of the answer; None for a server error, and where none came."""
        return classify(self.status)

    @property
    def is_good(self) -> bool:
        """Whether who asked got what was asked for."""
        return self.kind is AnswerClass.GOOD

    @property
    def media_type(self) -> str:
        """The content type without its parameters, in lower case; "" where none is named."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def location(self) -> str:
        """Where a redirect leads, as it was written; "" for none."""
        return self.headers.get("location", "")

    @property
    def ends_well(self) -> bool:
        """Whether redirects lead to a page on this host that answers well."""
        return classify(self.ends) is AnswerClass.GOOD

    @property
    def moved_well(self) -> bool:
        """Whether it says that a page moved for good to another one on this host, which answers well."""
        return self.status in MOVED and self.ends_well

    def find_version(self, versions: tuple[str, ...]) -> str:
        """Return which of these versions says in a header of its answer that it answered, "" for none."""
        said = set(self.headers.values())
        return next((version for version in versions if version in said), "")
