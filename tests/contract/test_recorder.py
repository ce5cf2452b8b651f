"""The flight recorder's reader on what a bucket may hold: each answer once, in a second that stays, if it is signed."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorder_lab import RECORDER, SECRET, MemoryBucket, counted
from values import replace

from backout.errors import ProviderUnavailable
from backout.model.guard.answers import EVERY_CLASS, AnswerClass
from backout.model.guard.routes import make_template
from backout.model.guard.signals import RouteCounts, TriggerCounts, find_bucket, sum_counts
from backout.providers.memory import WorldClock
from backout.providers.recorder.batches import UNNAMED, Unusable, open_batches, parse_keys, parse_name
from backout.providers.recorder.bucket import BucketSink
from backout.providers.recorder.traffic import RecorderTraffic
from backout.providers.s3.answers import Page

from extent import examples
from polling import PATIENCE_S

if TYPE_CHECKING:
    from backout.providers.s3.calls import Listing

pytestmark = pytest.mark.rotating("recorder", 3)

NOW = 1_800_000_100
OTHER = "whsec_" + "A" * 40


def reader(
    bucket: MemoryBucket, at: float = NOW, told: list[str] | None = None, secret: str = SECRET
) -> RecorderTraffic:
    said = [] if told is None else told
    return RecorderTraffic(sink(bucket, secret), WorldClock(at), said.append)


def sink(bucket: MemoryBucket, secret: str = SECRET) -> BucketSink:
    return BucketSink(bucket, "counts", "shop", parse_keys(secret))


# --- each answer once ------------------------------------------------------------------------------------------------


def test_isolates_add_up_and_versions_do_not() -> None:
    """Many isolates count the same second; a latency histogram is the sum of theirs; route classes are one Worker's."""
    bucket = MemoryBucket()
    for number in range(3):
        rows = [counted(NOW - 9, 2, 1), counted(NOW - 9, 1, route="/api"), counted(NOW - 9, 5, version="v2")]
        bucket.store([{"seq": 1, "rows": rows}], at=NOW - 7, instance=f"0000000{number}")
    page = reader(bucket).read(NOW - 20, NOW)
    assert [(c.version, c.second, c.requests, c.errors) for c in page.counts] == [
        ("v1", NOW - 9, 9, 3),
        ("v2", NOW - 9, 15, 0),
    ]
    assert page.counts[0].latency == {90: 9}
    assert page.counts[0].routes == {"other": RouteCounts(6, 3, {90: 6}), "/api": RouteCounts(3, 0, {90: 3})}


def test_classes_come_from_statuses_also_in_batches_of_before() -> None:
    """Of those that are no errors; routes with methods, schedules and queues only where each recorder is a new one."""
    bucket = MemoryBucket()
    old = counted(NOW - 9, 10, 3, route="/app", statuses={"200": 4, "404": 2, "302": 2, "500": 2})
    more: dict[str, object] = {"queue orders": [2, 2], "cron \x1b": [1, 0]}
    new = counted(NOW - 9, 3, route="GET /app?page", statuses={"200": 2, "401": 1}, triggers=more)
    bucket.store([{"v": 2, "templates": True, "seq": 1, "rows": [new]}], at=NOW - 7, instance="00000001")
    source = reader(bucket)
    (row,) = source.read(NOW - 20, NOW).counts
    assert row.routes == {"GET /app?page": RouteCounts(3, 0, {90: 3}, {AnswerClass.DENIED: 1})}
    assert row.triggers == {"queue orders": TriggerCounts(2, 2), "cron other": TriggerCounts(1, 0)}
    assert source.traits.has_method
    assert source.traits.has_triggers
    assert source.traits.classes == EVERY_CLASS
    bucket.store([{"seq": 1, "rows": [old]}], at=NOW - 7, instance="00000002")
    (row,) = source.read(NOW - 20, NOW).counts
    wanted = {AnswerClass.NOT_FOUND: 2, AnswerClass.REDIRECT: 2}
    assert row.routes["/app"] == RouteCounts(10, 3, {90: 10}, wanted)
    assert row.classes == {**wanted, AnswerClass.DENIED: 1}
    assert not source.traits.has_method
    assert not source.traits.has_triggers


