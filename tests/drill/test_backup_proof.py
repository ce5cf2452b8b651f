"""A backup that nobody restored is a hope: it is restored, read and dated, and an old proof is an alarm."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from backup_lab import Lab, running_lab
from kept import template
from values import replace

from backout.analysis.recovery.backups import explain_proof_alarm
from backout.model.database.backups import LastProof
from backout.model.database.recovery import BackupKind, BaseBackup
from backout.providers.archive.receiver_status import ReceiverStatus, read_status

from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.rotating("drills", 5)

DAY = 86_400.0


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    root = tmp_path_factory.mktemp("proved")
    with running_lab(root, template(), {"max_slot_wal_keep_size": "64MB"}, small=False) as lab:
        lab.configure('wal = "stream"', {"PATH": os.environ["PATH"]})
        lab.execute("CREATE TABLE orders (id int PRIMARY KEY, note text)", "CREATE DATABASE other")
        for words in (("wal", "start"), ("backup",)):
            done = lab.backout("db", *words)
            assert done.code == 0, done.err
        yield lab
        lab.backout("db", "wal", "stop")


def told(lab: Lab) -> str:
    """The notices so far; the channel answers nobody."""
    if "[notify" not in (lab.folder / "backout.toml").read_text(encoding="utf-8"):
        with (lab.folder / "backout.toml").open("a", encoding="utf-8") as file:
            file.write('[notify.webhook]\nurl_env = "HOOK"\nsecret_env = "HOOK_SECRET"\n')
        lab.variables |= {"HOOK": "http://127.0.0.1:9/nobody", "HOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
    return lab.backout("notify", "list", "--json").out


@pytest.mark.long
def test_a_proof_that_is_refused_has_failed_and_is_told(lab: Lab) -> None:
    """WAL is missing, so no way leads there: that is recorded as a failed proof, an alarm, and a notice."""
    earlier = told(lab).count('"unproved"')
    for _ in range(3):
        lab.execute("INSERT INTO orders VALUES (-1, 'm')", "DELETE FROM orders", "SELECT pg_switch_wal()")
    until(lambda: lab.backout("db", "wal", "status", "--json").json["lag_bytes"] == 0, what="it is received")
    until(lambda: len(list((lab.archive / "wal").rglob("0*"))) > 3, what="it is stored")
    gone = sorted((lab.archive / "wal").rglob("0*"))[-2]
    content = gone.read_bytes()
    gone.unlink()
    try:
        failed = lab.backout("db", "backups", "prove")
        assert failed.code == 3, failed.out
        assert "hole" in failed.err
    finally:
        gone.write_bytes(content)
    checked = lab.backout("db", "check")
    assert (checked.code, "the last proof of the backups failed: the archive has a hole" in checked.out) == (1, True)
    for words in (("backups", "list"), ("wal", "status")):
        assert "the last proof of the backups failed" in lab.backout("db", *words).out
    assert told(lab).count('"unproved"') == earlier + 1
    assert lab.backout("db", "backups", "prove").code == 0
    assert lab.backout("db", "check").code == 0


@pytest.mark.long
def test_the_newest_backup_is_restored_read_and_dated(lab: Lab) -> None:
    """Up to the end of the WAL, every database; then a damaged one: it is said, and stays said."""
    lab.execute("INSERT INTO orders SELECT g, 'n' FROM generate_series(1, 321) g")
    until(lambda: lab.backout("db", "wal", "status", "--json").json["lag_bytes"] == 0, what="it is received")
    dry = lab.backout("db", "backups", "prove", "--dry-run")
    assert (dry.code, "would restore" in dry.out) == (0, True), dry.err
    proved = lab.backout("db", "backups", "prove", "--json")
    assert proved.code == 0, proved.err
    found = proved.json["proof"]
    assert (found["rows"], found["tables"], found["databases"]) == (321, 1, 2)  # type: ignore[index,call-overload]
    assert lab.backout("db", "restore", "--list", "--json").json["sides"] == []
    assert lab.backout("db", "backups", "prove", "--if-due", "--json").json["due"] is False
    shown = lab.backout("db", "wal", "status", "--json").json["protection"]
    assert shown["proved_at"] == found["at"]  # type: ignore[index,call-overload]

    damaged = next((lab.archive / "base").rglob("pack-*"))
    kept = damaged.read_bytes()
    damaged.write_bytes(kept[: len(kept) // 2] + bytes(64) + kept[len(kept) // 2 + 64 :])
    try:
        lab.backout("db", "restore", "--release")
        failed = lab.backout("db", "backups", "prove")
        assert failed.code == 1, failed.out
        checked = lab.backout("db", "check")
        assert checked.code == 1
        assert "! the last proof of the backups failed" in checked.out
        assert "backout db backups prove" in checked.err
    finally:
        damaged.write_bytes(kept)
    assert lab.backout("db", "backups", "prove", "--if-due").code == 0
    assert lab.backout("db", "check").code == 0


def test_an_old_proof_is_an_alarm() -> None:
    """Older than is allowed, or none although the oldest backup is; a failed one at once; nobody asked, nothing."""
    backup = BaseBackup("b", BackupKind.FULL, None, 0, DAY, 40, 90, 1, "7", 180006, 1, 1, verified_at=1.0)
    assert explain_proof_alarm(LastProof(), (backup,), 8 * DAY, 8 * DAY) == ""
    assert "in 8 days" in explain_proof_alarm(LastProof(), (backup,), 9.1 * DAY, 8 * DAY)
    assert explain_proof_alarm(LastProof(9 * DAY), (backup,), 16 * DAY, 8 * DAY) == ""
    assert "is 9 days old, and 8" in explain_proof_alarm(LastProof(9 * DAY), (backup,), 18 * DAY, 8 * DAY)
    assert "failed: torn" in explain_proof_alarm(LastProof(9 * DAY, "torn"), (backup,), 9 * DAY, 8 * DAY)
    assert explain_proof_alarm(LastProof(failed="torn"), (backup,), 99 * DAY, 0) == ""
    assert explain_proof_alarm(LastProof(), (), 99 * DAY, DAY) == ""
    assert "is dated in the future" in explain_proof_alarm(LastProof(56 * DAY), (backup,), 16 * DAY, 8 * DAY)
    young = replace(backup, id="c", ended_at=9 * DAY)
    assert "in 8 days" in explain_proof_alarm(LastProof(), (backup, young), 9.1 * DAY, 8 * DAY)


@pytest.mark.long
def test_without_received_wal_the_newest_backup_is_proved_up_to_its_own_end(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nobody receives WAL unless it is set up; the backup brings its own along, and nothing stands behind it."""
    with running_lab(tmp_path, template()) as lab:
        lab.execute("CREATE TABLE orders (id int PRIMARY KEY)", "INSERT INTO orders SELECT generate_series(1, 123)")
        assert lab.backout("db", "backup").code == 0
        proved = lab.backout("db", "backups", "prove", "--json")
        assert proved.code == 0, proved.err
        assert proved.json["proof"]["rows"] == 123  # type: ignore[index,call-overload]
        assert lab.backout("db", "check").code == 0
        damaged = next((lab.archive / "base").rglob("pack-*"))
        damaged.write_bytes(damaged.read_bytes()[:-64] + bytes(64))
        lab.backout("db", "restore", "--release")
        assert lab.backout("db", "backups", "prove").code == 1
        checked = lab.backout("db", "check", "--json")  # although nobody receives WAL
        assert (checked.code, "proof of the backups failed" in str(checked.json["alarm"])) == (1, True)


@pytest.mark.long
@pytest.mark.proof
def test_the_receiver_tells_within_a_minute_that_the_protection_is_over(lab: Lab) -> None:
    """It is in its file and in a notice, since when and from where; what protects again is told, too."""
    lab.backout("db", "wal", "stop")
    told(lab)
    assert lab.backout("db", "wal", "start").code == 0
    assert lab.backout("db", "backup").code == 0

    def seen() -> ReceiverStatus:
        found = read_status(lab.archive)
        assert found is not None
        return found

    until(lambda: seen().protected, timeout_s=60.0, what="it is found protected")
    position = seen().protected_lsn
    hidden = lab.folder / "hidden"
    (lab.archive / "base").rename(hidden)
    until(lambda: seen().protected is False, timeout_s=60.0, what="it is found unprotected")
    found = seen()
    assert found.protected_lsn >= position
    assert found.why == "there is no verified base backup"
    assert "unprotected" in told(lab)
    assert "it was protected last at" in lab.backout("db", "wal", "status").out
    hidden.rename(lab.archive / "base")
    until(lambda: seen().protected, timeout_s=60.0, what="it is protected again")
    until(lambda: '"protected"' in lab.backout("notify", "list", "--json").out, what="that is told")
