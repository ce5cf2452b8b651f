"""Where each object lies in a store; every name in a key has been parsed, whatever its source."""

from __future__ import annotations

from typing import Final

from backout.model.names import parse_cluster, parse_id, parse_wal_file

BASES: Final = "base/"
RECORD: Final = "record.json"


def make_base_prefix(backup: str) -> str:
    """Return what the keys of a backup begin with. Raises Refused: it is no id.

    >>> make_base_prefix("20261125-190203")
    'base/20261125-190203/'
    """
    return f"{BASES}{parse_id(backup, 'the id of a backup')}/"


def record_key(backup: str) -> str:
    """Return the key of a backup's record."""
    return make_base_prefix(backup) + RECORD


def make_index_key(backup: str) -> str:
    """Return the key of the list of a backup's files."""
    return f"{make_base_prefix(backup)}index"


def pack_key(backup: str, number: int) -> str:
    """Return the key of a pack."""
    return f"{make_base_prefix(backup)}pack-{number:06d}"


def parse_backup(key: str) -> str:
    """Return the backup that the key of an object belongs to.

    >>> parse_backup("base/20261125-190203/pack-000000")
    '20261125-190203'
    """
    return key.removeprefix(BASES).partition("/")[0]


def make_wal_prefix(system_identifier: str) -> str:
    """Return what the keys of a cluster's WAL begin with. Raises Refused: it is no system identifier."""
    return f"wal/{parse_cluster(system_identifier)}/"


def make_wal_key(system_identifier: str, name: str) -> str:
    """Return the key of a segment, a partial one or a history file. Raises Refused: it is the name of none."""
    return make_wal_prefix(system_identifier) + parse_wal_file(name)


def make_reading_key(system_identifier: str) -> str:
    """Return the key of how far a cluster's WAL was read back."""
    return f"{make_wal_prefix(system_identifier)}read.json"


def make_layout_key(system_identifier: str) -> str:
    """Return the key of how a cluster's WAL is cut."""
    return f"{make_wal_prefix(system_identifier)}layout.json"