def test_words_that_are_many_are_folded_over_all_isolates() -> None:
    """Of templates alone: prefixes that somebody set stay as they are."""
    bucket = MemoryBucket()
    letters = "abcdefghijklmnopqrst"
    for number, templates in enumerate([True, True, False]):
        place = "blog" if templates else "shop"
        rows = [counted(NOW - 9, 1, route=f"GET /{place}/{letter}{'uie'[number]}o") for letter in letters]
        batch = {"v": 2, "templates": templates, "seq": 1, "rows": rows}
        bucket.store([batch], at=NOW - 7, instance=f"0000000{number}")
    (row,) = reader(bucket).read(NOW - 20, NOW).counts
    blog = {name: route.requests for name, route in row.routes.items() if name.startswith("GET /blog/")}
    assert (len(blog), blog["GET /blog/{id}"], sum(blog.values())) == (17, 24, 40)
    assert sum(name.startswith("GET /shop/") for name in row.routes) == 20


def test_an_isolate_that_is_younger_than_the_version_does_not_hide_its_404s() -> None:
    """It saw none of its routes answered; guard did, before, or was told of them. What nobody ever knew is a guess."""
    rows = [
        counted(NOW - 9, 3, route=f"GET /{name}", statuses={"404": 3}) for name in ("app", "api/orders", "wp-admin")
    ]
    bucket = MemoryBucket()
    before = counted(NOW - 90, 5, route="GET /app", statuses={"200": 5})
    bucket.store([{"v": 2, "templates": True, "seq": 1, "rows": [before]}], at=NOW - 88, instance="00000001")
    bucket.store([{"v": 2, "templates": True, "seq": 1, "rows": rows}], at=NOW - 7, instance="00000002")
    source = reader(bucket)
    source.learn(["POST /api/orders", "GET /api/orders"])
    source.read(NOW - 100, NOW - 50)
    (row,) = source.read(NOW - 20, NOW).counts
    assert {name: dict(route.classes) for name, route in row.routes.items()} == {
        name: {AnswerClass.NOT_FOUND: 3} for name in ("GET /app", "GET /api/orders", "other")
    }


def test_routes_of_many_isolates_stay_few_and_plain() -> None:
    """Each isolate has classes of its own; what a Worker of another making calls them is cut to what we show."""
    bucket = MemoryBucket()
    for number in range(12):
        names = [f"/r{number}-{route}" for route in range(16)] + ["/app", "a\x1b[2Jb", "x" * 100, "\u202e"]
        rows = [counted(NOW - 9, 1, route=name) for name in names]
        bucket.store(
            [{"seq": 1, "rows": [*rows, counted(NOW - 9, 0, canceled=1, route="/gone", left={"90": 1, "91": 7})]}],
            at=NOW - 7,
            instance=f"000000{number:02}",
        )
    (row,) = reader(bucket).read(NOW - 20, NOW).counts
    assert (row.requests, row.canceled) == (240, 12)
    assert row.left == {"/gone": {90: 12}}  # never more than were canceled
    assert row.routes["/app"].requests == 12
    assert len(row.routes) == 129
    assert sum(route.requests for route in row.routes.values()) == 240
    assert all(name.isprintable() and len(name) <= 64 for name in row.routes)


