"""Port VendorStatus on hosted status pages: which incidents touch us, and that no page delays a rollback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from backout.errors import ConfigError, ProviderUnavailable
from backout.providers.statuspage.incidents import StatusPages

from scripted_server import answer, drip, hang, raw_answer, refused_url, reset, scripted_server

if TYPE_CHECKING:
    from scripted_server import Step

WORKERS = {"id": "57srcl8zcn7c", "name": "Workers", "status": "major_outage"}
IMAGES = {"id": "k4vqr0v8m3wz", "name": "Images", "status": "partial_outage"}


def incident(**changes: object) -> dict[str, Any]:
    """Return an unresolved incident as such a page writes it."""
    return {
        "id": "p31zjtct2jer",
        "name": "Errors in several regions",
        "status": "investigating",
        "impact": "major",
        "created_at": "2026-11-25T10:00:00.000Z",
        "started_at": "2026-11-25T09:50:00.000Z",
        "updated_at": "2026-11-25T10:05:00.000Z",
        "monitoring_at": None,
        "resolved_at": None,
        "shortlink": "https://stspg.example/p31zjtct2jer",
        "components": [WORKERS],
        "incident_updates": [],
        **changes,
    }


def page(*incidents: dict[str, Any]) -> dict[str, Any]:
    """Return the page's answer."""
    return {
        "page": {"id": "yh6f0r4529hb", "name": "Cloudflare", "url": "https://status.example"},
        "incidents": incidents,
    }


def told(*incidents: dict[str, Any], components: tuple[str, ...] = ("Workers",), impact: str = "major") -> list[str]:
    """Return the titles that the port tells."""
    with scripted_server() as server:
        server.will(answer(page(*incidents)))
        found = StatusPages([server.url], components=components, impact=impact).incidents()
    return [each.title for each in found]


def test_what_an_incident_says() -> None:
    """Vendor, title, impact, since when, parts, address; asked where such pages have it."""
    with scripted_server() as server:
        server.will(answer(page(incident())))
        (found,) = StatusPages([f"{server.url}/"], components=["workers"]).incidents()
        assert server.asked[0].target == "/api/v2/incidents/unresolved.json"
    assert (found.vendor, found.impact, found.components) == ("Cloudflare", "major", ("Workers",))
    assert found.started_at == 1795600200.0
    assert found.url == "https://stspg.example/p31zjtct2jer"


@pytest.mark.parametrize(
    ("changes", "touches"),
    [
        ({}, True),
        ({"components": [IMAGES]}, False),
        ({"components": [IMAGES, WORKERS]}, True),
        ({"components": [], "name": "Workers: errors"}, True),
        ({"components": [], "name": "Networkers Day"}, False),
        ({"components": None, "incident_updates": [{"affected_components": [{"name": "Workers"}]}]}, True),
        ({"components": None, "incident_updates": [{"affected_components": None}]}, False),
        ({"impact": "minor"}, False),
        ({"impact": "critical"}, True),
        ({"impact": "none"}, False),
        ({"impact": "maintenance"}, False),
        ({"status": "monitoring"}, True),
        ({"status": "resolved"}, False),
        ({"started_at": None}, True),
    ],
)
def test_which_incidents_touch_us(changes: dict[str, Any], touches: bool) -> None:
    """Unresolved, of at least the impact, on a component that we use."""
    assert bool(told(incident(**changes))) is touches


def test_without_components_every_incident_touches_us() -> None:
    """Who names none uses all."""
    assert told(incident(components=[IMAGES]), components=()) == ["Errors in several regions"]
    assert told(incident(impact="minor"), impact="minor") == ["Errors in several regions"]


def test_the_one_that_began_first_is_in_front() -> None:
    """Whatever order the page has."""
    early = incident(name="early", started_at="2026-11-25T08:00:00Z")
    assert told(incident(name="late"), early) == ["early", "late"]


TROUBLES: dict[str, Step] = {
    "hangs": hang(),
    "drips": drip(b"HTTP/1.1 200 OK\r\n"),
    "resets": reset(),
    "503": answer({}, 503),
    "moved": answer({}, 301, Location="https://elsewhere.example/"),
    "html": answer(b"<html>"),
    "another shape": answer({"incidents": "none"}),
    "3 MB": answer(b'{"x": "' + b"x" * 3_000_000 + b'"}'),
    "no time": answer(page(incident(started_at="soon"))),
    "not HTTP": raw_answer(b"\x00\r\n\r\n"),
}


@pytest.mark.parametrize("name", sorted(TROUBLES))
def test_a_page_in_trouble_is_unavailable(name: str) -> None:
    """Never an incident, never another error; and within the budget."""
    with scripted_server() as server:
        server.will(TROUBLES[name])
        with pytest.raises(ProviderUnavailable):
            StatusPages([server.url], budget_s=0.4).incidents()


def test_a_page_that_hangs_leaves_the_others_their_time() -> None:
    """What one page tells counts, although another one does not answer; without it, the failure is told."""
    with scripted_server() as slow, scripted_server() as quick:
        slow.will(hang())
        quick.will(answer(page(incident())), answer(page()))
        pages = StatusPages([slow.url, refused_url(), quick.url], budget_s=0.9)
        assert len(pages.incidents()) == 1
        with pytest.raises(ProviderUnavailable):
            pages.incidents()


def test_an_address_that_cannot_be_used() -> None:
    """A mistake of the configuration."""
    with pytest.raises(ConfigError) as raised:
        StatusPages(["ftp://status.example"])
    assert "the address of a status page" in raised.value.mistakes[0]
