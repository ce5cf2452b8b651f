"""Ports on people and watchers: the kill switch, the card, notices, the pipeline, the dead man."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.guard.pipeline import PipelineState
    from backout.model.hold import Hold
    from backout.model.incident.notice import Delivery, Notice


class Holds(Protocol):
    """The kill switch of this host; it works without a journal."""

    def read(self, environment: str) -> Hold | None:
        """Return the newest hold that was set here (it may be over, or lifted), or None."""
        ...

    def write(self, environment: str, hold: Hold) -> None:
        """Set it; it is durable when this returns."""
        ...


class Cards(Protocol):
    """The store of the environment's card."""

    def write(self, text: str) -> Path:
        """Write it and return its absolute path. Raises BackoutError."""
        ...

    def path(self) -> Path | None:
        """Return the path of the newest card, or None when there is none."""
        ...


class Notifier(Protocol):
    """Sends notices to people."""

    def tell(self, notice: Notice) -> None:
        """Keep the notice durably and try to deliver it in the background. Never raises, never waits for a channel."""
        ...

    def flush(self, within_s: float) -> Delivery:
        """Wait at most that long for undelivered notices, and return the results."""
        ...


class Pipeline(Protocol):
    """The page on which a pipeline shows the outcome of a deployment."""

    def show(self, state: PipelineState, text: str) -> None:
        """Show a state with one line of text. Raises AuthError, ProviderUnavailable, ProviderRejected."""
        ...


class DeadMan(Protocol):
    """The watcher of the watcher: a service outside that notices when the pings stop."""

    def ping(self) -> None:
        """Say that guard is alive, in the background. Never raises, never waits."""
        ...


class Issues(Protocol):
    """The issues of the team's repository."""

    def find(self, mark: str, since: float) -> str | None:
        """Return the page of an issue with a mark in its text, made since then (Unix seconds), or None."""
        ...

    def create(self, title: str, body: str) -> str:
        """Create an issue and return its page. Raises AuthError, ProviderUnavailable, ProviderRejected."""
        ...