def test_a_window_is_counted_from_its_newest_object() -> None:
    """Each object repeats the batches before it; one that was stored twice under two names is counted once."""
    bucket = MemoryBucket()
    first, second = {"seq": 1, "rows": [counted(NOW - 9, 4)]}, {"seq": 2, "rows": [counted(NOW - 7, 3)]}
    bucket.store([first], at=NOW - 8, window=NOW - 8, seq=1)
    bucket.store([{**first, "stored": (NOW - 8) * 1000}, second], at=NOW - 6, window=NOW - 8, seq=2)
    bucket.store([{**first, "stored": (NOW - 8) * 1000}, second], at=NOW - 5, window=NOW - 8, seq=10)
    page = reader(bucket).read(NOW - 20, NOW)
    assert [(c.second, c.requests) for c in page.counts] == [(NOW - 9, 4), (NOW - 7, 3)]
    assert len(bucket.got) == 1


def test_another_workers_batches_and_strange_names_are_passed_over() -> None:
    """One bucket may serve several Workers; the prefix of one may begin as another's."""
    bucket = MemoryBucket()
    bucket.store([{"seq": 1, "rows": [counted(NOW - 9)]}], at=NOW - 7, script="shop-staging")
    bucket.objects["backout/shop/readme.txt"] = (b"hello", NOW)
    assert reader(bucket).read(NOW - 20, NOW).counts == ()
    assert parse_name("backout/shop/readme.txt", "shop") is None
    assert parse_name("backout/shop-staging/1800000000-0badcafe-1799999990000-7", "shop") is None


def test_every_page_of_the_listing_is_read_and_known_objects_are_not_read_again() -> None:
    """A watch asks each second; only what is new is fetched."""
    bucket = MemoryBucket(page_size=2)
    for number in range(7):
        bucket.store(
            [{"seq": 1, "rows": [counted(NOW - 20 + number)]}], at=NOW - 18 + number, instance=f"0000000{number}"
        )
    source = reader(bucket)
    assert sum_counts(source.read(NOW - 30, NOW).counts) == (7, 0)
    assert sum_counts(source.read(NOW - 30, NOW).counts) == (7, 0)
    assert len(bucket.got) == 7


@pytest.mark.parametrize("how", ["the same token", "the same keys", "keys that go back", "no end"])
def test_a_listing_that_does_not_end_is_an_error(how: str) -> None:
    """A bucket that ignores the token, or gives another one for ever, ends in words after a number of pages."""

    class Endless(MemoryBucket):
        asked = 0

        def list_page(self, bucket: str, listing: Listing, *, token: str | None = None) -> Page:
            self.asked += 1
            assert self.asked <= 2000, "it does not end"
            page = super().list_page(bucket, listing, token=None)
            key, *others = page.objects
            if how == "no end":
                return Page((), (), f"{self.asked}")
            if how == "the same token":
                return Page((replace(key, key=f"{key.key}{self.asked:05d}"),), (), "again")
            shown = others if how == "keys that go back" and self.asked == 1 else [key]
            return Page(tuple(shown), (), f"{self.asked}")

    bucket = Endless()
    for number in range(2):
        bucket.store([{"seq": 1, "rows": [counted(NOW - 9)]}], at=NOW - 7, instance=f"0000000{number}")
    with pytest.raises(ProviderUnavailable, match=r"listing has no end|same objects again"):
        reader(bucket).read(NOW - 20, NOW)


def test_an_object_that_is_deleted_while_we_look_is_a_gap() -> None:
    """The bucket's own rule removes old ones; the others still count."""
    bucket = MemoryBucket()
    bucket.gone.add(bucket.store([{"seq": 1, "rows": [counted(NOW - 9)]}], at=NOW - 7, instance="00000001"))
    bucket.store([{"seq": 1, "rows": [counted(NOW - 9)]}], at=NOW - 7)
    assert sum_counts(reader(bucket).read(NOW - 20, NOW).counts) == (1, 0)


# --- when a second is final ------------------------------------------------------------------------------------------


def test_what_comes_late_is_counted_in_the_first_second_still_open() -> None:
    """Not lost, and not in a second that was said to be final; what comes from the future is counted when it came."""
    bucket = MemoryBucket()
    bucket.store([{"seq": 1, "rows": [counted(NOW - 60, 2), counted(NOW + 60, 3), counted(NOW - 11, 5)]}], at=NOW - 10)
    page = reader(bucket).read(NOW - 90, NOW + 90)
    assert [(c.second, c.requests) for c in page.counts] == [(NOW - 14, 2), (NOW - 11, 5), (NOW - 10, 3)]


