"""`backout db check` and `db branch` as they are typed: answers, refusals, exit codes, and no secret anywhere."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

import pytest
from cli_shell import backout
from kept import template

from backout.journal.sqlite import SqliteJournal
from backout.providers.clock import SystemClock
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer

from scripted_server import refused_url
from vendor_lab import LIVE, ORGANIZATION, PROJECT, TOKEN, Neon, Xata, served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cli_shell import Answer

PASSWORD = "canary-of-the-database"
FILE = """
[app]
name = "shop"
[environments.production]
platform = {{ provider = "cloudflare", account_id = "0123456789abcdef0123456789abcdef", script = "shop" }}
[environments.production.database]
provider = "postgres"
url_env = "DATABASE_URL"
{managed}
"""
MANAGED = """[environments.production.database.managed]
provider = "{vendor}"
project = "{project}"
branch = "{live}"
organization = "{organization}"
api_base_url = "{url}"
token_env = "VENDOR_TOKEN"
"""


def written(folder: Path, vendor: str = "", url: str = "https://example.invalid", live: str = LIVE) -> Path:
    managed = MANAGED.format(vendor=vendor, project=PROJECT, live=live, organization=ORGANIZATION, url=url)
    (folder / "backout.toml").write_text(FILE.format(managed=managed if vendor else ""))
    return folder


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("cli-database")
    server = PostgresServer(folder / "data", find_binaries(), settings={"fsync": "off"})
    server.create(cache_directory=template())
    port = server.start(password=PASSWORD).port
    yield f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/postgres"
    server.stop(mode="immediate")


@pytest.fixture
def neon(tmp_path: Path) -> Iterator[Neon]:
    vendor = Neon()
    with served(vendor) as url:
        written(tmp_path, "neon", f"{url}/api/v2")
        yield vendor


def typed(
    folder: Path, *arguments: str, url: str = "postgresql://app:pw@127.0.0.1:1/app", token: str = TOKEN
) -> Answer:
    answer = backout(
        folder, "db", *arguments, "-e", "production", variables={"DATABASE_URL": url, "VENDOR_TOKEN": token}
    )
    for secret in (PASSWORD, TOKEN, "pw-canary"):
        assert secret not in answer.out + answer.err
    return answer


def test_check_finds_nothing_to_recover_from_and_says_what_to_type(tmp_path: Path, database: str) -> None:
    """A database of one's own without a backup: exit 1."""
    answer = typed(written(tmp_path), "check", url=database)
    assert answer.code == 1
    assert "path: none" in answer.out
    assert "lacks: there is no base backup yet" in answer.out
    assert "backout db backup -e production" in answer.err
    answer = typed(tmp_path, "check", "--json", url=database)
    assert (answer.code, answer.json["schema"], answer.json["path"]) == (1, "backout.db-check/1", None)


def test_check_chooses_the_managed_path(tmp_path: Path, neon: Neon, database: str) -> None:
    """The vendor's API answers."""
    answer = typed(tmp_path, "check", "--json", url=database)
    assert (answer.code, answer.json["path"]) == (0, "managed")
    ways = answer.json["ways"]
    assert isinstance(ways, list)
    assert ways[0]["granularity"] == "lsn"


def test_check_of_a_vendor_without_a_client(tmp_path: Path, database: str) -> None:
    """What is documented is shown as documented."""
    for vendor, words in (("supabase", "PITR (Supabase): closed"), ("rds", "always a new instance")):
        answer = typed(written(tmp_path, vendor), "check", url=database)
        assert answer.code == 1
        assert words in answer.out
        assert "no client here" in answer.out


def test_check_of_a_database_that_refuses_or_is_not_there(tmp_path: Path, database: str, neon: Neon) -> None:
    """4 and 7 without a way; with the vendor's way it is answered."""
    wrong = database.replace(PASSWORD, "wrong")
    gone = refused_url().replace("http://", "postgresql://a:b@")
    assert typed(tmp_path, "check", url=wrong).code == 0
    written(tmp_path)
    assert [typed(tmp_path, "check", url=url).code for url in (wrong, gone, "no string")] == [4, 7, 4]


def test_check_with_a_wrong_token_is_still_answered(tmp_path: Path, neon: Neon, database: str) -> None:
    answer = typed(tmp_path, "check", "--json", url=database, token="wrong")
    vendor = answer.json["vendor"]
    assert isinstance(vendor, dict)
    assert (answer.code, vendor["answers"]) == (1, False)


def test_a_branch_is_looked_at_with_a_verified_certificate(tmp_path: Path, neon: Neon) -> None:
    """The vendor hands out `sslmode=require`, which verifies nothing."""
    neon.grow("side", LIVE)
    assert typed(tmp_path, "branch", "look", "side", "--to", str(tmp_path / "side.conf")).code == 0
    lines = (tmp_path / "side.conf").read_text().splitlines()
    assert {"sslmode=verify-full", "dbname=app", "user=app", "password=pw-canary"} <= set(lines)
    assert any(line.startswith("sslrootcert=/") or line == "sslrootcert=system" for line in lines)


