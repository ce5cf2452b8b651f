"""A night on a host behind a real Caddy: releases are pushed, guard finds the bad one and returns to the good one."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest
from caddy_home import caddy_home, get_last, wait_for_visits

from backout.model.version import Mark, VersionId, VersionMark

from private import write_private

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from caddy_home import CaddyShop

pytestmark = pytest.mark.rotating("nights on hosts", 3)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[CaddyShop]:
    """A shop with no release yet, and its configuration."""
    with caddy_home(tmp_path) as running:
        yield running


def test_a_release_is_live_only_when_it_is_well(shop: CaddyShop) -> None:
    """Pushed, asked for its health while nobody gets it, then live; a sick one stays without visitors."""
    good = shop.push("good").json
    assert good["live"] == good["release"]["id"]  # type: ignore[index]
    assert (good["share"], good["proved"]) == (100.0, True)
    sick = shop.push("sick", ends=1).json
    assert (sick["share"], sick["proved"], sick["live"]) == (0.0, False, good["live"])
    mistaken = shop.push("mistaken", ends=1).json
    assert (mistaken["share"], mistaken["proved"], mistaken["live"]) == (0.0, False, good["live"])
    tenth = shop.push("better", "--traffic", "10").json
    assert (tenth["share"], tenth["live"]) == (10.0, None)
    with shop.visited() as answers:
        wait_for_visits(answers, 40)
    assert {release for _, release in answers} == {good["live"], tenth["release"]["id"]}  # type: ignore[index]
    assert "10 %" in shop.run("release", "list").out


def test_preflight_looks_at_the_releases_themselves(shop: CaddyShop) -> None:
    """Nothing of another platform is typed; code that was changed on the host is found before the next push."""

    def ask() -> dict[str, dict[str, object]]:
        checks = shop.run("preflight", "--json", code=None).json["checks"]
        return {each["name"]: each for each in checks}  # type: ignore[attr-defined]

    first = shop.run("doctor", "--json", code=None)
    assert "backout release push DIR -e production" in first.out
    assert "wrangler" not in first.out
    assert "clock" not in {each["name"] for each in first.json["checks"]}  # type: ignore[attr-defined]
    good = str(shop.push("good").json["live"])
    assert (ask()["kept_code"]["level"], ask()["kept_code"]["state"]) == ("must", "ok")
    (shop.host.releases.get_code(good) / "code.txt").write_text("changed")
    found = ask()["kept_code"]
    assert found["state"] == "missing"
    assert f"release {good}: on localhost its code is not what was pushed any more" in str(found["why"])


def test_the_configuration_is_compared_online_without_any_token(shop: CaddyShop) -> None:
    """As `init --pin` says to type next: a host has no API, so nobody is asked for a token of one."""
    shop.push("good")
    shop.run("init", "--pin")
    checked = shop.run("config", "check", "--online", "--json")
    tag = checked.json["online"]["identity"]["script_tag"]  # type: ignore[index]
    assert tag["pinned"] == tag["found"] is not None


def test_the_card_has_the_line_that_puts_a_split_back(shop: CaddyShop) -> None:
    """Typed as it stands there, the visitors are shared again as they were when the card was made."""
    first = str(shop.push("one").json["live"])
    shop.push("two", "--traffic", "10")
    before = shop.run("release", "list", "--json").json["releases"]
    _, _, section = shop.run("card").out.partition("Put the traffic back as it was when this card was made")
    (line,) = (each for each in section.splitlines() if "mv -T" in each)
    shop.run("release", "live", first)
    subprocess.run(["/bin/sh", "-c", line], check=True)
    shares = {each["id"]: each["share"] for each in shop.run("release", "list", "--json").json["releases"]}  # type: ignore[attr-defined]
    assert shares == {each["id"]: each["share"] for each in before}  # type: ignore[attr-defined]
    assert sorted(shares.values()) == [10.0, 90.0]


def test_the_card_has_the_line_that_reads_the_newest_migration(tmp_path: Path) -> None:
    """As on any platform: the database is the application's, wherever its code runs; its URL is read, never shown."""
    database = 'database = { provider = "postgres", url_file = "url", migrations = "prisma" }\n'
    write_private(tmp_path / "url", "postgres://127.0.0.1:1/none")
    with caddy_home(tmp_path, database) as shop:
        shop.push("good")
        card = shop.run("card").out
    assert "_prisma_migrations" in card.partition("What was applied to the database last")[2]
    assert f'export DATABASE_URL="$(cat {tmp_path / "url"})"' in card.partition("Once in a shell")[2]


