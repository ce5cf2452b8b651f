"""Who helps with which subject: the vendors that a configuration names with their status, and its contacts."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from backout.config.contacts import list_contacts
from backout.decoding import decode_json
from backout.model.incident.contact import Help

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.config import Config
    from backout.ports import VendorStatus


def list_helps(config: Config) -> tuple[Help, ...]:
    """Return who helps with each subject that the environment has."""
    contacts = list_contacts(config.settings.contacts)
    known = _read_vendors()
    return tuple(
        Help(
            subject,
            vendor,
            tuple(known.get(vendor, {}).items()),
            tuple(each for each in contacts if not each.helps or subject in each.helps),
        )
        for subject, vendor in _list_subjects(config)
    )


def make_commit_url(config: Config) -> str:
    """Return how the page of a commit is found, "" where no repository is named."""
    ci = config.environment.ci
    if ci is None or ci.api_base_url is not None:  # of another server only its API is known
        return ""
    return f"{_read_vendors()['GitHub']['repositories']}/{ci.repository}/commit/{{}}"


def _read_vendors() -> dict[str, dict[str, str]]:
    """Return {vendor: {what: URL}}."""
    text = (resources.files("backout") / "catalogue" / "vendors.json").read_bytes()
    return decode_json(text, dict[str, dict[str, str]])


def make_vendors(config: Config) -> VendorStatus | None:
    """Return the status pages of the environment's vendors, None where none is set up."""
    settings = config.environment.vendors
    if not settings.status_pages:
        return None
    from backout.providers.statuspage.incidents import StatusPages

    pages = [str(page) for page in settings.status_pages]
    return StatusPages(pages, components=settings.components, impact=settings.impact)


def _list_subjects(config: Config) -> Iterator[tuple[str, str]]:
    environment = config.environment
    platform = environment.platform.provider.capitalize()
    yield "code", platform
    yield "secrets", platform
    database, storage = environment.database, environment.storage
    if database is not None:
        names = {"neon": "Neon", "xata": "Xata"}
        managed = names.get(database.managed.provider, "") if database.managed is not None else ""
        yield "database", platform if database.provider == "d1" else managed
    if storage is not None:
        yield "objects", platform if storage.provider == "r2" and storage.endpoint is None else ""
    if environment.ci is not None:
        yield "pipeline", "GitHub"
