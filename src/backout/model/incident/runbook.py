"""The runbook of an environment: what its configuration says, and what was read for it just now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import field

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.drill import DrillRecord
    from backout.model.guard.policy import Policy
    from backout.model.incident.card import CardLines
    from backout.model.incident.contact import Help
    from backout.model.incident.record import ActionItem


class RunbookSetup(Value, frozen=True):
    """What the configuration says of an environment; "" and () for what is not set up.

    Args:
        names: (what, its name) of the parts of the application.
        counts: the source of the counts per version.
        repository: of the pipeline, owner/name.
        database: postgres or d1; `vendor` runs it, `migrations` is the tool, `migrations_path` the folder of its files.
        backups: how the database is backed up, in words.
        bucket: of the application; `history`: where what its objects were before is kept, in words.
        required: names of the secrets that the application needs; `source`: where their values are kept.
        helps: who helps with which subject.
        resources: (title, path) of files of the project, as seen from the page.
        reports: the folder of incident reports, as seen from the page.
    """

    application: str
    environment: str
    protected: bool
    policy: Policy
    lines: CardLines
    names: tuple[tuple[str, str], ...] = ()
    counts: str = ""
    repository: str = ""
    database: str = ""
    vendor: str = ""
    migrations: str = ""
    migrations_path: str = ""
    backups: str = ""
    bucket: str = ""
    history: str = ""
    required: tuple[str, ...] = ()
    source: str = ""
    helps: tuple[Help, ...] = ()
    resources: tuple[tuple[str, str], ...] = ()
    reports: str = ""


class PastIncident(Value, frozen=True):
    """The newest incident of a section: its id, Unix seconds, and the file name of its report ("" for none)."""

    id: str
    at: float
    title: str
    state: str
    report: str = ""


class RunbookFacts(Value, frozen=True):
    """What was read for the runbook.

    Args:
        stable: the newest version that was proven, "" for none; `stable_at`: since when, Unix seconds.
        target: where a rollback would go now, "" with `why_not`.
        head: of the migrations, "" for none; `unread`: why it is not known, "" where it is or is not set up.
        drills: the newest drill of each section, by section.
        incidents: the newest incident of each section, by section.
        actions: the action items of the newest incidents.
    """

    stable: str = ""
    stable_at: float | None = None
    target: str = ""
    why_not: str = ""
    head: str = ""
    unread: str = ""
    drills: Mapping[str, DrillRecord] = field(default_factory=dict)
    incidents: Mapping[str, PastIncident] = field(default_factory=dict)
    actions: tuple[ActionItem, ...] = ()
