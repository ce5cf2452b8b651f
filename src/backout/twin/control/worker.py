"""The values that the twin's control plane passes to its data plane: an immutable Worker version, ready to run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import msgspec

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


OBJECTS_DELAY_S = 300.0
"""For how long Durable Objects may keep the code of before where a deployment says nothing else."""


class Module(Value, frozen=True):
    """One uploaded module: its `name` as imported, its MIME type, the content-addressed file that holds its bytes."""

    name: str
    content_type: str
    path: Path


@dataclass(frozen=True, slots=True)
class Binding:
    """One binding as the API names it.

    Args:
        name: the name in `env`.
        type: `plain_text`, `json`, `secret_text`, `r2_bucket`, `hyperdrive`, `assets`, `version_metadata`, ...
        value: the text, the JSON text, the secret, the bucket's name, the Hyperdrive id, a Durable Object class
            ("Room", or "Room@chat" for one of the Worker "chat"); "" where none is needed.
    """

    name: str
    type: str
    value: str = field(default="", repr=False)


class WorkerVersion(Value, frozen=True):
    """Everything needed to run one version of one Worker; it never changes.

    Args:
        assets: URL path ("/a.css") to the content-addressed file, its content type beside it.
        assets_config: the `assets.config` object of the upload as JSON text ("{}" when there is none).
        tag: the annotation `workers/tag`, shown by the version_metadata binding.
        created_at: Unix seconds.
        takes_tail: whether the main module has a `tail` handler, so that it can be a Tail Worker.
        takes_schedule: whether it has a `scheduled` handler.
    """

    script: str
    id: str
    modules: tuple[Module, ...]
    main_module: str
    compatibility_date: str
    compatibility_flags: tuple[str, ...]
    bindings: tuple[Binding, ...]
    created_at: float = 0.0
    tag: str = ""
    assets: Mapping[str, tuple[Path, str]] = msgspec.field(default_factory=dict)
    assets_config: str = "{}"
    takes_tail: bool = False
    takes_schedule: bool = False


class StartupError(Exception):
    """The version does not start (an exception at module level, a syntax error); workerd's own text, for code 10021."""


class DataPlane(Protocol):
    """The data plane as the control plane uses it; all calls are coroutines on the twin's one event loop."""

    async def validate(self, version: WorkerVersion) -> int:
        """Start the version once; the start-up time in milliseconds. Raises StartupError with workerd's own text.

        The process may be kept warm, since a deployment of this version usually follows at once.
        """
        ...

    async def activate(
        self,
        script: str,
        shares: tuple[tuple[WorkerVersion, float], ...],
        *,
        cohorts: Mapping[str, Mapping[str, float]] | None = None,
        objects_delay_s: float = OBJECTS_DELAY_S,
    ) -> None:
        """Make exactly these versions live with these percentages (0 to 100, sum 100, a 0 % version answers overrides).

        Returns when every version answers; the switch is atomic for new requests; old processes are drained,
        and the previous deployment's versions stay warm. Raises StartupError; then nothing has changed.

        Args:
            cohorts: {name: {version id: percentage}} for requests that name a cohort, over these versions.
            objects_delay_s: for how long Durable Objects that were used may keep the code that they run; 0 resets them.
        """
        ...

    async def remove(self, script: str) -> None:
        """Stop everything of this script; unknown names are ignored."""
        ...

    def feed(self, script: str, consumers: tuple[str, ...]) -> None:
        """Give the tail events of `script` to exactly these Workers from now on."""
        ...