@pytest.mark.long
@examples(60)
@given(st.integers(min_value=0, max_value=2**32), st.sampled_from([0.4, 2.0, 10.0]))
def test_a_final_second_never_changes(seed: int, flush_s: float) -> None:
    """Whatever isolates, delays, lost answers and retries there are: a watch sees each answer once."""
    draw = random.Random(seed)  # noqa: S311 - seeded, to be repeated
    bucket, clock = MemoryBucket(), WorldClock(NOW)
    source = RecorderTraffic(sink(bucket), clock, flush_s=flush_s)
    sent, seen = 0, 0
    since = NOW - 30
    isolates = [_Isolate(bucket, f"{number:08x}", draw) for number in range(draw.randint(1, 4))]
    frozen: dict[int, int] = {}
    for _step in range(60):
        at = clock.now()
        for isolate in isolates:
            for _ in range(draw.randint(0, 3)):
                isolate.count(int(at) - draw.choice([0, 0, 0, 0, 1, 2, 5, 40]))
                sent += 1
            if draw.random() < 0.5:
                isolate.flush(at)
        page = source.read(since, int(at) + 1)
        final = [row for row in page.counts if row.second < page.complete_until]
        seen += sum_counts(final)[0]
        frozen |= {row.second: row.requests for row in final}
        since = max(since, page.complete_until)
        clock.sleep(draw.choice([0.3, 1.0, 2.5]))
    for isolate in isolates:
        isolate.flush(clock.now(), works=True)
    clock.sleep(30)
    page = source.read(since, int(clock.now()) + 1)
    seen += sum_counts(page.counts)[0]
    assert seen == sent
    again = RecorderTraffic(sink(bucket), clock, flush_s=flush_s).read(NOW - 120, since)
    assert {row.second: row.requests for row in again.counts} == frozen


class _Isolate:
    """A recorder's isolate as `recorder.js` behaves: a store that fails may have happened all the same."""

    def __init__(self, bucket: MemoryBucket, name: str, draw: random.Random) -> None:
        self._bucket, self._name, self._draw, self._seq = bucket, name, draw, 0
        self._rows: list[dict[str, Any]] = []
        self._batches: list[dict[str, Any]] = []
        self._unsure = False
        self._window = 0.0

    def count(self, second: int) -> None:
        self._rows.append(counted(second))

    def flush(self, at: float, *, works: bool = False) -> None:
        if not self._rows and not self._unsure:
            return
        if not self._unsure and at - self._window > 60:
            self._window, self._batches = at, []
        self._seq += 1
        batch: dict[str, Any] = {"seq": self._seq, "rows": self._rows}
        self._batches.append(batch)
        self._rows = []
        arrives, answered = works or self._draw.random() < 0.8, works or self._draw.random() < 0.8
        if arrives:
            self._bucket.store(self._batches, at=at, instance=self._name, window=self._window, seq=self._seq)
        self._unsure = not (arrives and answered)
        if not self._unsure:
            batch["stored"] = at * 1000


def test_a_store_that_failed_and_happened_is_counted_once() -> None:
    """The isolate sends the batch again with what came meanwhile, in the same window: the newer object replaces it."""
    bucket = MemoryBucket()
    bucket.store([{"seq": 1, "rows": [counted(NOW - 30, 4)]}], at=NOW - 8, window=NOW - 70, seq=1)
    bucket.store(
        [{"seq": 1, "rows": [counted(NOW - 30, 4)]}, {"seq": 2, "rows": [counted(NOW - 7, 1)]}],
        at=NOW - 6,
        window=NOW - 70,
        seq=2,
    )
    page = reader(bucket).read(NOW - 60, NOW)
    assert [(c.second, c.requests) for c in page.counts] == [(NOW - 12, 4), (NOW - 7, 1)]


