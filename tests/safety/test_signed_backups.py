"""With a key, what is not signed is no backup: whoever may write into the store cannot bring in one of his own."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from backup_lab import Lab, running_lab
from kept import template
from small_cluster import SEGMENT

from backout.errors import BackoutError, Refused
from backout.providers.archive.repository import Repository
from backout.providers.archive.sealing import Key
from backout.providers.archive.stores import FolderStore
from backout.providers.archive.wal import WalArchive
from backout.providers.postgres.server.binaries import find_binaries

from extent import long

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = "0f" * 32
SEALED = 'key_env = "BACKUP_KEY"'
HELD = {"BACKUP_KEY": KEY}


@dataclass
class Kept:
    """A lab with two backups that are not signed and two that are, and WAL behind each pair.

    Args:
        plain, signed: the ids, full and incremental.
        early, late: positions behind each pair.
    """

    lab: Lab
    plain: list[str]
    signed: list[str]
    early: str
    late: str
    whole: Path

    def reset(self) -> None:
        """Put the store back as it was."""
        shutil.rmtree(self.lab.archive)
        shutil.copytree(self.whole, self.lab.archive, symlinks=True)
        self.lab.configure(SEALED, HELD)

    def verify(self, backup: str, *more: str) -> tuple[int, str]:
        """Read a backup again, and return the exit code and what was said."""
        answer = self.lab.backout("db", "backups", "verify", backup, *more)
        return answer.code, answer.err

    def record(self, backup: str) -> Path:
        """Return the file of a backup's record."""
        return self.lab.archive / "base" / backup / "record.json"

    def rewrite(self, backup: str, *, into: str | None = None, **facts: object) -> None:
        """Change a record as somebody who may write into the store could."""
        found = json.loads(self.record(backup).read_text(encoding="utf-8"))
        found["facts"].update(facts)
        self.record(into or backup).write_text(json.dumps(found), encoding="utf-8")


def taken(lab: Lab) -> list[str]:
    """Take a full backup and an incremental one."""
    ids = []
    for kind in ("--full", "--incremental"):
        answer = lab.backout("db", "backup", "--json", kind)
        assert answer.code == 0, answer.err
        backup = answer.json["backup"]
        assert isinstance(backup, dict)
        ids.append(str(backup["id"]))
    return ids


def archived(lab: Lab, key: Key | None) -> str:
    """Write a row, put all WAL into the store, and return a position in it."""
    lab.execute("INSERT INTO t VALUES (1)")
    position = str(lab.value("SELECT pg_current_wal_lsn()"))
    lab.execute("INSERT INTO t VALUES (2)", "SELECT pg_switch_wal()", "CHECKPOINT")
    system = str(lab.value("SELECT system_identifier FROM pg_control_system()"))
    archive = WalArchive(FolderStore(lab.archive), system, lab.archive / "incoming", key)
    archive.set_layout(SEGMENT)
    last = str(lab.value("SELECT pg_walfile_name(pg_current_wal_lsn())"))
    known = {segment.name for segment in archive.segments()}
    for path in sorted((lab.folder / "data" / "pg_wal").glob("0*")):
        if path.name < last and len(path.name) == len(last) and path.name not in known:
            archive.keep(path.name, path.read_bytes())
    return position


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp("signed")
    settings = {"summarize_wal": "on", "wal_keep_size": "512MB"}
    with running_lab(folder, template(), settings) as lab:
        lab.execute("CREATE TABLE t (n int)")
        plain = taken(lab)
        early = archived(lab, None)
        lab.configure(SEALED, HELD)
        signed = taken(lab)
        late = archived(lab, Key.parse(KEY))
        whole = folder / "whole"
        shutil.copytree(lab.archive, whole, symlinks=True)
        yield Kept(lab, plain, signed, early, late, whole)


@pytest.fixture
def kept(made: Kept) -> Kept:
    made.reset()
    return made


def test_a_backup_that_is_not_signed_is_refused_and_may_be_taken_by_its_name(kept: Kept) -> None:
    """Exit 3 with the flag to type; each member of the chain by its own name; the acceptance stands in the journal."""
    full, incremental = kept.plain
    code, said = kept.verify(full)
    assert code == Refused.exit_code, said
    assert "not signed, although there is a key" in said
    assert f"--accept-unsigned {full}" in said
    code, said = kept.verify(incremental, "--accept-unsigned", incremental)
    assert code == Refused.exit_code, said
    assert f"--accept-unsigned {full}" in said
    code, said = kept.verify(full, "--accept-unsigned", full, "-m", "taken before the key was there")
    assert code == 0, said
    assert kept.verify(full)[0] == Refused.exit_code, "it was accepted once, not for ever"
    assert [kept.verify(backup)[0] for backup in kept.signed] == [0, 0]


