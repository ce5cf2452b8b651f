"""The outbox and who delivers from it: nothing kept is lost, nothing is told twice, nobody waits for a channel."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.errors import OutboxUnavailable
from backout.model.incident.notice import Notice, NoticeKind, QueuedNotice, QueueState
from backout.providers.clock import SystemClock
from backout.providers.memory.clock import WorldClock
from backout.providers.notify.channel import Route, SendFailed, make_broken
from backout.providers.notify.dispatcher import Dispatcher
from backout.providers.notify.outbox import HOLD_S, PER_WINDOW, WINDOW_S, Outbox
from backout.providers.notify.worker import AT_MOST_S, TRIES, DeliveryWorker
from backout.report.redact import Redactor

from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

START = 1_800_000_000.0


def notice(key: str, *, kind: NoticeKind = NoticeKind.ROLLED_BACK, at: float = START) -> Notice:
    return Notice(kind, "production", at, f"title of {key}", f"text of {key}", key=key, run="rollback-1")


@dataclass
class Recorder:
    """A channel that remembers, and fails as the test says."""

    sent: list[Notice] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    gate: threading.Event | None = None
    entered: threading.Event = field(default_factory=threading.Event)

    def send(self, notice: Notice, now: float) -> None:
        self.times.append(now)
        self.entered.set()
        if self.gate is not None:
            assert self.gate.wait(PATIENCE_S)
        if self.failures:
            raise self.failures.pop(0)
        self.sent.append(notice)

    def route(self, name: str = "webhook") -> Route:
        return Route(name, lambda: self)


def keys(recorder: Recorder) -> list[str]:
    return [each.key for each in recorder.sent]


def worker(recorder: Recorder, outbox: Outbox, clock: WorldClock, name: str = "webhook") -> DeliveryWorker:
    return DeliveryWorker(recorder.route(name), [outbox], clock, draw=lambda _low, high: high)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "journal.notices.sqlite"


# --- the outbox -----------------------------------------------------------------------------------------------------


def test_what_was_kept_comes_back_whole(path: Path) -> None:
    """Every field, for each channel; the file is the owner's alone."""
    kept = replace(notice("k"), next=("a", "b"), facts={"x": "ü"})
    assert Outbox(path).keep(kept, ["webhook", "smtp"], START)
    queued = Outbox(path).list_queued()
    assert [item.channel for item in queued] == ["webhook", "smtp"]
    assert all(item.notice == kept for item in queued)
    assert path.stat().st_mode & 0o777 == 0o600


def test_reading_creates_nothing(path: Path) -> None:
    """A look at an outbox that does not exist is empty, and leaves no file."""
    outbox = Outbox(path)
    assert outbox.list_queued() == ()
    assert outbox.counts() == {}
    assert outbox.take("webhook", START) == ((), float("inf"))
    assert not path.parent.exists()


def test_a_key_is_kept_once(path: Path) -> None:
    """In this process and in another one; a channel that is new since then still gets it."""
    assert Outbox(path).keep(notice("k"), ["webhook"], START)
    assert not Outbox(path).keep(notice("k"), ["webhook"], START)
    assert not Outbox(path).keep(notice("k"), ["webhook", "smtp"], START)
    assert [item.channel for item in Outbox(path).list_queued()] == ["webhook", "smtp"]


def test_two_processes_never_send_the_same_letter(path: Path) -> None:
    """Whoever takes it holds it; held for too long, it is taken by another."""
    first, second = Outbox(path), Outbox(path)
    first.keep(notice("k"), ["webhook"], START)
    (item,), _ = first.take("webhook", START)
    assert second.take("webhook", START) == ((), START + HOLD_S)
    first.settle((item,), QueueState.DELIVERED, START)
    assert second.take("webhook", START + 1) == ((), float("inf"))
    first.keep(notice("l"), ["webhook"], START)
    first.take("webhook", START)
    (again,), _ = second.take("webhook", START + HOLD_S)
    assert again.notice.key == "l"
    first.settle((again,), QueueState.GIVEN_UP, START + HOLD_S, why="too late: no longer ours")
    assert second.counts()[QueueState.WAITING] == 1


def test_old_letters_are_forgotten_and_waiting_ones_are_not(path: Path) -> None:
    """After 35 days."""
    outbox = Outbox(path)
    for key in ("done", "waits"):
        outbox.keep(notice(key), ["webhook"], START)
    (item,), _ = outbox.take("webhook", START)
    outbox.settle((item,), QueueState.DELIVERED, START)
    outbox.keep(notice("new"), ["webhook"], START + 36 * 86_400)
    assert {item.notice.key for item in outbox.list_queued()} == {"waits", "new"}


