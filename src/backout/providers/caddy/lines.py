"""Commands to type instead of backout: with the link to the live slots, which each release has ready, ssh and curl."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from backout.model.incident.card import CardLines
from backout.model.plan import Equivalents
from backout.model.value import Value
from backout.providers.caddy.releases import ALONE, APP
from backout.providers.caddy.route import ADDRESS_HEADER, LIVE, MAINTENANCE_SOCKET, SHOWN, SLOTS, name_slot
from backout.providers.caddy.slots import DEPLOYMENTS
from backout.providers.line_templates import VERSION, HealthQuestion, make_template

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


_CAUTION: Final = (
    "A release runs with the secrets that it was made with: where one changed since, its old value comes back, and the "
    "line does not ask. Nor does it start a release that does not run."
)


class Place(Value, frozen=True):
    """A folder of releases, as a person reaches it.

    Args:
        ssh: the host's destination, "" for this one.
        config: a file in place of the user's own configuration of ssh, "" for that.
        has_jobs: whether releases have job workers there.
    """

    releases: Path
    ssh: str = ""
    config: str = ""
    has_jobs: bool = True


def make_equivalents(places: Sequence[Place], health: HealthQuestion, jobs: tuple[str, str] = ("", "")) -> Equivalents:
    """Return the lines of a plan's steps, as templates; of several hosts a line for each.

    Args:
        jobs: the operator's commands that stop and start job workers, "" where there are none.
    """
    stop, start = ("\n".join(_run_there(each, place) for place in places if place.has_jobs) for each in jobs)
    ask = make_template("\n".join(_ask_release(place, health) for place in places)) if health.url else ""
    return Equivalents(
        activate=_write_switch(places),
        live="\n".join(_show(place) for place in places),
        health=health.write(),
        prove=ask,
        ask=ask,
        stop_jobs=make_template(stop),
        start_jobs=make_template(start),
        page="\n".join(_go_to(place, _write_page(place)) for place in places),
    )


def make_card_lines(places: Sequence[Place], health: HealthQuestion) -> CardLines:
    """Return the platform's and the health check's lines of a card."""
    ledgers = (f"tail -n 4 {shlex.quote(str(place.releases / 'ledger.jsonl'))}" for place in places)
    return CardLines(
        deploy=(_write_switch(places),),
        put_back=(
            make_template("\n".join(_go_to(place, _write_put_back(place)) for place in places), name="deployment"),
        ),
        live=(
            *(_show(place) for place in places),
            *(_go_to(place, line) for place, line in zip(places, ledgers, strict=True)),
        ),
        caution=_CAUTION,
        health=(health.write(),) if health.url else (),
    )


def _go_to(place: Place, line: str) -> str:
    """Return a line as it is typed on this host."""
    if not place.ssh:
        return line
    words = ("ssh", *(("-F", place.config) if place.config else ()), place.ssh, line)
    return shlex.join(words)


def _write_page(place: Place) -> str:
    """Return the line that lays slots which lead to Caddy's own 503, and makes them live."""
    address = shlex.quote(f"unix/{place.releases / MAINTENANCE_SOCKET}")
    slots = f"for n in $(seq -w 0 {SLOTS - 1}); do printf %s {address} > .page/$n; done"
    shown = f"printf page-by-hand > .page/{SHOWN}"
    folder = shlex.quote(str(place.releases))
    there = f"cd {folder} && ls {MAINTENANCE_SOCKET}"  # without it visitors would get an error of Caddy's own
    return f"{there} && mkdir -p .page && {slots} && {shown} && {_write_link('.page')}"


def _run_there(command: str, place: Place) -> str:
    """Return a command of the operator's, word by word as it is run; one that takes a port only where that is known."""
    if not command:
        return ""
    line = " ".join(_put_in(word, place) for word in shlex.split(command))
    port = f"port=$(cut -d: -f2 {_write_slot(place)}) && " if "{port}" in command else ""  # only the host knows it
    return _go_to(place, port + line)


def _put_in(word: str, place: Place) -> str:
    """Return a word of a command for a shell, with the release's own values as `processes.put_in` has them."""
    release, folder = VERSION, str(place.releases / VERSION / APP)
    texts = [each.replace("{release}", release).replace("{folder}", folder) for each in word.split("{port}")]
    return '"$port"'.join(shlex.quote(each) if each or len(texts) == 1 else "" for each in texts)


def _write_switch(places: Sequence[Place]) -> str:
    return make_template("\n".join(_go_to(place, _write_rename(place)) for place in places))


def _write_rename(place: Place) -> str:
    return f"cd {shlex.quote(str(place.releases))} && {_write_link(f'{VERSION}/{ALONE}')}"


def _write_slot(place: Place) -> str:
    """Return the path of a file with the address of a release, which is in each of those that make it live alone."""
    return shlex.quote(str(place.releases / VERSION / ALONE / name_slot(0)))


def _write_put_back(place: Place) -> str:
    """Return the line that makes the slots of a deployment live, unless they were removed since."""
    return f"cd {shlex.quote(str(place.releases))} && {_write_link(f'{DEPLOYMENTS}/{VERSION}')}"


def _write_link(slots: str) -> str:
    """Return what makes slots live if they are there, as `ls` says; what an interrupted line left is replaced."""
    return f"ls -d {slots} && ln -sfn {slots} .by-hand && mv -T .by-hand {LIVE}"


def _show(place: Place) -> str:
    line = f"cat {shlex.quote(str(place.releases / LIVE / SHOWN))}"
    return _go_to(place, f"{line} && echo") if place.ssh else line  # the file has no end of a line


def _ask_release(place: Place, health: HealthQuestion) -> str:
    """Return what asks a release: on this host through Caddy, on another one its process itself.

    Where its address cannot be read nothing is asked: what is live would answer in its place.
    """
    read = f"at=$(cat {_write_slot(place)}) && "
    if not place.ssh:
        return read + health.write(f'-H "{ADDRESS_HEADER}: $at"')
    parts = urlsplit(health.url)
    target = shlex.quote(f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}")
    names_host = any(name.lower() == "host" for name in health.headers)
    host = () if names_host else (f"-H {shlex.quote(f'Host:{parts.netloc}')}",)
    asked = health.write_curl(f"http://$at{target}", *host)
    return health.feed(_go_to(place, read + asked))