def test_what_counts_as_protection_is_signed(kept: Kept) -> None:
    """Planted backups neither show as backups nor push signed ones out of the time that is kept."""
    for backup in kept.plain:
        shutil.rmtree(kept.record(backup).parent)
    planted = "29991231-000000"
    shutil.copytree(kept.record(kept.signed[0]).parent, kept.record(planted).parent)
    kept.rewrite(kept.signed[0], into=planted, id=planted, began_at=1.0, ended_at=2.0)
    listed = kept.lab.backout("db", "backups", "list", "--json").json
    backups = listed["backups"]
    assert isinstance(backups, list)
    assert [each["id"] for each in backups] == kept.signed
    assert planted in str(listed["refused"])
    kept.lab.configure(f'{SEALED}\nkeep = "1s"', HELD)
    would = kept.lab.backout("db", "backup", "--dry-run", "--json").json["would_remove"]
    assert isinstance(would, list)
    assert not {*would} & {*kept.signed}


@pytest.mark.parametrize("how", ["strip", "keyless", "rename", "swap", "other", "parent", "traversal", "chain"])
def test_a_record_that_is_not_as_it_was_signed_is_refused_by_name(kept: Kept, how: str) -> None:
    """Stripped, moved, exchanged, given another parent or a path for an id: exit 3, and nothing is written."""
    full, incremental = kept.signed
    record = json.loads(kept.record(full).read_text(encoding="utf-8"))
    if how == "strip":
        kept.record(full).write_text(json.dumps({**record, "signature": ""}), encoding="utf-8")
    elif how == "keyless":
        kept.record(full).write_text(json.dumps({**record, "signature": "", "key": ""}), encoding="utf-8")
    elif how == "rename":
        moved = kept.record(full).parent.with_name("20300101-000000")
        kept.record(full).parent.rename(moved)
        full = moved.name
    elif how == "swap":
        one, two = (kept.record(each).read_bytes() for each in kept.signed)
        kept.record(full).write_bytes(two)
        kept.record(incremental).write_bytes(one)
    elif how == "other":  # an older backup in the place of a newer one
        shutil.rmtree(kept.record(full).parent)
        shutil.copytree(kept.record(kept.plain[0]).parent, kept.record(full).parent)
    elif how == "parent":
        kept.rewrite(incremental, parent=kept.plain[0])
        full = incremental
    elif how == "traversal":
        kept.rewrite(full, id="../../../outside/x")
    else:
        kept.rewrite(full, parent="../../outside", kind="incremental")
    before = sorted(path for path in kept.lab.folder.glob("*"))
    code, said = kept.verify(full)
    assert code == Refused.exit_code, said
    assert full in said
    assert sorted(path for path in kept.lab.folder.glob("*")) == before
    if how not in {"rename", "parent"}:
        assert kept.verify(incremental)[0] == Refused.exit_code, "what builds on it is refused, too"


@pytest.mark.parametrize("how", ["flip", "swap", long("older"), long("plain"), long("index")])
def test_an_object_that_is_not_the_one_that_was_stored_is_named(kept: Kept, how: str) -> None:
    """A pack or index changed, exchanged with another backup's, or replaced by a readable one is damage, by name."""
    full, incremental = kept.signed
    folder, other = kept.record(full).parent, kept.record(incremental).parent
    victim = folder / ("index" if how == "index" else "pack-000000")
    content = victim.read_bytes()
    replaced = {
        "flip": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
        "swap": (other / "pack-000000").read_bytes(),
        "older": (kept.record(kept.plain[0]).parent / "pack-000000").read_bytes(),
        "plain": content[:5] + b"\0" + content[6:],
        "index": (other / "index").read_bytes(),
    }
    victim.write_bytes(replaced[how])
    code, said = kept.verify(full)
    assert code == BackoutError.exit_code, said
    assert victim.name in said


@pytest.mark.parametrize("path", ["../../out", "/out", "base/../../out", "a//b"])
def test_a_path_out_of_a_backup_is_refused_without_a_key_as_well(kept: Kept, path: str) -> None:
    """The list of files is checked whoever wrote it."""
    import hashlib  # noqa: PLC0415 only here

    import msgspec  # noqa: PLC0415 same

    from backout.providers.archive.sealing import pack, unpack  # noqa: PLC0415 same

    kept.lab.configure()
    backup = kept.plain[0]
    place, name = kept.record(backup).with_name("index"), f"base/{backup}/index"
    index = msgspec.msgpack.decode(unpack(name, place.read_bytes(), None))
    index["files"][-1][0] = path
    place.write_bytes(pack(name, msgspec.msgpack.encode(index), None))
    record = json.loads(kept.record(backup).read_text(encoding="utf-8"))
    record["index"] = hashlib.sha256(place.read_bytes()).hexdigest()
    kept.record(backup).write_text(json.dumps(record), encoding="utf-8")
    code, said = kept.verify(backup)
    assert code == Refused.exit_code, said
    assert "not a file within a backup" in said