@pytest.mark.long
def test_a_branch_from_dry_run_to_deletion(tmp_path: Path, neon: Neon) -> None:
    """Nothing on a dry run; made, looked at, put in place, taken back, deleted: each read back."""
    dry = typed(tmp_path, "branch", "create", "--at", "0/C3A5C918", "--dry-run")
    assert (dry.code, neon.changes()) == (0, [])
    assert "would make the side branch backout-0-c3a5c918 at LSN 0/C3A5C918" in dry.out
    sure = ("-m", "bad migration", "--confirm", "production")
    made = typed(tmp_path, "branch", "create", "--at", "0/C3A5C918", "--name", "side", "--json", *sure)
    assert made.code == 0
    shown = made.json["branch"]
    assert isinstance(shown, dict)
    assert (shown["name"], shown["lsn"], shown["ready"]) == ("side", "0/C3A5C918", True)
    looked = typed(tmp_path, "branch", "look", "side", "--to", str(tmp_path / "side.conf"))
    assert looked.code == 0
    assert (tmp_path / "side.conf").stat().st_mode & 0o777 == 0o600
    assert "password=pw-canary" in (tmp_path / "side.conf").read_text()
    assert "dbname=app" in (tmp_path / "side.conf").read_text()
    listed = typed(tmp_path, "branch", "list")
    assert "main" in listed.out
    assert typed(tmp_path, "branch", "finalize", "side", "--dry-run").out.startswith("would put side (0/C3A5C918)")
    done = typed(tmp_path, "branch", "finalize", "side", "--keep-as", "before", "--json", *sure)
    assert (done.code, done.json["kept"]) == (7, "before")  # no server is behind the vendor's addresses
    compared = done.json["comparison"]
    assert isinstance(compared, dict)
    assert "what the branch holds was not noted before" in str(compared["failed"])
    again = typed(tmp_path, "branch", "delete", "side", "--json", *sure)
    assert (again.code, again.json["gone"]) == (0, True)


def test_a_branch_that_has_the_name_is_not_taken_for_the_one_that_was_asked_for(tmp_path: Path, neon: Neon) -> None:
    """Of another moment, the live one, or one of the team's: exit 2, on a dry run too, and nothing is changed."""
    sure = ("-m", "bad migration", "--confirm", "production")
    at = ("create", "--at", "0/C3A5C918", "--name", "side")
    assert typed(tmp_path, "branch", *at, *sure).code == 0
    again = typed(tmp_path, "branch", *at, "--json", *sure)
    assert (again.code, again.json["made"]) == (0, False)
    neon.grow("dev", LIVE)
    before = neon.changes()
    for arguments, said in (
        (("create", "--at", "0/C3A5C919", "--name", "side"), "side is there already and shows 0/C3A5C918"),
        (("create", "--at", "10 minutes ago", "--name", "main"), "main is the live branch"),
        (("finalize", "side", "--keep-as", "dev"), "a branch named dev is there already"),
        (("finalize", "side", "--keep-as", "side"), "a branch named side is there already"),
        (("finalize", "main"), "main is the live branch already"),
    ):
        for way in (("--dry-run",), sure):
            answer = typed(tmp_path, "branch", *arguments, *way)
            assert (answer.code, said in answer.err, neon.changes()) == (2, True, before), answer.err


@pytest.mark.long
def test_a_finalize_that_was_cut_off_goes_on(tmp_path: Path, neon: Neon) -> None:
    """The name to keep is taken by what the first attempt kept; nothing is asked of the vendor twice."""
    sure = ("-m", "bad migration", "--confirm", "production")
    assert typed(tmp_path, "branch", "create", "--at", "0/C3A5C918", "--name", "side", *sure).code == 0
    first = typed(tmp_path, "branch", "finalize", "side", "--keep-as", "before", "--json", *sure)
    before = neon.changes()
    again = typed(tmp_path, "branch", "finalize", "side", "--keep-as", "before", "--json", *sure)
    assert (again.code, again.json["kept"], again.json["branch"]) == (first.code, "before", first.json["branch"])
    assert neon.changes() == before


def test_a_child_branch_is_not_said_to_be_put_in_place(tmp_path: Path, neon: Neon, database: str) -> None:
    """`db check` says that this way is closed, and a dry run of the finalize is refused like the real one."""
    neon.grow("side", LIVE)
    neon.branches[0]["parent_id"] = "br-root-1"
    checked = typed(tmp_path, "check", url=database)
    assert "branch put in place: closed" in checked.out
    for way in (("--dry-run",), ("-m", "why", "--confirm", "production")):
        answer = typed(tmp_path, "branch", "finalize", "side", *way)
        assert (answer.code, "is a child branch" in answer.err) == (3, True)
        assert "backout db restore TARGET" in answer.err
    assert neon.changes() == []


