"""What runs or deploys beside the versions of an application, so that a rollback of code alone leaves it (rule 16)."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import field

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping


class AttachedKind(StrEnum):
    """What can be attached; the value names the field of `Attached`."""

    CONTAINERS = "containers"
    WORKFLOWS = "workflows"
    BUILDS = "builds"


class Container(Value, frozen=True):
    """An application of containers: its name, its image, and whether a rollout of it is under way."""

    name: str
    image: str = ""
    is_rolling: bool = False


class Workflow(Value, frozen=True):
    """A workflow, and how many of its instances have begun and have not ended."""

    name: str
    in_flight: int = 0


class BuildTrigger(Value, frozen=True):
    """What deploys on a push: the repository, the branches (patterns), the command."""

    branches: tuple[str, ...] = ()
    command: str = ""
    repository: str = ""


class Attached(Value, frozen=True):
    """One look at it; None: not looked at, or not readable.

    Args:
        builds: the triggers that make something live.
        unread: why a kind that was looked at is not known, by its name.
    """

    containers: tuple[Container, ...] | None = None
    workflows: tuple[Workflow, ...] | None = None
    builds: tuple[BuildTrigger, ...] | None = None
    unread: Mapping[str, str] = field(default_factory=dict)