def test_silence_stops_the_watermark() -> None:
    """No batch for a minute: no visitor, or no recorder; the seconds are not called final until one comes."""
    bucket = MemoryBucket()
    source = reader(bucket, NOW)
    assert source.read(NOW - 30, NOW).complete_until == NOW - 30
    bucket.store([{"seq": 1, "rows": [counted(NOW - 2, 0, probes=1)]}], at=NOW)
    assert reader(bucket, NOW + 10).read(NOW, NOW + 10).complete_until == NOW + 4
    silent = reader(bucket, NOW + 300)
    stopped = silent.read(NOW, NOW + 300).complete_until
    assert stopped == NOW + 56
    assert silent.read(stopped, NOW + 300).complete_until == stopped


def test_the_watermark_follows_the_recorders_pace() -> None:
    """One that stores every ten seconds is believed later, and says so: an automatic action may still rest on it."""
    bucket = MemoryBucket()
    bucket.store([{"seq": 1, "rows": [counted(NOW - 9)]}], at=NOW)
    slow = RecorderTraffic(sink(bucket), WorldClock(NOW), flush_s=10.0)
    assert slow.read(NOW - 20, NOW).complete_until == NOW - 14
    assert (slow.traits.lag_s, slow.traits.may_act) == (15.0, True)
    assert reader(bucket).traits.lag_s == 7.0


# --- what is not counted ---------------------------------------------------------------------------------------------


def test_what_is_not_signed_is_not_counted_and_named() -> None:
    """Foreign keys, other names, old signatures and broken bytes: counted and named once, and the rest counts."""
    told: list[str] = []
    bucket = MemoryBucket()
    bucket.store([{"seq": 1, "rows": [counted(NOW - 9, 7)]}], at=NOW - 7, instance="00000001")
    bucket.store([{"seq": 1, "rows": [counted(NOW - 9, 100)]}], at=NOW - 7, instance="00000002", secret=OTHER)
    copied = bucket.store([{"seq": 1, "rows": [counted(NOW - 9, 100)]}], at=NOW - 7, instance="00000003")
    bucket.objects[copied.replace("00000003", "00000004")] = bucket.objects.pop(copied)
    bucket.store([{"seq": 1, "rows": [counted(NOW - 9, 100)]}], at=NOW - 7, instance="00000005", signed_at=NOW - 400)
    bucket.store([{"seq": 1, "rows": [{"version": "v1"}]}], at=NOW - 7, instance="00000006")
    bucket.store([], at=NOW - 7, instance="00000007")
    bucket.objects[f"backout/shop/{NOW - 7}-00000008-1800000000000-1"] = (b"\xff\xfe hello", NOW - 7)
    source = reader(bucket, told=told)
    assert sum_counts(source.read(NOW - 20, NOW).counts) == (7, 0)
    source.read(NOW - 20, NOW)
    assert [text.partition(", such as")[0] for text in told] == [
        "batches of the flight recorder are badly signed, and are not counted",
        "batches of the flight recorder are not signed, and are not counted",
        "batches of the flight recorder are stored more than five minutes after it was signed, and are not counted",
        "batches of the flight recorder are unreadable, and are not counted",
    ]
    assert told[0].endswith("(2)")


def test_a_broken_object_falls_back_on_the_one_before() -> None:
    """An object that somebody spoilt costs what came after the last good one of its window."""
    bucket = MemoryBucket()
    bucket.store([{"seq": 1, "rows": [counted(NOW - 9, 4)]}], at=NOW - 8, window=NOW - 8, seq=1)
    spoilt = bucket.store([{"seq": 1, "rows": [counted(NOW - 9, 4)]}], at=NOW - 6, window=NOW - 8, seq=2)
    bucket.objects[spoilt] = (b"spoilt", NOW - 6)
    assert sum_counts(reader(bucket).read(NOW - 20, NOW).counts) == (4, 0)