def test_a_branch_is_put_in_place_without_an_approval_only_behind_broken_glass(tmp_path: Path, neon: Neon) -> None:
    """Where restores wait for one: exit 3, with the way that waits; broken, it is done, recorded and said."""
    sure = ("-m", "bad migration", "--confirm", "production")
    assert typed(tmp_path, "branch", "create", "--at", "0/C3A5C918", "--name", "side", *sure).code == 0
    file = tmp_path / "backout.toml"
    asked = '[environments.production.approvals]\nrequired_for = ["restore"]\n'
    file.write_text(file.read_text() + asked)
    before = neon.changes()
    refused = typed(tmp_path, "branch", "finalize", "side", "--keep-as", "before", *sure)
    assert (refused.code, "has to be approved here" in refused.err, neon.changes()) == (3, True, before)
    assert "backout db restore TARGET" in refused.err
    assert typed(tmp_path, "branch", "finalize", "side", "--break-glass").code == 2, "it needs a reason"
    done = typed(tmp_path, "branch", "finalize", "side", "--keep-as", "before", "--json", "--break-glass", *sure)
    assert (done.code, done.json["kept"]) == (7, "before")
    assert "without the approval that it needs" in done.err
    with contextlib.closing(SqliteJournal(tmp_path / ".backout" / "journal.sqlite", SystemClock())) as journal:
        (event,) = journal.events(kind="database.branch.broke_glass")
    assert event.data["why"] == "bad migration"


def test_the_default_name_of_a_branch_names_its_moment(tmp_path: Path, neon: Neon) -> None:
    """Ten minutes ago is another moment each time."""
    said = typed(tmp_path, "branch", "create", "--at", "10 minutes ago", "--dry-run").out
    assert re.search(r"would make the side branch backout-20\d\d-\d\d-\d\dt\d\d-\d\d-\d\d-\d{3}z at 20", said), said


def test_a_branch_of_another_database_is_refused(tmp_path: Path, neon: Neon) -> None:
    """Safety rule 1: the configured branch answers elsewhere. The pooler's address counts as the branch's."""
    neon.grow("side", LIVE)
    neon.host = "ep-other-1.eu.aws.neon.tech"
    for arguments in (("create",), ("finalize", "side"), ("delete", "side")):
        answer = typed(tmp_path, "branch", *arguments, "-m", "why", "--confirm", "production")
        assert (answer.code, "answers at ep-other-1.eu.aws.neon.tech" in answer.err) == (3, True)
    assert neon.changes() == []
    pooled = "postgresql://app:pw@ep-other-1-pooler.eu.aws.neon.tech/app"
    assert typed(tmp_path, "branch", "create", "--dry-run", url=pooled).code == 0


def test_nobody_there_to_confirm_means_no(tmp_path: Path, neon: Neon) -> None:
    """Exit 3, and nothing was asked of the vendor but to read."""
    neon.grow("side", LIVE)
    for arguments in (("create",), ("finalize", "side"), ("delete", "side")):
        assert typed(tmp_path, "branch", *arguments).code == 3
        assert typed(tmp_path, "branch", *arguments, "--yes").code == 3
    assert neon.changes() == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("create", "--at", "yesterday-ish"), 2, "no LSN, no time and no snapshot"),
        (("create", "--at", "30 days ago"), 3, "out of the vendor's window"),
        (("create", "--at", "snapshot:none"), 3, "no snapshot 'none'"),
        (("finalize", "nobody"), 2, "no branch 'nobody'"),
        (("delete", "main"), 3, "never deleted"),
    ],
    ids=["at", "window", "snapshot", "branch", "live"],
)
def test_bad_input_changes_nothing(
    tmp_path: Path, neon: Neon, arguments: tuple[str, ...], code: int, said: str
) -> None:
    answer = typed(tmp_path, "branch", *arguments, "-m", "why", "--confirm", "production")
    assert answer.code == code
    assert said in answer.err
    assert neon.changes() == []


def test_a_wrong_token_a_missing_one_and_no_vendor(tmp_path: Path, neon: Neon) -> None:
    assert typed(tmp_path, "branch", "list", token="wrong").code == 4
    assert backout(tmp_path, "db", "branch", "list", variables={}).code == 4
    written(tmp_path)
    answer = typed(tmp_path, "branch", "list")
    assert (answer.code, "no section `managed`" in answer.err) == (2, True)
    written(tmp_path, "rds")
    assert "no client for rds" in typed(tmp_path, "branch", "list").err


def test_xata_takes_no_moment_and_has_no_finalize(tmp_path: Path) -> None:
    """Exit 3 with the ways on."""
    vendor = Xata()
    with served(vendor) as url:
        written(tmp_path, "xata", url, live="main")
        sure = ("-m", "why", "--confirm", "production")
        answer = typed(tmp_path, "branch", "create", "--at", "10 minutes ago", *sure)
        assert (answer.code, "takes no moment" in answer.err) == (3, True)
        assert typed(tmp_path, "branch", "create", "--name", "side", *sure).code == 0
        answer = typed(tmp_path, "branch", "finalize", "side", *sure)
        assert (answer.code, "no call that puts a branch" in answer.err) == (3, True)
        assert "Rescue the damaged rows" in answer.err
