"""The protocol of `platform.provider = "command"`: what the team's commands are asked, and what they answer.

A command gets one JSON object on its standard input, writes one on its standard output, and exits with 0. What it
writes to standard error is for people. docs/platform-command.schema.json is made of these shapes.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, UnsetType, field

from backout.model.value import Value

PROTOCOL: Final = "backout.platform/1"
MOST_LISTED: Final = 100
MOST_MESSAGE_BYTES: Final = 1000

Id = Annotated[str, Meta(pattern=r"^[0-9A-Za-z][0-9A-Za-z._:-]{0,127}$")]
Time = Annotated[str, Meta(description="RFC 3339", max_length=64)]
Text = Annotated[str, Meta(max_length=4000)]
Name = Literal["history", "current", "activate", "shares", "probe"]
Wrong = Literal["conflict", "unknown_version", "not_found", "refused", "no_split", "denied", "unavailable"]


class Part(Value, frozen=True):
    """A version and its percentage of the traffic."""

    version: Id
    percentage: Annotated[float, Meta(ge=0, le=100)]


class Live(Value, frozen=True, omit_defaults=True):
    """A deployment: versions made live at one moment; the percentages sum to 100.

    Args:
        id: another one for each time that something is made live.
        message: as it was given to `activate`.
        author: who made it live.
        triggered_by: what made it live, in the platform's word.
    """

    id: Id
    created_at: Time
    shares: Annotated[tuple[Part, ...], Meta(min_length=1, max_length=10)]
    message: Text = ""
    author: Text = ""
    triggered_by: Text = ""


class Build(Value, frozen=True, omit_defaults=True):
    """A version that can be made live.

    Args:
        number: a running number, None: its place in the list counts.
        code_hash: of its code alone: versions with the same one are the same code.
        commit: the git sha that it was built from.
    """

    id: Id
    created_at: Time
    number: Annotated[int, Meta(ge=0)] | None = None
    code_hash: Text | None = None
    message: Text = ""
    tag: Text = ""
    commit: Text = ""
    author: Text = ""


class Request(Value, frozen=True, kw_only=True, omit_defaults=True):
    """What a command gets.

    Args:
        secrets: the values of the variables that platform.command.secrets_env names.
        version: of `activate` and `probe`.
        shares: of `shares`.
        message: what the new deployment is to say; of `activate` and `shares`.
        if_current: the id of the deployment that has to be live still, null: none; of `activate` and `shares`.
    """

    protocol: Literal["backout.platform/1"]
    command: Name
    secrets: dict[str, str] = field(default_factory=dict)
    version: Id | None = None
    shares: tuple[Part, ...] = ()
    message: Text | None = None
    if_current: Id | UnsetType | None = UNSET


class History(Value, frozen=True):
    """The answer of `history`: what can be made live, and what was live, each newest first."""

    versions: Annotated[tuple[Build, ...], Meta(max_length=MOST_LISTED)]
    deployments: Annotated[tuple[Live, ...], Meta(max_length=MOST_LISTED)]


class Current(Value, frozen=True):
    """The answer of `current`, asked of the platform itself; `deployment` null: nothing is live.

    Args:
        application: what never changes of the application at the platform: no other environment has the same.
    """

    application: Annotated[str, Meta(min_length=1, max_length=200)]
    deployment: Live | None


class Activated(Value, frozen=True):
    """The answer of `activate` and `shares`: what is live now."""

    deployment: Live


class Reached(Value, frozen=True, omit_defaults=True):
    """The answer of `probe`: how requests reach one version, whatever its share.

    Args:
        headers: those of a request to the application's own address.
        url: an address of this version's own, where there are no such headers.
    """

    headers: dict[str, str] = field(default_factory=dict)
    url: Annotated[str, Meta(max_length=2000)] = ""


class Failed(Value, frozen=True):
    """The answer of a command that did nothing of what it was asked; nothing has changed."""

    error: Wrong
    message: Text = ""