@pytest.mark.parametrize(
    "content", [b"this is no database, however long it may be" * 100, b"SQLite format 3\0" + b"x" * 900]
)
def test_a_damaged_outbox_says_what_to_do(path: Path, content: bytes) -> None:
    """It is moved away by a person, never deleted by us."""
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(OutboxUnavailable, match="mv "):
        Outbox(path).keep(notice("k"), ["webhook"], START)
    assert path.read_bytes() == content


# --- a round of deliveries ------------------------------------------------------------------------------------------


def test_a_failure_is_tried_again_later_and_later(path: Path) -> None:
    """Exponentially, at most twelve times within a day; then it is given up, with the reason."""
    clock, outbox, recorder = WorldClock(START), Outbox(path), Recorder()
    recorder.failures = [SendFailed("down") for _ in range(50)]
    outbox.keep(notice("k"), ["webhook"], START)
    post = worker(recorder, outbox, clock)
    for _ in range(TRIES + 5):
        again = post.deliver()
        if again == float("inf"):
            break
        clock.sleep(again - clock.now())
        (item,) = outbox.list_queued()
        clock.sleep(max(0.0, item.at - clock.now()))
    (item,) = outbox.list_queued()
    assert (item.state, item.tries, item.why) == (QueueState.GIVEN_UP, TRIES, "down")
    waits = [later - earlier for earlier, later in zip(recorder.times, recorder.times[1:], strict=False)]
    assert waits == sorted(waits)
    assert waits[:5] == [1.0, 3.0, 9.0, 27.0, 81.0]
    assert recorder.times[-1] - START <= AT_MOST_S
    assert "tried 12 times" in post.problem


def test_it_arrives_at_last(path: Path) -> None:
    """A success ends the tries, and the problem."""
    clock, outbox, recorder = WorldClock(START), Outbox(path), Recorder(failures=[SendFailed("down")])
    outbox.keep(notice("k"), ["webhook"], START)
    post = worker(recorder, outbox, clock)
    assert post.deliver() == START + 1.0
    assert post.problem == "webhook: down (tried 1 time)"
    clock.sleep(1)
    assert post.deliver() == float("inf")
    assert (keys(recorder), post.problem) == (["k"], "")
    assert outbox.counts() == {QueueState.DELIVERED: 1}


def test_what_cannot_help_is_not_tried_again(path: Path) -> None:
    """A permanent refusal costs this notice alone; the next one is sent in the same round."""
    clock, outbox = WorldClock(START), Outbox(path)
    recorder = Recorder(failures=[SendFailed("answered 410", permanent=True)])
    outbox.keep(notice("first"), ["webhook"], START)
    outbox.keep(notice("second"), ["webhook"], START)
    assert worker(recorder, outbox, clock).deliver() == float("inf")
    assert keys(recorder) == ["second"]
    assert outbox.counts() == {QueueState.GIVEN_UP: 1, QueueState.DELIVERED: 1}


def test_a_wait_that_was_asked_for_is_kept(path: Path) -> None:
    """Retry-After, exactly; one that ends after a day is not waited for."""
    clock, outbox = WorldClock(START), Outbox(path)
    recorder = Recorder(failures=[SendFailed("busy", retry_after_s=77.0), SendFailed("busy", retry_after_s=1e6)])
    outbox.keep(notice("k"), ["webhook"], START)
    post = worker(recorder, outbox, clock)
    assert post.deliver() == START + 77.0
    clock.sleep(76)
    post.deliver()
    assert len(recorder.times) == 1
    clock.sleep(1)
    post.deliver()
    assert outbox.counts() == {QueueState.GIVEN_UP: 1}


def test_a_channel_that_raises_anything_is_a_channel_that_failed(path: Path) -> None:
    """A mistake in a channel ends neither the thread nor the notice."""
    clock, outbox = WorldClock(START), Outbox(path)
    recorder = Recorder(failures=[KeyError("x"), RuntimeError("boom")])
    outbox.keep(notice("k"), ["webhook"], START)
    post = worker(recorder, outbox, clock)
    for _ in range(3):
        post.deliver()
        clock.sleep(5)
    assert keys(recorder) == ["k"]


