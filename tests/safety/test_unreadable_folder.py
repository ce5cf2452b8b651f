"""The folder of backout belongs to somebody else, is full, or is damaged: nothing is kept there, nothing breaks off."""

from __future__ import annotations

import json
import os
import sqlite3
from typing import TYPE_CHECKING

import pytest

from backout.model.incident.notice import Notice, NoticeKind
from backout.providers.clock import SystemClock
from backout.providers.files.bundles import FileBundleStore
from backout.providers.files.card import FileCard
from backout.providers.files.holds import FileHolds
from backout.providers.notify.channel import Route
from backout.providers.notify.dispatcher import Dispatcher
from backout.providers.notify.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOBODY = 65534


def notice(key: str = "k") -> Notice:
    """Return a notice."""
    return Notice(NoticeKind.FAILED, "production", 1e9, "t", "x", key)


class Taking:
    """A channel that takes everything."""

    def __init__(self) -> None:
        self.got: list[str] = []

    def send(self, notice: Notice, now: float) -> None:
        """Take it."""
        assert now > 0
        self.got.append(notice.key)


def as_nobody(act: Callable[[], object]) -> str:
    """Return what this gives, as JSON, in a process without any rights; its error's name when it raised."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            said = json.dumps(act())
        except BaseException as error:  # noqa: BLE001 it is told to the parent
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode()[:4000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        said = stream.read()
    os.waitpid(child, 0)
    return said


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """Return a folder that only its owner may look into; it may be reached by everybody."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == tmp_path.owner() and folder.stat().st_mode & 0o011 != 0o011 and folder != folder.parent:
            folder.chmod(0o755)
    folder = tmp_path / "of-somebody-else"
    folder.mkdir(mode=0o700 if os.getuid() == 0 else 0o000)
    return folder


def test_a_folder_of_somebody_else_is_an_answer(closed: Path) -> None:
    """Each adapter says what it says of a folder that cannot be used; none raises what nobody catches."""
    outbox = Outbox(closed / "journal.notices")
    channel = Taking()

    def told() -> object:
        dispatcher = Dispatcher([Route("x", lambda: channel)], outbox, SystemClock())
        dispatcher.tell(notice())
        delivery = dispatcher.flush(5)
        return [channel.got, delivery.delivered, len(delivery.problems) > 0]

    assert json.loads(as_nobody(told)) == [["k"], 1, True]
    assert json.loads(as_nobody(lambda: FileBundleStore(closed / "bundles", "app").has("v1"))) is False
    assert json.loads(as_nobody(lambda: FileCard(closed / "card.md").path())) is None
    assert "cannot be read" in as_nobody(lambda: getattr(FileHolds(closed).read("production"), "why", ""))


def test_one_letter_that_cannot_be_read_keeps_no_other_from_arriving(tmp_path: Path) -> None:
    """Of a newer backout, or damaged: it is told that there was one, and the others go out."""
    path = tmp_path / "journal.notices"
    Outbox(path).keep(notice("newer"), ["x"], 1.0)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE notice SET content = replace(content, '\"failed\"', '\"of another day\"')")
        db.execute("UPDATE letter SET kind = 'of another day'")
    db.close()
    channel = Taking()
    dispatcher = Dispatcher([Route("x", lambda: channel)], Outbox(path), SystemClock())
    dispatcher.tell(notice("mine"))
    delivery = dispatcher.flush(5)
    assert sorted(channel.got) == ["mine", "newer"]
    assert delivery.problems == ()
    assert {"cannot be read" in item.notice.title for item in Outbox(path).list_queued()} == {True, False}
