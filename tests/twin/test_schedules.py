"""Schedules on the twin: when each expression is due, and what a run and its failure look like."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING

import pytest

from backout.twin.control.cron import BadCron, parse_cron
from backout.twin.control.records import Script
from backout.twin.control.schedules import Scheduler

from dataplane_lab import lab, until
from twin_harness import TOKEN, running_api

if TYPE_CHECKING:
    from pathlib import Path

SHOP = """
export default {
  async fetch(request) { return new Response(String(globalThis.ran)); },
  async scheduled(controller) {
    if (controller.cron === "*/2 * * * *") throw new TypeError("pending is not iterable");
    globalThis.ran = `${controller.cron} at ${controller.scheduledTime}`;
  },
};
"""
MINUTE = dt.datetime(2026, 11, 28, 8, 30, tzinfo=dt.UTC)  # a Saturday, the last of its month


@pytest.mark.parametrize(
    ("expression", "due", "not_due"),
    [
        ("* * * * *", "2026-11-28 08:30", None),
        ("*/10 * * * *", "2026-11-28 08:30", "2026-11-28 08:31"),
        ("5/20 * * * *", "2026-11-28 08:45", "2026-11-28 08:40"),
        ("0,30 8-10 * * *", "2026-11-28 10:30", "2026-11-28 11:00"),
        ("0 17 * * sun", "2026-11-29 17:00", "2026-11-28 17:00"),
        ("0 17 * * 1", "2026-11-29 17:00", "2026-11-30 17:00"),
        ("10 7 * * mon-fri", "2026-11-30 07:10", "2026-11-28 07:10"),
        ("0 0 * * fri-mon", "2026-11-29 00:00", "2026-12-01 00:00"),
        ("0 15 1 * *", "2026-12-01 15:00", "2026-12-02 15:00"),
        ("0 0 L * *", "2026-11-30 00:00", "2026-11-28 00:00"),
        ("0 0 L-2 * *", "2026-11-28 00:00", "2026-11-29 00:00"),
        ("59 23 LW * *", "2026-10-30 23:59", "2026-10-31 23:59"),
        ("0 0 1W 8 *", "2026-08-03 00:00", "2026-08-01 00:00"),
        ("0 18 * * 6L", "2026-11-27 18:00", "2026-11-20 18:00"),
        ("0 18 * * thu#2", "2026-11-12 18:00", "2026-11-05 18:00"),
        ("0 0 13 * 6", "2026-11-13 00:00", "2026-11-14 00:00"),
        ("0 0 1 jan *", "2027-01-01 00:00", "2026-12-01 00:00"),
    ],
)
def test_when_an_expression_is_due(expression: str, due: str, not_due: str | None) -> None:
    """As Cloudflare's documentation says of each kind, weekdays beginning with Sunday, 1."""
    cron = parse_cron(expression)
    assert cron.takes(dt.datetime.fromisoformat(due))
    assert not_due is None or not cron.takes(dt.datetime.fromisoformat(not_due))


@pytest.mark.parametrize(
    "text",
    ["", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "*/0 * * * *", "x * * * *"],
)
def test_what_is_no_expression(text: str) -> None:
    """It is refused with the part that cannot be read."""
    with pytest.raises(BadCron):
        parse_cron(text)


def test_what_is_due_is_run_and_its_failure_is_shown(tmp_path: Path) -> None:
    """Of three schedules two are due: one runs in the isolate that serves, one throws, and that is counted and told."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            (version,) = await it.deploy(SHOP)
            crons = ("*/10 * * * *", "*/2 * * * *", "0 0 * * *")
            shop = Script("shop", "tag", 0.0, 0.0, crons=crons)
            scheduler = Scheduler(lambda: (shop,), it.plane)
            runs = await asyncio.gather(*scheduler.start_due(MINUTE.timestamp()))
            assert [(r.cron, r.version, r.outcome) for r in runs if r] == [
                ("*/10 * * * *", version.id, "ok"),
                ("*/2 * * * *", version.id, "exception"),
            ]
            assert await it.get() == (200, f"*/10 * * * * at {round(MINUTE.timestamp() * 1000)}")

            def counted() -> dict[str, tuple[int, int]]:
                rows = it.plane.counts("shop", 0)
                return {cron: tuple(count) for row in rows for cron, count in row.triggers.items()}  # type: ignore[misc]

            await until(lambda: len(counted()) == 2, what="the counts")
            assert counted() == {"cron */10 * * * *": (1, 0), "cron */2 * * * *": (1, 1)}

            async def told() -> bool:
                async with it.client.get(it.url("/twin/v1/events?script=shop")) as answer:
                    events[:] = [e for e in (await answer.json())["events"] if e["outcome"] != "ok"]
                return bool(events)

            events: list[dict[str, object]] = []
            await until(told, what="the failure in the tail")
            (event,) = events
            assert event["outcome"] == "exception"
            assert event["event"] == {"cron": "*/2 * * * *", "scheduledTime": round(MINUTE.timestamp() * 1000)}
            assert event["scriptVersion"] == {"id": version.id}
            assert [e["message"] for e in event["exceptions"]] == ["pending is not iterable"]  # type: ignore[attr-defined]
            await scheduler.close()

    asyncio.run(run())


def test_a_schedule_is_run_on_demand(tmp_path: Path) -> None:
    """The twin's own call names one; the only one needs no name, and one that is not there is refused with the list."""
    with running_api(tmp_path) as api:
        api.upload("fm5", "export default { scheduled() {} }")
        own = {"Authorization": f"Bearer {TOKEN}"}
        assert api.call("POST", "/twin/v1/schedules/fm5", {}, **own).status == 400
        assert api.call("PUT", "fm5/schedules", [{"cron": "*/5 * * * *"}]).status == 200
        run = api.call("POST", "/twin/v1/schedules/fm5", {}, **own).result
        assert (run["cron"], run["outcome"]) == ("*/5 * * * *", "ok")
        assert api.data_plane.ran == [("fm5", "*/5 * * * *")]
        refused = api.call("POST", "/twin/v1/schedules/fm5", {"cron": "* * * * *"}, **own)
        assert refused.status == 400
        assert "*/5 * * * *" in refused.body["errors"][0]["message"]


def test_a_schedule_that_no_platform_would_take_is_refused(tmp_path: Path) -> None:
    """An expression that cannot be read is an error at once, and the old ones stay."""
    with running_api(tmp_path) as api:
        api.upload("fm5")
        api.call("PUT", "fm5/schedules", [{"cron": "*/5 * * * *"}])
        assert api.call("PUT", "fm5/schedules", [{"cron": "61 * * * *"}]).status == 400
        assert [s["cron"] for s in api.call("GET", "fm5/schedules").result["schedules"]] == ["*/5 * * * *"]
