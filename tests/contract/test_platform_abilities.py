"""What a platform may be able to do: the same answers from the World, Cloudflare's adapters on the twin, and Caddy."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from caddy_lab import caddy_host
from contract_worker import deploy

from backout.errors import NewestNotLive, ProviderRejected, Refused
from backout.model.platform import CacheState, QueueState
from backout.model.remark import Remark, RemarkKind
from backout.model.secrets import SecretValues
from backout.providers.caddy.lines import Place, make_equivalents
from backout.providers.caddy.route import LOGGED_ADDRESS, MAINTENANCE_SOCKET
from backout.providers.caddy.versions import CaddySecretWriter
from backout.providers.cloudflare.bundles import CloudflareBundles
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.deployments import CloudflareDeployments
from backout.providers.cloudflare.maintenance import CloudflareMaintenance
from backout.providers.cloudflare.queues import CloudflareQueues
from backout.providers.cloudflare.read_caches import CloudflareReadCaches
from backout.providers.cloudflare.versions import CloudflareVersions
from backout.providers.line_templates import HealthQuestion

from platform_sides import CaddySide, MemorySide, TwinSide
from polling import until
from twin_harness import ACCOUNT, TOKEN, running_api

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from caddy_lab import CaddyHost

    from backout.ports import Maintenance, Queues, ReadCaches
    from backout.twin.lifecycle import TwinStatus

    from platform_sides import Keeper, Side

HOME = f"/client/v4/accounts/{ACCOUNT}"
MESSAGE = str(Remark(RemarkKind.MAINTENANCE, "recover-1a2b3c4d", text="everything back to 14:03"))


@dataclass
class Abilities:
    """The ports, and what arranges them from outside.

    Args:
        add_queue: makes a queue that this application consumes.
        add_cache: makes a cache with these durations that a new live version reads through, and returns its id.
    """

    side: Side
    queues: Queues
    caches: ReadCaches
    maintenance: Maintenance
    add_queue: Callable[[str], object]
    add_cache: Callable[[float, float], str]


@pytest.fixture
def abilities(side: Side) -> Abilities:
    """Those of an application with one version."""
    side.upload("one")
    return of_twin(side) if isinstance(side, TwinSide) else of_world(side)


def of_world(side: Side) -> Abilities:
    """Return those of a World."""
    assert isinstance(side, MemorySide)
    world = side.world

    def add_cache(max_age_s: float, stale_s: float) -> str:
        world.caches["c1"] = CacheState("c1", "fm5-db", is_on=True, max_age_s=max_age_s, stale_s=stale_s)
        return "c1"

    def add_queue(name: str) -> None:
        world.queues[name] = QueueState(name, delivers=True, backlog=0, retention_s=345_600.0)

    return Abilities(side, world.platform_queues, world.read_caches, world.maintenance, add_queue, add_cache)


def of_twin(side: TwinSide) -> Abilities:
    """Return those of Cloudflare's adapters on the twin's API."""

    def add_queue(name: str) -> None:
        made = side.api.call("POST", f"{HOME}/queues", {"queue_name": name}).result["queue_id"]
        body = {"type": "worker", "script_name": side.script}
        assert side.api.call("POST", f"{HOME}/queues/{made}/consumers", body).status == 200

    def add_cache(max_age_s: float, stale_s: float) -> str:
        caching = {"disabled": False, "max_age": int(max_age_s), "stale_while_revalidate": int(stale_s)}
        body = {"name": "fm5-db", "origin": {"host": "db.example.com"}, "caching": caching}
        made = str(side.api.call("POST", f"{HOME}/hyperdrive/configs", body).result["id"])
        bound = [{"name": "DB", "type": "hyperdrive", "id": made}]
        side.api.upload(side.script, "export default {} // bound", bindings=bound)
        return made

    here = ApiClient(f"{side.api.url}/client/v4", lambda: TOKEN), ACCOUNT, side.script
    mine = CloudflareDeployments(*here), CloudflareVersions(*here), CloudflareBundles(*here)
    maintenance = CloudflareMaintenance(*mine, side.script)
    return Abilities(side, CloudflareQueues(*here), CloudflareReadCaches(*here), maintenance, add_queue, add_cache)


def test_a_paused_queue_delivers_nothing_until_it_is_resumed(abilities: Abilities) -> None:
    """Pausing twice is pausing once; a queue that the application does not consume is an error."""
    queues = abilities.queues
    assert queues.list_consumed() == ()
    for name in ("mail", "jobs"):
        abilities.add_queue(name)
    queues.pause("mail")
    queues.pause("mail")
    assert [(each.name, each.delivers) for each in queues.list_consumed()] == [("jobs", True), ("mail", False)]
    queues.resume("mail")
    assert queues.list_consumed() == tuple(
        QueueState(name, delivers=True, backlog=0, retention_s=345_600.0) for name in ("jobs", "mail")
    )
    with pytest.raises(ProviderRejected) as raised:
        queues.pause("other")
    assert raised.value.status == 404


def test_a_cache_is_restored_with_its_own_durations(abilities: Abilities) -> None:
    """The platform forgets them while a cache is off, so whoever turns it off keeps its state."""
    assert abilities.caches.read() == ()
    cache = abilities.add_cache(30.0, 5.0)
    before = CacheState(cache, "fm5-db", is_on=True, max_age_s=30.0, stale_s=5.0)
    assert abilities.caches.read() == (before,)
    abilities.caches.turn_off(cache)
    assert abilities.caches.read() == (CacheState(cache, "fm5-db", is_on=False),)
    abilities.caches.restore(before)
    assert abilities.caches.read() == (before,)


def test_a_maintenance_version_keeps_secrets_and_bindings_and_is_known_by_its_tag(keeper: Keeper) -> None:
    """It is live at 100 %, and what is uploaded after it inherits the same secrets; the version before it is none."""
    side, maintenance = keeper, keeper.maintenance
    side.upload("one")
    side.put_secret("JWT_SECRET", "value-of-a-secret")
    before = side.deployments.history()[0].main
    assert maintenance.find_obstacle() == ""
    shown = maintenance.show(MESSAGE)
    version = side.versions.detail(shown.main)
    assert (shown.sole, shown.message, version.message) == (version.id, MESSAGE, MESSAGE)
    assert side.deployments.history()[0].main == version.id
    assert version.is_maintenance
    assert any(each.is_maintenance for each in side.versions.recent() if each.id == version.id)
    assert not side.versions.detail(before).is_maintenance
    assert side.secret_of("JWT_SECRET") == "value-of-a-secret"
    again = side.bundles.upload(side.bundles.fetch(before), message="again")
    assert side.deployments.activate(again.id, message="back").main == again.id
    assert side.secret_of("JWT_SECRET") == "value-of-a-secret"


# --- the adapter's own ---


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[TwinSide, Abilities]]:
    """Those of the adapter, and its side."""
    with running_api(tmp_path) as api:
        side = TwinSide(api)
        side.upload("one")
        yield side, of_twin(side)


def test_a_page_that_a_process_died_behind_is_not_uploaded_again(own: tuple[TwinSide, Abilities]) -> None:
    """It was uploaded for this run, and never made live."""
    side, abilities = own
    before = side.deployments.history()[0].main
    first = abilities.maintenance.show(MESSAGE).main
    side.deployments.activate(before, message="as if it never was")
    assert abilities.maintenance.show(MESSAGE).main == first
    assert sum(each.is_maintenance for each in side.versions.recent()) == 1


def test_what_else_keeps_data_is_named(own: tuple[TwinSide, Abilities]) -> None:
    """Once for each, with how a person clears it."""
    side, abilities = own
    bound = [{"name": "SESSIONS", "type": "kv_namespace", "namespace_id": "n1"}, {"name": "X", "type": "plain_text"}]
    side.api.upload(side.script, "export default {} // kv", bindings=bound)
    kept, edge = abilities.caches.list_uncovered()
    assert kept.startswith("KV SESSIONS: NOT COVERED")
    assert edge.startswith("the edge cache: NOT COVERED")
    assert "purge_cache" in edge


def test_static_files_are_left_out_and_classes_of_durable_objects_are_there(own: tuple[TwinSide, Abilities]) -> None:
    """Files would be answered before the code is asked; without its class a Worker could not be uploaded."""
    side, abilities = own
    room = {"name": "ROOMS", "type": "durable_object_namespace", "class_name": "Room"}
    migrations = {"new_tag": "v1", "steps": [{"new_sqlite_classes": ["Room"]}]}
    side.api.upload(side.script, "export class Room {}", bindings=[room], migrations=migrations)
    shown = abilities.maintenance.show(MESSAGE)
    version = side.versions.detail(shown.main)
    assert version.bindings == ("durable_object_namespace:ROOMS",)
    path = f"{HOME}/workers/workers/{side.script}/versions/{shown.main}?include=modules"
    found = json.dumps(side.api.call("GET", path).result)
    assert "maintenance.js" in found


def test_where_workflows_run_it_is_refused(own: tuple[TwinSide, Abilities]) -> None:
    """Their instances would go on in it, and fail for good; nothing is uploaded."""
    side, abilities = own
    flow = {"name": "ORDERS", "type": "workflow", "workflow_name": "orders", "class_name": "Orders"}
    side.api.upload(side.script, "export class Orders {}", bindings=[flow])
    number = len(side.versions.recent())
    assert "workflows (ORDERS)" in abilities.maintenance.find_obstacle()
    with pytest.raises(Refused):
        abilities.maintenance.show(MESSAGE)
    assert len(side.versions.recent()) == number


@pytest.fixture
def behind_caddy(tmp_path: Path) -> Iterator[CaddyHost]:
    """A host with two releases, the second one live."""
    with caddy_host(tmp_path) as host:
        side = CaddySide(host)
        for code in ("one", "two"):
            side.upload(code)
        yield host


def visit(host: CaddyHost) -> tuple[int, str]:
    """Return the status of a page, and when to come again."""
    try:
        with urllib.request.urlopen(host.url, timeout=60) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Retry-After"]


def test_caddy_itself_answers_while_a_page_is_live(behind_caddy: CaddyHost) -> None:
    """Whatever became of the application; the release of before takes over again; a second call makes no second one."""
    host = behind_caddy
    before = host.deployments.history()[0].main
    page = host.make_maintenance()
    shown = page.show(MESSAGE)
    host.processes.stop(host.releases.get(before))
    assert visit(host) == (503, "60")
    assert host.make_maintenance().show(MESSAGE).main == shown.main
    assert shown.main in host.releases.name(host.releases.maintenance.removeprefix("unix/"), shown.created_at)
    host.deployments.activate(before, message="back", force=True)
    assert visit(host) == (200, "")
    host.releases.remove(shown.main)
    assert [each.sole for each in host.deployments.history()[:2]] == [before, shown.main]


@pytest.mark.long
def test_what_a_page_answered_is_of_that_release_in_the_log(behind_caddy: CaddyHost) -> None:
    """So it is left out of every count."""
    host = behind_caddy
    shown = host.make_maintenance().show(MESSAGE)
    visit(host)
    until(lambda: (host.folder / "access.log").read_text().count("\n") == 1, what="a line of the log")
    lines = [json.loads(line) for line in (host.folder / "access.log").read_text().splitlines()]
    assert [host.releases.name(each[LOGGED_ADDRESS], each["ts"]) for each in lines] == [shown.main]


def test_two_pages_share_an_address_and_the_one_that_was_made_live_is_named(behind_caddy: CaddyHost) -> None:
    """Each is a release of its own, whichever is newer; also where a person made it live."""
    host = behind_caddy
    pages = set()
    for text in ("first", "second", "first"):
        shown = host.make_maintenance().show(str(Remark(RemarkKind.MAINTENANCE, "recover-1a2b3c4d", text=text)))
        live = host.deployments.history()[0]
        assert (live.main, live.triggered_by) == (shown.main, "deployment")
        pages.add(shown.main)
    assert len(pages) == 2
    for page in pages:
        host.make_live_by_hand(page)
        assert host.deployments.history()[0].main == page


def test_without_the_server_there_is_no_page_and_no_secret_is_set_in_one(behind_caddy: CaddyHost) -> None:
    """Each is said, and nothing is switched."""
    host = behind_caddy
    shown = host.make_maintenance().show(MESSAGE)
    writer = CaddySecretWriter(host.make_releases(host.processes), host.deployments)
    with pytest.raises(NewestNotLive, match="maintenance page"):
        writer.put(SecretValues({"JWT_SECRET": "value"}))
    (host.releases.folder / MAINTENANCE_SOCKET).unlink()
    assert "no server for a maintenance page" in host.make_maintenance().find_obstacle()
    with pytest.raises(Refused):
        host.make_maintenance().show("again")
    assert host.deployments.history()[0].main == shown.main


def test_the_line_that_shows_a_page_by_hand_does(behind_caddy: CaddyHost) -> None:
    """Typed as the plan has it, twice; and the line of the release ends it."""
    host = behind_caddy
    lines = make_equivalents((Place(host.releases.folder),), HealthQuestion("http://127.0.0.1/health"))
    for _ in range(2):
        subprocess.run(["/bin/sh", "-c", lines.page], check=True)
        assert visit(host)[0] == 503
    release = host.releases.list()[0].id
    subprocess.run(["/bin/sh", "-c", lines.activate.format(version=release)], check=True)
    assert visit(host)[0] == 200


@pytest.mark.long
def test_every_request_is_answered_503_on_workerd(twin: TwinStatus) -> None:
    """And the code of before goes on after it."""
    worker = deploy(twin, "maintained")
    here = ApiClient(worker.api_base_url, lambda: worker.token), worker.account_id, worker.script
    deployments = CloudflareDeployments(*here)
    bundles = CloudflareBundles(*here)
    CloudflareMaintenance(deployments, CloudflareVersions(*here), bundles, worker.script).show(MESSAGE)
    assert (worker.visit("/"), worker.visit("/boom")) == (503, 503)
    deployments.activate(worker.version, message="back")
    assert worker.visit("/") == 200