def test_nothing_that_can_be_used_is_no_silence() -> None:
    """The wrong secret is a source that does not answer, not an application without visitors."""
    bucket = MemoryBucket()
    bucket.store([{"seq": 1, "rows": [counted(NOW - 9)]}], at=NOW - 7)
    with pytest.raises(ProviderUnavailable, match="no batch of the flight recorder can be used"):
        reader(bucket, secret=OTHER).read(NOW - 20, NOW)
    assert sum_counts(reader(bucket, secret=f"{OTHER} {SECRET}").read(NOW - 20, NOW).counts) == (1, 0)


def test_what_the_recorder_lost_or_could_not_name_is_said() -> None:
    """Answers that found no room in an isolate, and answers without a version."""
    told: list[str] = []
    bucket = MemoryBucket()
    bucket.store([{"seq": 1, "rows": [counted(NOW - 9, 2, version=""), counted(NOW - 9)], "lost": 3}], at=NOW - 7)
    assert sum_counts(reader(bucket, told=told).read(NOW - 20, NOW).counts) == (1, 0)
    assert told == [
        "the flight recorder had no room for some answers: its counts are too low (3)",
        "the flight recorder saw answers without a version, and they are not counted (2)",
    ]


@given(st.binary(max_size=200))
def test_any_bytes_are_batches_or_unusable(content: bytes) -> None:
    """No object makes the reader fail."""
    with pytest.raises(Unusable):
        open_batches("backout/shop/x", float(NOW), content, parse_keys(SECRET))


@pytest.mark.parametrize("secret", ["", "hunter2", "whsec_", "whsec_***", "whsec_c2hvcnQ="])
def test_a_secret_that_is_none_is_refused(secret: str) -> None:
    """Too short, or not in the form of Standard Webhooks; the message does not show it."""
    with pytest.raises(ValueError, match="it is") as caught:
        parse_keys(secret)
    assert not secret.removeprefix("whsec_") or secret not in str(caught.value)


def test_what_a_visitor_chose_is_left_out_and_an_older_recorder_does_not_tell() -> None:
    """Rows of keyed requests are added where they count; whether all recorders tell them apart is said."""
    bucket = MemoryBucket()
    rows = [
        counted(NOW - 9, 2, chosen=3),
        counted(NOW - 9, 4, 4, keyed=True, route="GET /a", left={"9": 1}, canceled=1),
    ]
    bucket.store([{"v": 3, "templates": True, "seq": 1, "rows": rows}], at=NOW - 7, instance="00000001")
    source = reader(bucket)
    (row,) = source.read(NOW - 20, NOW).counts
    assert (row.requests, row.errors, row.canceled, row.chosen) == (6, 4, 1, 3)
    assert sum(route.requests for route in row.routes.values()) == 6
    assert source.traits.has_choice
    source.count_keyed(wanted=False)
    (row,) = source.read(NOW - 20, NOW).counts
    assert (row.requests, row.errors, row.canceled, row.chosen) == (2, 0, 0, 8)
    assert row.left == {}
    bucket.store([{"v": 2, "templates": True, "seq": 1, "rows": [counted(NOW - 9)]}], at=NOW - 7, instance="00000002")
    source.read(NOW - 20, NOW)
    assert not source.traits.has_choice
    assert source.traits.has_method


# --- the Worker itself -----------------------------------------------------------------------------------------------