def test_the_card_says_of_secrets_what_is_so_on_a_host(shop: CaddyShop) -> None:
    """No number of another platform's API: the link is replaced without a question."""
    mark_stable(shop, str(shop.push("one").json["live"]))
    shop.push("two")
    card = " ".join(shop.run("card").out.split())
    assert "its old value comes back, and the line does not ask" in card
    assert "10220" not in card


def test_what_is_refused_or_warned_of_on_a_host_is_named(shop: CaddyShop) -> None:
    """The variable whose old value would come back, and what somebody may deploy who can stop guard."""
    old = str(shop.push("one").json["live"])
    (shop.host.folder / "shop.env").write_text("TOKEN=canary\n")
    shop.push("two", "--env-file", "shop.env")
    said = shop.run("release", "live", old, code=3).err
    assert f"secrets changed since release {old} was made: TOKEN; switching" in said
    assert "canary" not in said
    assert "anyone who may deploy shop: marks are not signed" in " ".join(shop.run("status", code=None).out.split())


def mark_stable(shop: CaddyShop, release: str) -> None:
    """Have a release proven stable just now."""
    tools = shop.tools()
    code_hash, now = tools.versions.detail(release).code_hash, tools.clock.now()
    stable = VersionMark(Mark.STABLE, VersionId(release), code_hash, now, "guard-1", "it was well")
    tools.marks.mark("production", stable, actor="ops@host")


def test_where_backout_cannot_act_it_says_what_to_type_on_a_host(shop: CaddyShop) -> None:
    """The line that makes the stable release live, and none of another platform's."""
    good = str(shop.push("good").json["live"])
    mark_stable(shop, good)
    shop.push("better")
    file = shop.host.folder / "backout.toml"
    missing = 'database = { provider = "postgres", url_file = "missing", migrations = "prisma" }'
    file.write_text(file.read_text().replace("protected = false", f"protected = false\n{missing}"))
    said = shop.run("panic", code=None).err
    assert f"ls -d {good}/alone && ln -sfn {good}/alone .by-hand && mv -T .by-hand live" in said
    assert "npx" not in said


def test_a_rollback_leaves_out_the_release_whose_record_is_damaged(shop: CaddyShop) -> None:
    """It is named, the next one is the target, and the list and `prune` leave it where it is."""
    first, second, third = (str(shop.push(code).json["live"]) for code in ("one", "two", "three"))
    for each in (first, second):
        mark_stable(shop, each)
    record = shop.host.releases.folder / second / "release.json"
    record.write_text(record.read_text()[:20])
    note = f"not {second}: its record cannot be read"
    assert note in " ".join(shop.run("rollback", "--dry-run", "-m", "bad").out.split())
    assert f"backout rollback {second}" not in shop.run("rollback", second, "--dry-run", "-m", "bad", code=3).out
    shop.run("rollback", "--no-wait", "--yes", "-m", "bad")
    assert shop.run("status", "--json", code=None).json["live_version"] == first
    listed = shop.run("release", "list").out
    assert f"{second} is no target" in listed
    shop.run("release", "prune", "--keep", "0")
    assert record.exists()
    assert {first, second, third} >= {each.id for each in shop.host.releases.list()}


