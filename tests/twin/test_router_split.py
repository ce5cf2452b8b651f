"""The split of requests between versions, on real workerd processes behind the real router."""

from __future__ import annotations

import asyncio
import collections
import math
import random
from typing import TYPE_CHECKING

import pytest

from backout.twin.dataplane.router import Split, choose, find_script, parse_overrides

from dataplane_lab import fetch_module, lab

if TYPE_CHECKING:
    from pathlib import Path


def _named(name: str) -> str:
    return fetch_module(f"return new Response('{name}');")


def test_split_stays_within_binomial_bounds(tmp_path: Path) -> None:
    """Of 600 requests at 90/10, the newer version gets 60 give or take four standard deviations."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            old, new = it.version(_named("old")), it.version(_named("new"))
            await it.plane.activate("shop", ((old, 90.0), (new, 10.0)))
            seen: collections.Counter[str] = collections.Counter()
            for _ in range(30):
                answers = await asyncio.gather(*(it.get() for _ in range(20)))
                seen.update(text for _, text in answers)
            assert seen.total() == 600
            assert abs(seen["new"] - 60) <= 4 * math.sqrt(600 * 0.1 * 0.9)
            rows = it.plane.counts("shop", 0)
            by_version = {v: sum(r.requests for r in rows if r.version == v) for v in (old.id, new.id)}
            assert by_version == {old.id: seen["old"], new.id: seen["new"]}

    asyncio.run(run())


def test_keys_stick_and_overrides_win(tmp_path: Path) -> None:
    """A key always sees one version; an override reaches a 0 % version; an id outside the deployment is ignored."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            old, new, other = it.version(_named("old")), it.version(_named("new")), it.version(_named("other"))
            await it.plane.activate("shop", ((old, 50.0), (new, 50.0)))
            for key in range(12):
                seen = {(await it.get(Cloudflare_Workers_Version_Key=f"user-{key}"))[1] for _ in range(6)}
                assert len(seen) == 1
            await it.plane.activate("shop", ((old, 100.0), (new, 0.0)))
            wanted = f'mail="x", shop="{new.id}"'
            assert {(await it.get(Cloudflare_Workers_Version_Overrides=wanted))[1] for _ in range(5)} == {"new"}
            assert {(await it.get())[1] for _ in range(20)} == {"old"}
            foreign = f'shop="{other.id}"'
            assert {(await it.get(Cloudflare_Workers_Version_Overrides=foreign))[1] for _ in range(5)} == {"old"}

    asyncio.run(run())


def test_who_chose_a_version_is_counted_apart(tmp_path: Path) -> None:
    """An override counts as no request, neither its beginning nor its end; a key has a row of its own."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            old, new = it.version(_named("old")), it.version(_named("new"))
            await it.plane.activate("shop", ((old, 50.0), (new, 50.0)))
            for _ in range(4):
                await it.get(Cloudflare_Workers_Version_Overrides=f'shop="{new.id}"')
                await it.get(Cloudflare_Workers_Version_Key="jane")
                await it.get()
            rows = it.plane.counts("shop", 0)
            told = {kind: [row for row in rows if row.keyed is kind] for kind in (False, True)}
            assert sum(row.chosen for row in rows) == sum(row.chosen for row in rows if row.version == new.id) == 4
            assert {kind: sum(row.requests for row in found) for kind, found in told.items()} == {False: 4, True: 4}
            assert {kind: sum(row.started for row in found) for kind, found in told.items()} == {False: 4, True: 4}
            assert len({row.version for row in told[True]}) == 1

    asyncio.run(run())


def test_growing_share_keeps_the_keys_it_had() -> None:
    """A key on the newer version stays there while that version's share grows."""
    source = random.Random(1)  # noqa: S311 - never drawn from
    small, large = Split("s", (("old", 90.0), ("new", 10.0))), Split("s", (("old", 60.0), ("new", 40.0)))
    on_new = 0
    for number in range(2000):
        headers = {"Cloudflare-Workers-Version-Key": f"k{number}"}
        if choose(small, headers, source) == "new":
            on_new += 1
            assert choose(large, headers, source) == "new"
    assert 130 < on_new < 270


def test_a_cohort_has_a_split_of_its_own() -> None:
    """By its name in any case, below an override and above a key; a name that is not known is none."""
    source = random.Random(1)  # noqa: S311 - a seeded split
    canary = (("old", 50.0), ("new", 50.0))
    split = Split("s", (("old", 100.0), ("new", 0.0)), {"canary": canary, "staff": (("new", 100.0),)})

    def seen(**headers: str) -> set[str]:
        named = {f"Cloudflare-Workers-{name.replace('_', '-')}": value for name, value in headers.items()}
        return {choose(split, named, source) for _ in range(100)}

    assert (seen(), seen(Cohort="nobody"), seen(Cohort="staff")) == ({"old"}, {"old"}, {"new"})
    assert seen(Cohort="CANARY") == {"old", "new"}
    assert seen(Cohort="staff", Version_Overrides='s="old"') == {"old"}
    by_key = [seen(Cohort="canary", Version_Key=f"k{number}") for number in range(20)]
    assert {len(found) for found in by_key} == {1}
    assert set.union(*by_key) == {"old", "new"}
    assert seen(Version_Key="k1") == {"old"}


@pytest.mark.parametrize("header", ["shop", "shop=unquoted", 'shop="open', '"a"="b"', ";;"])
def test_malformed_overrides_are_ignored(header: str) -> None:
    """What is no structured dictionary names no version."""
    assert parse_overrides(header) == {}


@pytest.mark.parametrize(
    ("host", "script"),
    [
        ("shop.localhost", "shop"),
        ("SHOP.localhost:80", "shop"),
        ("www.example.com", "site"),
        ("127.0.0.1:80", None),
        ("localhost", None),
        (".localhost", None),
    ],
)
def test_host_names_the_script(host: str, script: str | None) -> None:
    """The Host header names a script by its local name or by a custom domain."""
    assert find_script(host, {"www.example.com": "site"}) == script


def test_unknown_host_and_unknown_script_are_404(tmp_path: Path) -> None:
    """A host that names nothing deployed is a 404 that says so, and nothing is counted."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            status, text = await it.get(script="nobody")
            assert (status, "nobody" in text) == (404, True)
            async with it.client.get(it.url()) as answer:
                assert answer.status == 404
            assert it.plane.counts("nobody", 0) == ()

    asyncio.run(run())


def test_a_version_answers_at_its_own_url_whatever_is_live(tmp_path: Path) -> None:
    """It is started when it is asked for; a host that names none is as unknown as before."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            (live,) = await it.deploy(_named("live"))
            idle = it.version(_named("idle"))
            versions = {f"{each.id[:8]}-shop.localhost:{it.port}": each for each in (live, idle)}
            it.plane.find_preview = versions.get
            assert await it.get(script=f"{idle.id[:8]}-shop") == (200, "idle")
            assert await it.get(script=f"{live.id[:8]}-shop") == (200, "live")
            assert (await it.get(script="00000000-shop"))[0] == 404
            assert await it.get() == (200, "live")

    asyncio.run(run())