def test_the_workers_buckets_are_ours() -> None:
    """`bucketOf` of recorder.js and `find_bucket` agree on every whole millisecond, all that a tail event has."""
    node = shutil.which("node")
    assert node is not None
    line = next(line for line in RECORDER.splitlines() if line.startswith("const bucketOf"))
    ratio = next(line for line in RECORDER.splitlines() if line.startswith("const LOG_RATIO"))
    code = f"{ratio}\n{line}\nconsole.log(JSON.stringify(Array.from({{length: 70000}}, (_, ms) => bucketOf(ms))));"
    done = subprocess.run([node, "-e", code], capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    assert json.loads(done.stdout) == [find_bucket(float(ms)) for ms in range(70_000)]


def test_the_workers_routes_are_ours() -> None:
    """`templateOf` of recorder.js and `make_template` agree on whatever is asked for."""
    node = shutil.which("node")
    assert node is not None
    begin, end = RECORDER.index("const METHODS"), RECORDER.index("// The prefix in ROUTES")
    draw = random.Random(11)  # noqa: S311 a simulation
    paths = ["", "/", "/app", "/app/7", "/app?x=1", "/?x", "//", "//app", "/App_x-y", "/a1", "/.env", "/%61", "/a/"]
    paths += ["/" + "a" * length for length in (24, 25)] + [
        "/a;b",
        "/a.html",
        "/-a",
        "/_next/x",
        "/%C3%A9",
        "?utm_id=1",
    ]
    paths += ["/users/jane", "/users/me", "/reset/KQXZPW", "/api/trpc/a.b,c.d?batch=1", "/robots.txt", "/x/app.3f.js"]
    paths += [f"/organizations/{'part/' * number}end?page=1&sort=b" for number in range(12)]
    paths += [f"/{'a/' * number}b{query}" for number in range(10, 15) for query in ("", "?page=1", "?averylongname=1")]
    paths += [f"/x/{'a' * length}.js" for length in (252, 253)] + [f"/a{'_' * number}aB" for number in range(9)]
    signs = "abcdeXYZ019._-%@/?&=,[]~" + "/" * 4
    paths += ["/" + "".join(draw.choices(signs, k=draw.randrange(60))) for _ in range(3000)]
    words = "api orders getUserById FAQ QkZsTwXy v2 v222 deadbeef page utm_id ids[] _".split()  # noqa: SIM905
    for number in range(3000):
        paths.append("/" + "".join(draw.choice(words) + draw.choice("//?&=.-") for _ in range(number % 9)))
    asked = [(draw.choice(["GET", "POST", "HEAD", "BREW"]), f"https://shop.example{path}") for path in paths]
    code = RECORDER[begin:end] + f"const asked = {json.dumps(asked)};\n"
    code += "process.stdout.write(JSON.stringify(asked.map(([method, url]) => templateOf(method, url))));"
    done = subprocess.run([node], input=code, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    ours = [UNNAMED if (route := make_template(*each)) == "other" else route for each in asked]
    assert [pair for pair in zip(asked, ours, json.loads(done.stdout), strict=True) if pair[1] != pair[2]] == []
    assert len(set(ours)) > 500


def test_no_url_makes_the_worker_work_for_long() -> None:
    """Twice as many joints in a word are about twice the work, and not a thousand times (CPU time, best of five)."""
    node = shutil.which("node")
    assert node is not None
    code = (
        RECORDER[RECORDER.index("const METHODS") : RECORDER.index("// The prefix in ROUTES")]
        + """
const took = (joints) => {
  const url = `https://shop.example/a${"_".repeat(joints)}aB/b${"-_".repeat(joints / 2)}cD`;
  const begun = process.cpuUsage();
  for (let n = 0; n < 20; n++) templateOf("GET", url);
  const { user, system } = process.cpuUsage(begun);
  return user + system;
};
const best = (joints) => Math.min(...[1, 2, 3, 4, 5].map(() => took(joints)));
took(4);
console.log(JSON.stringify([best(8), best(16)]));
"""
    )
    done = subprocess.run([node], input=code, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    short, twice = json.loads(done.stdout)
    assert twice < 50 * max(short, 100), (short, twice)


def test_the_worker_names_what_is_used_and_what_runs_beside_requests() -> None:
    """A vital route beside a storm of words, also when it answers 404; schedules and queues are counted."""
    node = shutil.which("node")
    assert node is not None
    code = (
        RECORDER[: RECORDER.index("// Each object holds all batches")]
        + """
const event = (url, status, more = {}) => ({
  event: { request: { url: `https://shop.example${url}`, method: "GET", headers: {} }, response: { status } },
  eventTimestamp: 1000, wallTime: 5, outcome: "ok", scriptName: "shop", scriptVersion: { id: "v1" }, ...more,
});
const junk = (step) => `/junk/${"abcdefgh"[step % 8]}${step.toString(36).replace(/[0-9]/g, "o")}x`;
const book = () => books.get("shop");
const sent = [];
for (let step = 0; step < 20000; step += 1) {
  count(event(step % 200 === 199 ? "/api/orders" : junk(step), 200), {});
  if (step % 1000 === 999) {
    sent.push(book().rows.size);
    if (step < 19000) [book().rows, fresh].forEach((each) => each.clear());
  }
}
fresh.clear();
count(event("/api/orders", 404), {});
count(event("/never", 404), {});
const w = (step) => `/w${"aeiou"[step % 5]}${"bcdfg"[step % 7]}${"klmnp"[step % 11]}r`;
for (let step = 0; step < 500; step += 1) count(event(w(step), 404), {});
const run = (outcome) => ({ ...event("", 0), event: { cron: "*/5 * * * *", scheduledTime: 1 }, outcome });
count(run("ok"), {});
count(run("exception"), {});
const rows = [...books.get("shop").rows.values()];
process.stdout.write(JSON.stringify({ rows, sent, routes: routes.size }));
"""
    )
    done = subprocess.run([node], input=code, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    found = json.loads(done.stdout)
    rows = {row["route"]: row for row in found["rows"]}
    assert rows["GET /api/orders"]["statuses"] == {"200": 5, "404": 1}
    assert max(found["sent"]) <= 256 + 64 + 1
    assert rows["GET /never"]["statuses"] == {"404": 1}
    assert sum(set(row["statuses"]) == {"404"} for row in found["rows"]) <= 64
    assert found["routes"] <= 256
    assert rows["*"]["triggers"] == {"cron */5 * * * *": [2, 1]}


def test_the_worker_counts_apart_who_chose_a_version() -> None:
    """An override counts nowhere else, and its URL makes no route; a key makes a row of its own; ours are probes.

    What a Durable Object does is no visitor's request.
    """
    node = shutil.which("node")
    assert node is not None
    code = (
        RECORDER[: RECORDER.index("// Each object holds all batches")]
        + """
const event = (headers, status = 500, more = {}) => ({
  event: { request: { url: "https://shop.example/api", method: "GET", headers }, response: { status } },
  eventTimestamp: 1000, wallTime: 5, outcome: "ok", scriptName: "shop", scriptVersion: { id: "v1" }, ...more,
});
const override = { "cloudflare-workers-version-overrides": 'shop="v1"' };
count(event({}, 200), {});
count(event(override), {});
count(event({ "Cloudflare-Workers-Version-Overrides": "" }, 500, { outcome: "canceled" }), {});
count(event({ ...override, "x-backout-probe": "1" }), {});
count(event({ "cloudflare-workers-version-key": "REDACTED" }), {});
count(event({ "cloudflare-workers-cohort": "staff" }, 200), {});
count(event({}, 500, { executionModel: "durableObject" }), {}); // throws while its code is replaced
process.stdout.write(JSON.stringify([...books.get("shop").rows.values()]));
"""
    )
    done = subprocess.run([node], input=code, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    rows = {(row["route"], row.get("keyed", False)): row for row in json.loads(done.stdout)}
    told = {name: (row["requests"], row["errors"], row["probes"], row.get("chosen", 0)) for name, row in rows.items()}
    assert told == {
        ("GET /api", False): (1, 0, 0, 0),
        ("*", False): (0, 0, 1, 2),
        ("GET /api", True): (2, 1, 0, 0),
    }
