"""Commands to type instead of backout: with the link to the live slots, which each release has ready, and curl."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from backout.model.incident.card import CardLines
from backout.model.plan import Equivalents
from backout.providers.caddy.releases import ALONE
from backout.providers.caddy.route import ADDRESS_HEADER, LIVE, MAINTENANCE_SOCKET, SHOWN, SLOTS, name_slot

if TYPE_CHECKING:
    from pathlib import Path


def make_equivalents(releases: Path, health_url: str, jobs: tuple[str, str] = ("", "")) -> Equivalents:
    """Return the lines of a plan's steps, as templates.

    Args:
        jobs: the operator's commands that stop and start job workers, "" where there are none.
    """
    stop, start = (each.replace("{release}", "{version}") for each in jobs)
    return Equivalents(
        activate=_write_switch(releases),
        live=_show(releases),
        health=_ask(health_url),
        prove=_ask_release(releases, health_url),
        stop_jobs=stop,
        start_jobs=start,
        page=_write_page(releases),
    )


def make_card_lines(releases: Path, health_url: str) -> CardLines:
    """Return the platform's and the health check's lines of a card."""
    return CardLines(
        deploy=(_write_switch(releases),),
        live=(_show(releases), f"tail -n 4 {shlex.quote(str(releases / 'ledger.jsonl'))}"),
        health=(_ask(health_url),) if health_url else (),
    )


def _write_switch(releases: Path) -> str:
    return f"cd {shlex.quote(str(releases))} && ln -s {{version}}/{ALONE} .by-hand && mv -T .by-hand {LIVE}"


def _write_page(releases: Path) -> str:
    """Return the line that lays slots which lead to Caddy's own 503, and makes them live."""
    address = shlex.quote(f"unix/{releases / MAINTENANCE_SOCKET}")
    slots = f"for n in $(seq -w 0 {SLOTS - 1}); do printf %s {address} > .page/$n; done"
    shown = f"printf page-by-hand > .page/{SHOWN}"
    switch = f"ln -s .page .by-hand && mv -T .by-hand {LIVE}"
    return f"cd {shlex.quote(str(releases))} && mkdir -p .page && {slots} && {shown} && {switch}"


def _show(releases: Path) -> str:
    return f"cat {shlex.quote(str(releases / LIVE / SHOWN))}"


def _ask(health_url: str) -> str:
    return f"curl -sS -m 10 {shlex.quote(health_url)}" if health_url else ""


def _ask_release(releases: Path, health_url: str) -> str:
    if not health_url:
        return ""
    slot = f"{shlex.quote(str(releases))}/{{version}}/{ALONE}/{name_slot(0)}"  # what it would have as the only one live
    asked = _ask(health_url).replace("{", "{{").replace("}", "}}")
    return f'{asked} -H "{ADDRESS_HEADER}: $(cat {slot})"'