def test_too_many_are_summed_up(path: Path) -> None:
    """Ten messages in ten minutes; the tenth stands for all that is left, by title, what waits for a person first."""
    clock, outbox, recorder = WorldClock(START), Outbox(path), Recorder()
    for number in range(30):
        kind = NoticeKind.HELD if number == 29 else NoticeKind.ROLLED_BACK
        outbox.keep(notice(f"n{number:02d}", kind=kind, at=START + number), ["webhook"], START)
    post = worker(recorder, outbox, clock)
    assert post.deliver() == float("inf")
    assert keys(recorder)[:9] == [f"n{number:02d}" for number in range(9)]
    assert len(recorder.sent) == PER_WINDOW
    last = recorder.sent[-1]
    assert (last.kind, last.facts["count"]) == (NoticeKind.SUMMARY, "21")
    lines = last.text.splitlines()
    assert lines[1] == "- title of n29 (run rollback-1)"
    assert lines[-1] == "and 1 more"
    assert outbox.counts() == {QueueState.DELIVERED: 30}


def test_beyond_the_limit_what_waits_for_a_person_goes_first(path: Path) -> None:
    """Without anything urgent the rest waits for room; with it, a summary goes out after a minute."""
    clock, outbox, recorder = WorldClock(START), Outbox(path), Recorder()
    post = worker(recorder, outbox, clock)
    for number in range(PER_WINDOW):
        outbox.keep(notice(f"n{number}"), ["webhook"], clock.now())
        post.deliver()
    outbox.keep(notice("calm"), ["webhook"], clock.now())
    assert post.deliver() == START + WINDOW_S
    assert len(recorder.sent) == PER_WINDOW
    outbox.keep(notice("urgent", kind=NoticeKind.NOT_RESTORED), ["webhook"], clock.now())
    again = post.deliver()
    assert again == START + 60
    clock.sleep(60)
    assert post.deliver() == float("inf")
    assert "title of urgent" in recorder.sent[-1].text
    assert "title of calm" in recorder.sent[-1].text
    assert recorder.sent[-1].key == "calm\nurgent"


def test_another_environment_or_channel_has_its_own_limit(path: Path) -> None:
    """A flood of staging does not silence production."""
    clock, outbox, recorder = WorldClock(START), Outbox(path), Recorder()
    for number in range(PER_WINDOW + 5):
        flood = replace(notice(f"n{number}"), environment="staging")
        outbox.keep(flood, ["webhook"], START)
    post = worker(recorder, outbox, clock)
    post.deliver()
    outbox.keep(notice("k"), ["webhook"], START)
    post.deliver()
    assert recorder.sent[-1].key == "k"


# --- the dispatcher ---


def dispatcher(path: Path, *routes: Route, redact: Callable[[str], str] = str) -> Dispatcher:
    return Dispatcher(routes, Outbox(path), SystemClock(), redact=redact)


def test_told_and_delivered_through_every_channel(path: Path) -> None:
    """Once each, whatever is told twice."""
    first, second = Recorder(), Recorder()
    tells = dispatcher(path, first.route("webhook"), second.route("smtp"))
    for _ in range(3):
        tells.tell(notice("k"))
    delivery = tells.flush(10)
    assert (keys(first), keys(second)) == (["k"], ["k"])
    assert (delivery.delivered, delivery.waiting, delivery.given_up, delivery.problems) == (2, 0, 0, ())


def test_kinds_that_nobody_wants_are_not_kept(path: Path) -> None:
    """The filter is at the source."""
    recorder = Recorder()
    tells = Dispatcher([recorder.route()], Outbox(path), SystemClock(), kinds=[NoticeKind.HELD])
    tells.tell(notice("k"))
    assert tells.flush(10).delivered == 0
    assert not path.exists()


def test_each_notice_links_to_its_page(path: Path) -> None:
    """The page stands in its facts, kept with it."""
    recorder = Recorder()
    tells = Dispatcher([recorder.route()], Outbox(path), SystemClock(), pages="https://b.example.com/")
    tells.tell(replace(notice("k"), run="guard-1", environment="staging"))
    assert tells.flush(10).delivered == 1
    assert [each.facts["page"] for each in recorder.sent] == ["https://b.example.com/env/staging/run/guard-1"]


def test_nothing_told_starts_nothing(path: Path) -> None:
    """No thread, no file."""
    before = threading.active_count()
    assert dispatcher(path, Recorder().route()).flush(10).delivered == 0
    assert threading.active_count() == before
    assert not path.exists()


def test_a_channel_that_hangs_costs_its_own_thread(path: Path) -> None:
    """Telling returns while it hangs, the other channel delivers, and flush does not wait for ever."""
    hanging, other = Recorder(gate=threading.Event()), Recorder()
    tells = dispatcher(path, hanging.route("webhook"), other.route("smtp"))
    try:
        tells.tell(notice("k"))
        assert hanging.entered.wait(PATIENCE_S)
        tells.tell(notice("l"))
        until(lambda: keys(other) == ["k", "l"], what="the other channel delivers")
        delivery = tells.flush(0.05)
        assert (delivery.delivered, delivery.waiting) == (2, 2)
        assert hanging.sent == []
    finally:
        assert hanging.gate is not None
        hanging.gate.set()
    assert tells.flush(10).delivered == 4


