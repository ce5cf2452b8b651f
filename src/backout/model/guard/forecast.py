"""A forecast: ways to deploy, troubles that a version may bring, and when each would be found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.guard.signals import sum_counts
from backout.model.value import Value

if TYPE_CHECKING:
    from backout.model.guard.signals import Counts, SourceTraits


class Trouble(Value, frozen=True):
    """One way in which a version may be bad.

    Args:
        error_rate: in [0,1], None: as usual.
        latency_factor: on every latency.
    """

    name: str
    error_rate: float | None = None
    latency_factor: float = 1.0


HEALTHY = Trouble("healthy")
TROUBLES = (
    Trouble("errors of 1 %", 0.01),
    Trouble("errors of 5 %", 0.05),
    Trouble("all requests fail", 1.0),
    Trouble("latency x1.5", latency_factor=1.5),
)
FIVE_PERCENT = TROUBLES[1]
"""The trouble that a watch must find: advice is measured by it."""


class Way(Value, frozen=True):
    """One way to deploy.

    Args:
        split: share of the new version in (0, 1]; 1 is a cut-over.
        synthetic_per_s: requests that guard sends itself while it watches; they are counted apart.
    """

    name: str
    split: float
    synthetic_per_s: float = 0.0


class Today(Value, frozen=True):
    """The traffic that the forecast is based on.

    Args:
        until: Unix second at which a version would be deployed.
        rate: requests/s of all versions together.
        baseline: counts of the version live today before `until`.
        span_s: the time that they cover.
        lag_s: how long a request may stay unseen by the source; it comes on top of every time of a forecast.
        traits: what the source can see, None where there is none.
    """

    until: int
    rate: float
    baseline: tuple[Counts, ...]
    span_s: float
    lag_s: float = 0.0
    traits: SourceTraits | None = None

    @property
    def error_rate(self) -> float:
        """Share of errors in the baseline."""
        requests, errors = sum_counts(self.baseline)
        return errors / requests if requests else 0.0


class Detection(Value, frozen=True):
    """When one trouble would be found.

    Args:
        after_s: seconds from the deployment to "regressed"; None: not within a day.
        requests, bad_requests: what the new version answers until then, and how much of that fails or is slower.
        stream: which evidence is the strongest then.
        same_as_today: today's traffic is as bad as this already.
    """

    trouble: Trouble
    after_s: float | None
    requests: int
    bad_requests: int
    stream: str = ""
    same_as_today: bool = False


class Outlook(Value, frozen=True):
    """What would be found with one way to deploy, and when a good version would be healthy (None: not within a day).

    Args:
        new_per_s: requests/s of the new version.
    """

    way: Way
    new_per_s: float
    detections: tuple[Detection, ...]
    healthy_after_s: float | None

    def list_found_within(self, watch_s: float) -> tuple[Detection, ...]:
        """Return the troubles found within the watch."""
        return tuple(d for d in self.detections if d.after_s is not None and d.after_s <= watch_s)

    def of(self, trouble: Trouble) -> Detection:
        """Return one trouble's detection."""
        return next(d for d in self.detections if d.trouble == trouble)


class Forecast(Value, frozen=True):
    """The outlook of each way to deploy, and the recommended one.

    Args:
        advised: None when none finds errors of 5 % within the watch.
        why: whole sentences without a final stop.
        missing_requests: how many requests of the new version the watch lacks, in a cut-over and without probes, to
            find errors of 5 %; None: more than a day brings.
        warnings: what no evidence shows, and what a rollback leaves as it is; whole sentences without a final stop.
        stretch_s: seconds of a stretch in which answers may be slow, 0 where none is forgiven.
    """

    today: Today
    watch_s: float
    outlooks: tuple[Outlook, ...]
    advised: Way | None
    why: tuple[str, ...]
    missing_requests: int | None
    stretch_s: int = 0
    warnings: tuple[str, ...] = ()