def test_a_rollback_is_made_where_the_live_slots_cannot_be_read(shop: CaddyShop) -> None:
    """Caddy says which deployment it is; which visitors get what is not known, and not said to be live."""
    first, second = (str(shop.push(code).json["live"]) for code in ("one", "two"))
    mark_stable(shop, first)
    slot = shop.host.releases.folder / "live" / "007"
    slot.unlink()
    slot.write_bytes(b"127.0.0.1:\xff")
    status = shop.run("status", "--json", code=None).json
    assert (status["live_version"], status["hosts"]) == (None, {"localhost": None})
    plan = " ".join(shop.run("rollback", "--dry-run", "-m", "x").out.split())
    assert "localhost was not read (the live slots cannot be read" in plan
    shop.run("rollback", "--no-wait", "--yes", "-m", "bad")
    assert shop.run("status", "--json", code=None).json["live_version"] == first
    assert "rolled back before" in shop.run("release", "live", second, code=3).err


@pytest.mark.long
def test_guard_finds_a_bad_release_and_rolls_it_back(shop: CaddyShop) -> None:
    """Each step by its command, with visitors all the time; what they get says whether it is true."""
    good = shop.push("good").json["live"]
    with shop.visited() as answers:
        shop.run("guard", "--for", "60s", "--early", "--json")
        bad = shop.push("bad").json["live"]
        found = get_last(shop.run("guard", "--json", code=1))
        assert (found["verdict"], found["live_version"]) == ("regressed", good)
        before = len(answers)
        wait_for_visits(answers, before + 50)
        assert set(answers[before + 2 :]) == {(200, good)}
    refused = shop.push("bad", ends=3)
    assert "rolled back before" in refused.err
    releases = shop.run("release", "list", "--json").json["releases"]
    assert isinstance(releases, list)
    assert [each["id"] for each in releases if each["share"]] == [good]
    assert bad in [each["id"] for each in releases]
    (incident,) = shop.run("incident", "list", "--json").json["incidents"]  # type: ignore[misc]
    impact = incident["impact"]
    assert 0 < impact["requests_failed"] == sum(status == 500 for status, _ in answers)
    assert (impact["exactness"]["requests_failed"], incident["state"]) == ("exact", "resolved")
    assert f"version {str(bad)[:8]} went live, in place of {str(good)[:8]}" in shop.run("timeline").out
    shop.run("incident", "report", str(incident["id"]))
    shop.run("incident", "open", "mails are late")
    assert "advice only" in shop.run("preflight", code=None).out
    shop.run("incident", "resolve", "-m", "they are sent")
    assert "advice only" not in shop.run("preflight", code=None).out
    assert shop.run("dora", "--json").json["metrics"]


@pytest.mark.long
def test_the_card_has_the_line_that_makes_a_release_live(shop: CaddyShop) -> None:
    """Typed as it stands there it does so, and nothing on the page needs wrangler."""
    first, _ = (str(shop.push(code).json["live"]) for code in ("one", "two"))
    card = shop.run("rollback", "--dry-run", "--accept-unproven", "-m", "x").out
    (line,) = (each.strip().removeprefix("$ ") for each in card.splitlines() if "mv -T" in each)
    (proof,) = (each.strip().removeprefix("$ ") for each in card.splitlines() if "X-Backout-Address" in each)
    answered = subprocess.run(["/bin/sh", "-c", proof], check=True, capture_output=True, text=True).stdout
    assert json.loads(answered)["version"] == first
    subprocess.run(["/bin/sh", "-c", line], check=True)
    with shop.visited() as answers:
        wait_for_visits(answers, 10)
    assert set(answers) == {(200, first)}
    page = shop.run("card").out
    assert "npx" not in page
    assert f"ln -sfn {first}/alone" in page


def test_a_release_is_named_by_enough_of_its_id(shop: CaddyShop) -> None:
    """A variable of a script that is not set names none, also where there is one release alone."""
    good = str(shop.push("good").json["live"])
    for text in ("", good[:3], "no\nsuch"):
        said = shop.run("release", "start", text, code=2).err
        assert "no release is called so" in said
        assert "\nsuch" not in said
    shop.run("release", "start", good[:4])