def test_an_id_that_is_a_path_writes_nothing_outside(kept: Kept) -> None:
    """Without a key as well; in a chain each member's id would be a folder."""
    kept.lab.configure()
    full, incremental = kept.plain
    outside = kept.lab.folder / "outside"
    kept.rewrite(full, id=str(outside))
    for backup in (full, incremental):
        code, said = kept.verify(backup)
        assert code == Refused.exit_code, said
        assert str(outside) in said
    assert not outside.exists()
    assert kept.verify("../../etc")[0] == 2


def test_a_link_in_the_store_is_not_followed_out_of_it(kept: Kept) -> None:
    """A folder of backups that leads elsewhere is refused; nothing there is read, written or removed."""
    elsewhere = kept.lab.folder / "elsewhere"
    shutil.rmtree(elsewhere, ignore_errors=True)
    kept.record(kept.signed[0]).parent.rename(elsewhere)
    kept.record(kept.signed[0]).parent.symlink_to(elsewhere)
    store = FolderStore(kept.lab.archive)
    for act in (
        lambda: store.get(f"base/{kept.signed[0]}/record.json"),
        lambda: store.put(f"base/{kept.signed[0]}/x", b""),
        lambda: store.delete([f"base/{kept.signed[0]}/index"]),
        lambda: store.get("../x"),
    ):
        with pytest.raises(Refused):
            act()
    assert (elsewhere / "index").is_file()


def test_a_backup_of_another_environment_is_refused_though_it_has_the_same_key(kept: Kept) -> None:
    """Whose a backup is stands in what is signed."""
    answer = kept.lab.backout("db", "backups", "list", "--json")
    assert answer.code in {0, 1}, answer.err
    shutil.copytree(kept.lab.archive, kept.lab.archive.with_name("other"))
    toml = (kept.lab.folder / "backout.toml").read_text(encoding="utf-8")
    (kept.lab.folder / "backout.toml").write_text(toml.replace("environments.lab", "environments.other"), "utf-8")
    code, said = kept.verify(kept.signed[0])
    assert code == Refused.exit_code, said
    assert "backup of lab, not of other" in said
    shutil.rmtree(kept.lab.archive.with_name("other"))


def test_segments_keep_their_names_and_are_sealed(kept: Kept) -> None:
    """A segment in another one's place, a readable one, and a history file out of nothing: each refused by name."""
    key = Key.parse(KEY)
    store, archive = FolderStore(kept.lab.archive), kept.lab.archive
    repository = Repository(store, find_binaries, incoming=archive / "incoming", key=key)
    system = next(path.name for path in (archive / "wal").iterdir())
    sealed = [each for each in sorted((archive / "wal" / system).glob("0*")) if each.read_bytes()[5:6] == b"\x01"]
    plain = [each for each in sorted((archive / "wal" / system).glob("0*")) if each.read_bytes()[5:6] == b"\x00"]
    kept_wal = repository.archive(system)
    assert kept_wal.read(sealed[0].name) is not None
    with pytest.raises(Refused) as refused:
        kept_wal.read(plain[0].name)
    assert f"--accept-unsigned {plain[0].name}" in str(refused.value.hint)
    sealed[0].write_bytes(sealed[1].read_bytes())
    with pytest.raises(BackoutError) as exchanged:
        kept_wal.read(sealed[0].name)
    assert sealed[0].name in str(exchanged.value.where)
    for name in ("../x", "00000001", "x.history", "0000000200000000000000FF/../y", f"{sealed[1].name}.x"):
        with pytest.raises(Refused):
            kept_wal.read(name)
    (archive / "wal" / system / "layout.json").write_text('{"segment_bytes":2097152}', encoding="utf-8")
    with pytest.raises(Refused, match="segments have 2097152 bytes"):
        repository.wal()


@pytest.mark.long
def test_what_was_accepted_goes_to_a_side_instance_before_anything_else(kept: Kept) -> None:
    """Without the flag the refusal names the backup; with it a side instance, and only then the rows."""
    lab, early = kept.lab, kept.early
    for backup in kept.signed:
        shutil.rmtree(kept.record(backup).parent)
    accept = [word for backup in kept.plain for word in ("--accept-unsigned", backup)]
    bare = lab.backout("db", "restore", early, "--side")
    assert bare.code == Refused.exit_code, bare.err
    assert f"--accept-unsigned {kept.plain[-1]}" in bare.err
    wrong = lab.backout("db", "restore", early, "--side", "--accept-unsigned", "../x")
    assert wrong.code == 2, wrong.err
    xid = str(lab.value("SELECT min(xmin::text::bigint) FROM t"))
    live = lab.backout("db", "restore", xid, *accept, "--dry-run")
    assert live.code == Refused.exit_code, live.err
    assert "--side" in live.err
    side = lab.backout("db", "restore", early, "--side", *accept, "-m", "the key came later", "--json")
    assert side.code == 0, side.err
    made = side.json["side"]
    assert isinstance(made, dict)
    assert lab.backout("db", "restore", "--drop-side", str(made["name"])).code == 0
    after = lab.backout("db", "restore", xid, *accept, "--dry-run")
    assert after.code == 0, after.err