def test_a_broken_channel_says_why_and_waits_for_a_process_that_can(path: Path) -> None:
    """A missing secret is a problem from the start; the notice is delivered when the secret is there."""
    tells = dispatcher(path, make_broken("webhook", "a URL is needed, and X is not set"))
    assert tells.flush(0).problems == ("webhook: a URL is needed, and X is not set",)
    tells.tell(notice("k"))
    delivery = tells.flush(10)
    assert delivery.waiting == 1
    assert delivery.problems == ("webhook: a URL is needed, and X is not set (tried 1 time)",)
    recorder, clock = Recorder(), WorldClock(SystemClock().now() + 600)
    worker(recorder, Outbox(path), clock).deliver()
    assert keys(recorder) == ["k"]


@pytest.mark.parametrize("field", ["key", "environment", "title", "text", "run", "next", "facts"])
def test_half_a_character_stops_no_notice(path: Path, field: str) -> None:
    """A lone surrogate, as a file's name or JSON may hold, is written out; no notice is lost by it."""
    recorder = Recorder()
    tells = dispatcher(path, recorder.route())
    half = "half \udcff"
    odd = {"next": (half,), "facts": {half: half}}.get(field, half)
    tells.tell(replace(notice("odd"), **{field: odd}))
    assert tells.flush(10).waiting == 0
    tells.tell(notice("later"))
    delivery = tells.flush(10)
    assert (delivery.delivered, delivery.waiting, delivery.problems) == (2, 0, ())
    clean = {"next": ("half \\udcff",), "facts": {"half \\udcff": "half \\udcff"}}.get(field, "half \\udcff")
    assert getattr(recorder.sent[0], field) == clean
    assert recorder.sent[1].key == "later"


class Odd(Outbox):
    """An outbox with a mistake in it."""

    def keep(self, notice: Notice, channels: Sequence[str], now: float) -> bool:
        if notice.key == "odd":
            raise RuntimeError("a mistake")
        return super().keep(notice, channels, now)

    def take(self, channel: str, now: float) -> tuple[tuple[QueuedNotice, ...], float]:
        if self.exists and not self.mended:
            self.mended = True
            raise RuntimeError("another")
        return super().take(channel, now)

    mended = False


def test_a_mistake_of_the_outbox_costs_one_notice_its_place_on_disk(path: Path) -> None:
    """It is sent from memory, that is said, and the thread that keeps notices lives on."""
    recorder = Recorder()
    tells = Dispatcher([recorder.route()], Odd(path), SystemClock())
    tells.tell(notice("odd"))
    delivery = tells.flush(10)
    assert keys(recorder) == ["odd"]
    assert delivery.problems == (
        "the outbox cannot be used (RuntimeError); notices are sent, but lost if that fails before this command ends",
    )
    tells.tell(notice("later"))
    until(lambda: keys(recorder) == ["odd", "later"], what="the next one is kept and sent")


def test_a_locked_outbox_is_not_waited_for(path: Path) -> None:
    """Who tells goes on; what cannot be kept is sent from memory, and that is said."""
    recorder = Recorder()
    tells = dispatcher(path, recorder.route())
    Outbox(path).keep(notice("before"), [], START)
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        tells.tell(notice("k"))
        until(lambda: keys(recorder) == ["k"], what="it is sent from memory")
        (problem,) = tells.flush(0.01).problems[:1]
        assert "locked" in problem
        other.execute("ROLLBACK")
    other.close()
    assert tells.flush(10).delivered == 1


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    """The same, for a path that cannot be written."""
    (tmp_path / "file").write_text("")
    recorder = Recorder()
    tells = dispatcher(tmp_path / "file" / "notices.sqlite", recorder.route())
    tells.tell(notice("k"))
    delivery = tells.flush(10)
    assert keys(recorder) == ["k"]
    assert delivery.delivered == 1
    assert "cannot be written" in delivery.problems[0]


