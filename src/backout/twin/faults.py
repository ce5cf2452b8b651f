"""The registry of faults that a drill has switched on; it stores them and notifies others, but never acts itself.

The API middleware, the router and the services read `Faults.active`; code that must act at once uses `on_change`.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from backout.decoding import decode_raw
from backout.errors import UsageError
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SERVICES = ("database", "storage", "email")
_DEFAULT_LATENCY_MS = 2000.0
_DEFAULT_RETRY_AFTER_S = 5.0


class FaultKind(StrEnum):
    """The kinds of faults; `target` narrows one where that makes sense."""

    SERVICE_DOWN = "service-down"
    """`target`: database, storage or email; it stops answering."""
    STORAGE_DENIED = "storage-denied"
    """Storage answers 403; `target`: a bucket, or None for all."""
    LATENCY = "latency"
    """The router waits `latency_ms` before a share `share` of requests; `target`: a worker or a version id, or None."""
    ERRORS = "errors"
    """The router answers `status` to a share `share` of requests; `target`: a worker or a version id, or None."""
    WORKER_CRASH = "worker-crash"
    """The worker's process is killed, at once and whenever it comes back; `target`: worker, version id, or None."""
    API_DOWN = "api-down"
    """The API answers 503 to everything."""
    API_SLOW = "api-slow"
    """The API waits `latency_ms` before each answer."""
    API_RATE_LIMIT = "api-429"
    """The API answers 429 with Retry-After `retry_after_s`."""
    API_LIMIT = "api-limit"
    """The API allows 1,200 calls in five minutes, then answers 429 for five minutes; it says what is left."""
    TELEMETRY_LAG = "telemetry-lag"
    """The telemetry is `latency_ms` late; without this fault 30 s."""
    API_TOKEN_REFUSED = "api-token-refused"  # noqa: S105 - the name of a fault
    """The API answers 401 as to a token that was revoked; the twin's own endpoints still take it."""


class Fault(Value, frozen=True):
    """One active fault.

    Args:
        kind: what goes wrong.
        target: what it hits; None is everything the kind can hit.
        share: the share of requests hit, in [0, 1].
        latency_ms: the added delay.
        status: the answer of `errors`.
        retry_after_s: the header of `api-429`.
        set_at: Unix seconds.
        expires_at: Unix seconds, None is until cleared.
    """

    kind: FaultKind
    target: str | None = None
    share: float = 1.0
    latency_ms: float = _DEFAULT_LATENCY_MS
    status: int = 503
    retry_after_s: float = _DEFAULT_RETRY_AFTER_S
    set_at: float = 0.0
    expires_at: float | None = None
    id: str = ""

    def hits(self, *names: str) -> bool:
        """Whether one of the names (a service, a bucket, a worker, a version id) is the target."""
        return self.target is None or self.target in names


class Faults:
    """The faults of one twin, kept in the JSON file `path` so that they outlive the process.

    Args:
        path: the file; a missing one means no faults.
        now: the clock, Unix seconds.
    """

    def __init__(self, path: Path, *, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now
        self._faults: tuple[Fault, ...] = _load(path)
        self._listeners: list[Callable[[], None]] = []

    def active(self, kind: FaultKind | None = None, *names: str) -> tuple[Fault, ...]:
        """Return the faults not yet expired, oldest first; with `kind` and `names` only those that hit one of them."""
        now = self._now()
        return tuple(
            fault
            for fault in self._faults
            if (fault.expires_at is None or fault.expires_at > now)
            and (kind is None or fault.kind is kind)
            and (not names or fault.hits(*names))
        )

    def set(self, fault: Fault, *, duration_s: float | None = None) -> Fault:
        """Switch a fault on for `duration_s` (None: until cleared); it replaces one of the same kind and target.

        Raises:
            UsageError: a figure is out of range, or a target does not fit the kind.
        """
        _check(fault, duration_s)
        now = self._now()
        stamped = Fault(
            kind=fault.kind,
            target=fault.target,
            share=fault.share,
            latency_ms=fault.latency_ms,
            status=fault.status,
            retry_after_s=fault.retry_after_s,
            set_at=now,
            expires_at=None if duration_s is None else now + duration_s,
            id=uuid.uuid4().hex[:12],
        )
        self._replace((*self._without(fault.kind, fault.target), stamped))
        return stamped

    def clear(self, kind: FaultKind | None = None, target: str | None = None) -> tuple[Fault, ...]:
        """Switch faults off (all, all of a kind, or that kind on that target) and return what was active."""
        before = self.active()
        keep = () if kind is None else self._without(kind, target, every_target=target is None)
        self._replace(keep)
        return tuple(fault for fault in before if fault not in keep)

    def expire(self) -> tuple[Fault, ...]:
        """Forget the faults whose time is over, telling the listeners when there were any; return them."""
        active = self.active()
        gone = tuple(fault for fault in self._faults if fault not in active)
        if gone:
            self._replace(active)
        return gone

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` (no arguments, must not block) after every change."""
        self._listeners.append(listener)

    def _without(self, kind: FaultKind, target: str | None, *, every_target: bool = False) -> tuple[Fault, ...]:
        return tuple(f for f in self.active() if f.kind is not kind or not (every_target or f.target == target))

    def _replace(self, faults: tuple[Fault, ...]) -> None:
        self._faults = faults
        temporary = self._path.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(faults))
        os.replace(temporary, self._path)  # noqa: PTH105 - the atomic one, named as such
        for listener in self._listeners:
            listener()


def _load(path: Path) -> tuple[Fault, ...]:
    with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
        return decode_raw(path.read_bytes(), tuple[Fault, ...])
    return ()


def _check(fault: Fault, duration_s: float | None) -> None:
    if fault.kind is FaultKind.SERVICE_DOWN and fault.target not in SERVICES:
        raise UsageError(
            f"no service {fault.target!r}", where="fault service-down", hint=f"name one of {', '.join(SERVICES)}"
        )
    if not 0.0 < fault.share <= 1.0:
        raise UsageError(f"share {fault.share} is not in (0, 1]", where=f"fault {fault.kind}")
    if fault.latency_ms < 0 or fault.retry_after_s < 0 or (duration_s is not None and duration_s <= 0):
        raise UsageError("a time must be positive", where=f"fault {fault.kind}")
    if not 500 <= fault.status <= 599:
        raise UsageError(f"status {fault.status} is not 5xx", where=f"fault {fault.kind}")