@pytest.mark.long
def test_releases_are_stopped_started_and_pruned(shop: CaddyShop) -> None:
    """What visitors get, and what they got last, stays whatever is asked."""
    first, second, third = (str(shop.push(code).json["live"]) for code in ("one", "two", "three"))
    assert "visitors get this release" in shop.run("release", "stop", third, code=3).err
    shop.run("release", "stop", first)
    states = {str(each["id"]): each["runs"] for each in shop.run("release", "list", "--json").json["releases"]}  # type: ignore[attr-defined]
    assert states == {first: False, second: True, third: True}
    shop.run("release", "start", first)
    shop.run("release", "prune", "--keep", "0", "--dry-run")
    gone = shop.run("release", "prune", "--keep", "0", "--json").json["removed"]
    assert [each["id"] for each in gone] == [first]  # type: ignore[attr-defined]
    assert not (shop.host.releases.folder / first).exists()


@pytest.mark.long
def test_the_next_push_removes_what_a_killed_one_left(shop: CaddyShop) -> None:
    """And says so: there are variables in it."""
    left = shop.host.releases.folder / ".incoming-0123456789abcdef"
    for command in (("push", str(shop.build("good"))), ("prune",)):
        left.mkdir(parents=True, exist_ok=True)
        (left / "environment").write_text("TOKEN=canary\0")
        said = shop.run("release", *command)
        assert f"was removed: {left}" in said.err
        assert not left.exists()
        assert "canary" not in said.out + said.err


@pytest.mark.long
def test_releases_behind_caddy_conform(shop: CaddyShop) -> None:
    """Each question of `backout conformance`, asked of a real Caddy; what was live still is."""
    shop.push("good")
    live = shop.push("better").json["live"]
    found = shop.run("conformance", "--yes", "--json").json
    passed = {str(each["name"]): each["passed"] for each in found["calls"]}  # type: ignore[attr-defined]
    assert found["conforms"] is True
    assert set(passed.values()) == {True}
    assert len(passed) == 8
    assert shop.push("sick", ends=1).json["live"] == live


@pytest.mark.long
def test_secrets_are_set_on_what_is_live_also_after_a_rollback(shop: CaddyShop) -> None:
    """Where the newest release is not the live one: a new release of the live code has them."""
    first = shop.push("good one").json["release"]
    second = shop.push("good two").json["release"]
    shop.run("release", "live", first["id"])  # type: ignore[index]
    (shop.host.folder / "values.env").write_text("JWT_SECRET=of-today\n")
    words = ("--from-file", str(shop.host.folder / "values.env"), "-m", "rotated", "--no-wait", "--yes", "--json")
    shop.run("secrets", "push", *words)
    (live,) = (each for each in shop.run("release", "list", "--json").json["releases"] if each["share"])  # type: ignore[attr-defined,index]
    assert live["id"] not in (first["id"], second["id"])  # type: ignore[index]
    assert live["hash"] == first["hash"]  # type: ignore[index]
    assert shop.host.releases.read_environment(live["id"]).reveal("JWT_SECRET") == "of-today"


@pytest.mark.long
def test_a_release_gets_its_variables_from_a_file(shop: CaddyShop) -> None:
    """The first one has those of the file, the next one the same; masked, and others may not write the file."""
    file = shop.host.folder / "shop.env"
    file.write_text("# comment\nDATABASE_URL='postgres://canary@db/shop'\nCURRENCY=EUR\n")
    file.chmod(0o600)
    releases = []
    for words in (("--env-file", "shop.env"), ()):
        pushed = shop.push("good", *words)
        assert "canary" not in pushed.out + pushed.err
        releases.append(str(pushed.json["live"]))
    for release in releases:
        kept = shop.host.releases.read_environment(release)
        assert {name: kept.reveal(name) for name in kept.names} == {
            "DATABASE_URL": "postgres://canary@db/shop",
            "CURRENCY": "EUR",
        }
    file.chmod(0o666)
    assert "may write it" in shop.push("good", "--env-file", "shop.env", ends=4).err
    assert "cannot read it" in shop.push("good", "--env-file", "missing.env", ends=2).err
    assert shop.run("release", "list", "--json").json["releases"][0]["id"] == releases[-1]  # type: ignore[index]