def test_no_secret_is_kept_or_sent(path: Path) -> None:
    """Titles, texts, facts, keys, commands and reasons go through the mask first."""
    redactor = Redactor()
    redactor.register("canary-token-0123456789")
    recorder = Recorder(failures=[SendFailed("answered canary-token-0123456789", permanent=True)])
    tells = dispatcher(path, recorder.route(), redact=redactor.redact)
    told = Notice(
        NoticeKind.FAILED,
        "production",
        START,
        "title canary-token-0123456789",
        "cannot connect to postgres://app:canary-word@db/x",
        key="k canary-token-0123456789",
        next=("curl -H 'Authorization: Bearer canary-token-0123456789'",),
        facts={"what": "password=canary-word"},
    )
    tells.tell(replace(told, key="first"))
    tells.tell(told)
    delivery = tells.flush(10)
    (sent,) = recorder.sent
    assert [item.why for item in Outbox(path).list_queued() if item.why] == ["answered ***"]
    assert "canary" not in repr(sent) + repr(delivery) + repr(Outbox(path).list_queued())
    assert b"canary" not in path.read_bytes()
    assert "***" in sent.title


CRASH = """
import os, sys
from pathlib import Path
from backout.model.incident.notice import Notice, NoticeKind
from backout.providers.clock import SystemClock
from backout.providers.notify.channel import Route
from backout.providers.notify.dispatcher import Dispatcher
from backout.providers.notify.outbox import Outbox

class Dying:
    def send(self, notice, now):
        os._exit(9)

class Sleeping:
    def send(self, notice, now):
        import time
        time.sleep(60)

path, how = Path(sys.argv[1]), sys.argv[2]
dispatcher = Dispatcher([Route("webhook", {"dies": Dying, "sleeps": Sleeping}[how])], Outbox(path), SystemClock())
dispatcher.tell(Notice(NoticeKind.HELD, "production", SystemClock().now(), "t", "x", key="k"))
if how == "sleeps":
    os._exit(9)
dispatcher.flush(60)
"""


@pytest.mark.parametrize("how", ["dies", "sleeps"])
def test_the_next_process_delivers_what_a_dead_one_left(path: Path, how: str) -> None:
    """Killed while sending, or right after it was told: the notice is on disk, and its dead holder holds nothing."""
    code = subprocess.run([sys.executable, "-c", CRASH, str(path), how], check=False, timeout=PATIENCE_S).returncode
    assert code == 9
    recorder = Recorder()
    first, second = dispatcher(path, recorder.route()), dispatcher(path, recorder.route())
    assert first.flush(10).delivered == 1
    assert second.flush(10).delivered == 1
    assert keys(recorder) == ["k"]


def test_many_processes_tell_and_deliver_each_notice_once(path: Path) -> None:
    """Four at once on one outbox; together they send every notice exactly once."""
    log = path.parent / "sent"
    path.parent.mkdir()
    program = f"""
import os, sys
from pathlib import Path
from backout.model.incident.notice import Notice, NoticeKind
from backout.providers.clock import SystemClock
from backout.providers.notify.channel import Route
from backout.providers.notify.dispatcher import Dispatcher
from backout.providers.notify.outbox import Outbox

class Logging:
    def send(self, notice, now):
        fd = os.open({str(log)!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, (notice.key + "\\n").encode())
        os.close(fd)

dispatcher = Dispatcher([Route("webhook", Logging)], Outbox(Path({str(path)!r})), SystemClock())
for number in range(8):
    key = f"n{{number}}"
    dispatcher.tell(Notice(NoticeKind.HELD, f"e{{number}}", SystemClock().now(), "t", "x", key=key))
dispatcher.flush(30)
"""
    processes = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(4)]
    assert [process.wait(PATIENCE_S) for process in processes] == [0] * 4
    dispatcher(path, Recorder().route()).flush(30)
    assert sorted(log.read_text().split()) == [f"n{number}" for number in range(8)]


def test_a_sentence_for_customers_goes_to_the_channels_that_want_it(tmp_path: Path) -> None:
    """No other channel gets it; where none wants it, nothing is kept."""
    slack, mail = Recorder(), Recorder()
    routes = [Route("slack", lambda: slack), Route("smtp", lambda: mail)]
    with_mail = Dispatcher(routes, Outbox(tmp_path / "one.sqlite"), SystemClock(), updates=("smtp",))
    with_mail.tell(notice("u", kind=NoticeKind.UPDATE))
    with_mail.tell(notice("i", kind=NoticeKind.INCIDENT))
    with_mail.flush(PATIENCE_S)
    assert [each.key for each in slack.sent] == ["i"]
    assert [each.key for each in mail.sent] == ["u", "i"]
    without = Dispatcher(routes, Outbox(tmp_path / "two.sqlite"), SystemClock())
    without.tell(notice("u2", kind=NoticeKind.UPDATE))
    assert not (tmp_path / "two.sqlite").exists()
