"""With a key, a dump whose description is not signed is none until a person names it; its id is no path."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from backup_lab import Lab, running_lab
from kept import template

from backout.errors import AuthError, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEALED = 'key_env = "BACKUP_KEY"'
HELD = {"BACKUP_KEY": "0f" * 32}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, str, Path]]:
    folder = tmp_path_factory.mktemp("signed-dumps")
    with running_lab(folder, template()) as lab:
        lab.configure(SEALED, HELD)
        lab.execute("CREATE TABLE t AS SELECT 7 AS n")
        answer = lab.backout("db", "dump", "--json")
        assert answer.code == 0, answer.err
        dump = answer.json["dump"]
        assert isinstance(dump, dict)
        whole = folder / "whole"
        shutil.copytree(lab.archive / "dumps", whole)
        yield lab, str(dump["id"]), whole


@pytest.fixture
def kept(made: tuple[Lab, str, Path]) -> tuple[Lab, str]:
    lab, dump, whole = made
    shutil.rmtree(lab.archive / "dumps")
    shutil.copytree(whole, lab.archive / "dumps")
    lab.configure(SEALED, HELD)
    return lab, dump


def change(lab: Lab, dump: str, **fields: object) -> None:
    """Change a description as somebody who may write into the folder could."""
    path = lab.archive / "dumps" / f"{dump}.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **fields}), encoding="utf-8")


def test_a_description_that_is_not_signed_is_refused_and_may_be_taken_by_its_name(kept: tuple[Lab, str]) -> None:
    """Stripped or changed: exit 3 with the flag; with it the dump is restored first, and stays without a signature."""
    lab, dump = kept
    for fields in ({"signature": ""}, {"database": "another"}):
        change(lab, dump, **fields)
        for command in (("verify", dump), ("restore", dump, "--into", "DATABASE_URL", "--confirm", "lab")):
            answer = lab.backout("db", "dumps", *command)
            assert answer.code == Refused.exit_code, answer.err
            assert f"--accept-unsigned {dump}" in answer.err
    listed = lab.backout("db", "dumps", "list", "--json").json
    assert listed["dumps"] == []
    assert dump in str(listed["refused"])
    assert lab.backout("db", "dumps", "prove", dump, "--accept-unsigned", dump).code == 0
    assert lab.backout("db", "dumps", "prove", dump).code == Refused.exit_code, "it was accepted once, not for ever"


def test_an_id_that_is_a_path_leads_nowhere(kept: tuple[Lab, str]) -> None:
    """Neither with a key nor without one; the files of other dumps are not what it names."""
    lab, dump = kept
    lab.configure()
    change(lab, dump, id="../../outside")
    answer = lab.backout("db", "dumps", "prove", dump)
    assert answer.code == Refused.exit_code, answer.err
    assert "../../outside" in answer.err
    change(lab, dump, id="20000101T000000Z")
    assert "is stored as" in lab.backout("db", "dumps", "prove", dump).err


def test_a_dump_of_another_key_is_told_by_its_fingerprint(kept: tuple[Lab, str]) -> None:
    """Exit 4, and nothing of either key is shown."""
    lab, dump = kept
    lab.configure(SEALED, {"BACKUP_KEY": "11" * 32})
    answer = lab.backout("db", "dumps", "prove", dump)
    assert answer.code == AuthError.exit_code, answer.err
    assert "11" * 32 not in answer.err
