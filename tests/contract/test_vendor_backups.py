"""Ports VendorBackups and VendorCutover on Neon and Xata, against servers that answer as documented, with state."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backout.errors import AuthError, BackoutError, ProviderRejected, ProviderUnavailable, Refused
from backout.model.database.branch import BranchTarget
from backout.model.database.wal import parse_lsn
from backout.providers.memory import WorldClock
from backout.providers.neon.branches import NeonBranches
from backout.providers.vendor_api import VendorApi
from backout.providers.xata.branches import NO_COMMAND, XataBranches

from extent import examples
from scripted_server import refused_url
from vendor_lab import HIBERNATED, LIVE, ORGANIZATION, PROJECT, TOKEN, Neon, Xata, served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vendor_lab import Vendor

NOW = 1_795_608_000.0  # 2026-11-25T12:00:00Z
DAY = 86400.0


@pytest.fixture
def neon() -> Iterator[Neon]:
    made = Neon()
    with served(made):
        yield made


@pytest.fixture
def xata() -> Iterator[Xata]:
    made = Xata()
    with served(made):
        yield made


def neon_client(vendor: Vendor, *, token: str = TOKEN, live: str = LIVE, project: str = PROJECT) -> NeonBranches:
    api = VendorApi("Neon", f"{vendor.url}/api/v2", lambda: token, "set NEON_API_KEY", clock=WorldClock(NOW))
    return NeonBranches(api, project, live)


def xata_client(
    vendor: Vendor, *, token: str = TOKEN, live: str = "main", say: Callable[[str], None] = print
) -> XataBranches:
    api = VendorApi("Xata", vendor.url, lambda: token, "set XATA_API_KEY", clock=WorldClock(NOW))
    return XataBranches(api, ORGANIZATION, PROJECT, live, say=say)


def test_neon_makes_a_branch_at_an_lsn_and_it_can_be_connected_to(neon: Neon) -> None:
    """The live branch's content at exactly that position, with a compute of its own."""
    client = neon_client(neon)
    made = client.restore(BranchTarget(lsn=parse_lsn("0/C3A5C918")), "before-migration")
    assert (made.name, made.lsn, made.live, made.ready) == ("before-migration", parse_lsn("0/C3A5C918"), False, True)
    (change,) = neon.changes()
    assert change[2] == {
        "branch": {"name": "before-migration", "parent_id": LIVE, "parent_lsn": "0/C3A5C918"},
        "endpoints": [{"type": "read_write"}],
    }
    assert client.url(made, "app", "owner").startswith(f"postgresql://owner:pw-canary@{made.id}.")
    assert neon.operations == {"op-0": ["finished"]}


def test_neon_makes_a_branch_at_a_moment(neon: Neon) -> None:
    """Microseconds are kept."""
    made = neon_client(neon).restore(BranchTarget(at=NOW - 3600.25), "an-hour-ago")
    assert made.at == NOW - 3600.25
    assert neon.changes()[0][2]["branch"]["parent_timestamp"] == "2026-11-25T10:59:59.750000Z"


@pytest.mark.parametrize("configured", ["main", LIVE], ids=["name", "id"])
def test_neon_restores_a_snapshot_for_a_look_then_puts_it_in_place(neon: Neon, configured: str) -> None:
    """Preview first: nothing is finalized by the restore, and the new branch gets a compute."""
    client = neon_client(neon, live=configured)
    side = client.restore(BranchTarget(snapshot="snap-1"), "look")
    assert side.from_snapshot
    assert neon.changes()[0][2]["finalize_restore"] is False
    assert neon.endpoints[side.id] == ["ep-more"]
    done = client.finalize(side, "main-before")
    assert (done.live.id, done.live.name, done.kept.id, done.kept.name) == (side.id, "main", LIVE, "main-before")
    asked = len(neon.changes())
    for found in (side, client.branches()[0]):
        again = client.finalize(found, "main-before")
        assert (again.live.id, again.kept.id, len(neon.changes())) == (side.id, LIVE, asked)


def test_neon_puts_a_branch_in_place_and_keeps_the_old_state_under_a_name(neon: Neon) -> None:
    """The live branch keeps its id and endpoint; what it was stays; once more changes nothing."""
    client = neon_client(neon)
    side = client.restore(BranchTarget(at=NOW - 60), "side")
    done = client.finalize(side, "main-before")
    assert (done.live.id, done.kept.name) == (LIVE, "main-before")
    assert neon.changes()[-1][2] == {"source_branch_id": side.id, "preserve_under_name": "main-before"}
    asked = len(neon.changes())
    assert client.finalize(side, "main-before") == done
    assert len(neon.changes()) == asked


def test_the_same_restore_again_is_the_same_branch(neon: Neon, xata: Xata) -> None:
    """By its name; nothing is made twice."""
    for client, vendor in ((neon_client(neon), neon), (xata_client(xata), xata)):
        first = client.restore(BranchTarget(), "side")
        assert client.restore(BranchTarget(), "side").id == first.id
        assert len(vendor.changes()) == 1


def test_a_create_whose_answer_is_lost_makes_one_branch(neon: Neon, xata: Xata) -> None:
    """The client looks instead of asking again."""
    for client, vendor in ((neon_client(neon), neon), (xata_client(xata), xata)):
        vendor.lose_next_change = True
        assert client.restore(BranchTarget(), "side").name == "side"
        assert len(vendor.changes()) == 1
        assert [branch.name for branch in client.branches()].count("side") == 1


def test_a_create_that_failed_on_the_way_is_not_sent_again(neon: Neon) -> None:
    """A 502 says nothing about what happened: it looks, finds nothing, and says so."""
    neon.replies = []
    client = neon_client(neon)
    client.branches()
    counts = len(neon.asked)

    class Once(list[tuple[int, object]]):
        """Spoils the first change only."""

        def __bool__(self) -> bool:
            return bool(len(self)) and neon.asked[-1][0] == "POST"

    neon.replies = Once([(502, None)])  # type: ignore[assignment]
    with pytest.raises(ProviderUnavailable, match="unknown whether it took effect") as caught:
        client.restore(BranchTarget(), "side")
    assert "checks first" in (caught.value.hint or "")
    assert len(neon.changes()) == 1
    assert len(neon.asked) > counts


@pytest.mark.parametrize("status", [429, 423, 503])
def test_trouble_that_passes_is_waited_out(neon: Neon, status: int) -> None:
    """Reading goes on after it."""
    neon.replies = [(status, {"message": "later", "code": "BUSY"})] * 2
    assert [branch.name for branch in neon_client(neon).branches()] == ["main"]


def test_a_locked_project_does_not_make_two_branches(neon: Neon) -> None:
    """423 and 429 did nothing, so a change is sent again."""
    client = neon_client(neon)

    class Locked(list[tuple[int, object]]):
        def __bool__(self) -> bool:
            return bool(len(self)) and neon.asked[-1][0] == "POST"

    neon.replies = Locked([(423, {"message": "project already has running operations"}), (429, None)])  # type: ignore[assignment]
    assert client.restore(BranchTarget(), "side").name == "side"
    assert [branch["name"] for branch in neon.branches] == ["main", "side"]
    assert len(neon.changes()) == 3


@pytest.mark.parametrize("at", [NOW - 8 * DAY, NOW + 60], ids=["before", "future"])
def test_neon_refuses_a_moment_out_of_the_window(neon: Neon, at: float) -> None:
    """Before anything is made, with the window in the words."""
    with pytest.raises(Refused, match="out of the vendor's window: 2026-11-18T12:00:00"):
        neon_client(neon).restore(BranchTarget(at=at), "side")
    assert neon.changes() == []


def test_neon_says_no_to_an_lsn_that_is_gone(neon: Neon) -> None:
    """Only Neon knows: its words are shown."""
    with pytest.raises(ProviderRejected, match=r"400.*outside of the history"):
        neon_client(neon).restore(BranchTarget(lsn=1), "side")


def test_neon_refuses_an_unknown_snapshot(neon: Neon) -> None:
    """With the ones that there are."""
    with pytest.raises(Refused, match="no snapshot 'snap-9'") as caught:
        neon_client(neon).restore(BranchTarget(snapshot="snap-9"), "side")
    assert "snap-1" in (caught.value.hint or "")


def test_an_operation_that_was_cancelled_is_an_error(neon: Neon) -> None:
    """The branch may be there half-made: it is said where to look."""
    neon.ends_as = "cancelled"
    with pytest.raises(ProviderUnavailable, match=r"is cancelled: no space") as caught:
        neon_client(neon).restore(BranchTarget(), "side")
    assert caught.value.hint == "backout db branch list"


def test_an_operation_without_end_is_given_up(neon: Neon) -> None:
    """A failed operation is tried again by Neon itself, so it is waited for; not for ever."""
    neon.ends_as = "failed"
    with pytest.raises(ProviderUnavailable, match="is failed"):
        neon_client(neon).restore(BranchTarget(), "side")


def test_xata_makes_a_branch_of_the_live_one_as_it_is(xata: Xata) -> None:
    """By the public call; it is waited for until it is healthy, and the password comes from the API, quoted."""
    client = xata_client(xata)
    made = client.restore(BranchTarget(), "side")
    assert (made.ready, made.live, made.source, made.from_snapshot) == (True, False, "xb0", False)
    assert xata.changes()[0][2]["parentID"] == "xb0"
    assert client.url(made, "app", "") == "postgresql://xata:pw-canary%2F%2B@xb1.example.test:5432/app?sslmode=require"
    assert client.url(made, "other", "boss").startswith("postgresql://boss:pw-canary%2F%2B@")


def test_a_restore_point_at_xata_is_a_branch_and_the_way_back_a_copy_of_it(xata: Xata) -> None:
    """So that what is looked at or changed in the copy stays in the copy. No internal call is asked."""
    client = xata_client(xata)
    assert client.capabilities().ways[0].missing == "no branch keeps a restore point yet"
    kept = client.restore(BranchTarget(), "backout-point-before-the-split")
    (way,) = client.capabilities().ways
    assert (way.missing, way.latest, kept.keeps_point) == ("", kept.created_at, True)
    target = BranchTarget(snapshot=kept.id)
    side = client.restore(target, "side")
    assert (side.source, side.from_snapshot, side.shows_other_than(target)) == (kept.id, True, False)
    assert client.restore(BranchTarget(), "now").shows_other_than(target)
    with pytest.raises(Refused, match="no branch 'xb9' keeps a restore point") as caught:
        client.restore(BranchTarget(snapshot="xb9"), "other")
    assert kept.name in (caught.value.hint or "")
    with pytest.raises(Refused, match="keeps a restore point"):
        client.restore(BranchTarget(snapshot="xb0"), "other")  # the live one is none
    assert not [path for _, path, _ in xata.asked if path.endswith(("/backups", "/restore"))]


def test_a_hibernated_branch_at_xata_is_woken_and_said(xata: Xata) -> None:
    """Neither healthy nor a fault: the live one before it is copied, a side branch before it is connected to."""
    said: list[str] = []
    xata.branches["xb0"]["looks"] = [HIBERNATED]
    client = xata_client(xata, say=said.append)
    assert "the live branch main is hibernated, which is no fault" in client.capabilities().notes[-1]
    assert [(branch.ready, branch.hibernated) for branch in client.branches()] == [(False, True)]
    assert xata.changes() == []
    made = client.restore(BranchTarget(), "side")
    assert said == ["branch main is hibernated: waking it"]
    assert [change[0] for change in xata.changes()] == ["PATCH", "POST"]
    xata.branches[made.id]["looks"] = [HIBERNATED]
    assert client.url(made, "app", "").startswith("postgresql://xata:")
    assert said[1:] == ["branch side is hibernated: waking it"]
    assert client.restore(BranchTarget(), "side").ready


def test_a_branch_that_stays_hibernated_is_given_up(xata: Xata) -> None:
    """It is woken once, and waited for; not for ever."""
    xata.ends_as = HIBERNATED
    xata.wakes = False
    with pytest.raises(ProviderUnavailable, match="not ready: Cluster in some state"):
        xata_client(xata).restore(BranchTarget(), "side")
    assert [change[0] for change in xata.changes()] == ["POST", "PATCH"]


@pytest.mark.parametrize("target", [BranchTarget(at=NOW - 60), BranchTarget(lsn=99)], ids=["time", "lsn"])
def test_xata_refuses_every_moment(xata: Xata, target: BranchTarget) -> None:
    """Its API takes none; nothing is sent."""
    with pytest.raises(Refused, match="Xata's API takes no moment"):
        xata_client(xata).restore(target, "side")
    assert xata.asked == []


def test_xata_says_what_it_cannot_do(xata: Xata) -> None:
    """The runbook's command does not exist, and no call puts a branch in place."""
    client = xata_client(xata)
    state = client.capabilities()
    assert NO_COMMAND in state.notes
    assert [(way.granularity, way.in_place, way.latest) for way in state.ways] == [("snapshot", False, None)]
    with pytest.raises(Refused, match="no call that puts a branch into the live one's place") as caught:
        client.finalize(client.restore(BranchTarget(), "side"), "old")
    assert len(caught.value.options) == 2


def test_a_branch_at_xata_that_fails_is_an_error(xata: Xata) -> None:
    """With its status."""
    xata.ends_as = "STATUS_TYPE_FAULT"
    with pytest.raises(ProviderUnavailable, match="not ready: Cluster in some state"):
        xata_client(xata).restore(BranchTarget(), "side")


def test_neons_matrix(neon: Neon) -> None:
    """The window is the project's history, not longer than the project is old."""
    first, second, third = neon_client(neon).capabilities().ways
    assert (first.granularity, first.in_place, first.keeps_old, first.missing) == ("lsn", False, True, "")
    assert (first.earliest, first.latest) == (NOW - 7 * DAY, NOW)
    assert (second.in_place, second.keeps_old) == (True, True)
    assert (third.granularity, third.missing) == ("snapshot", "")
    neon.retention_s, neon.snapshots = 400 * 86400, []
    ways = neon_client(neon).capabilities().ways
    assert ways[0].earliest == NOW - 24.5 * DAY  # the project's birth
    assert ways[2].missing == "there is no snapshot of the live branch"


def test_a_child_branch_at_neon_is_not_put_in_place(neon: Neon) -> None:
    """Instant restore is for root branches: the matrix says so, and a finalize is refused before anything is sent."""
    neon.branches[0] |= {"parent_id": "br-root-1", "created_at": "2026-11-25T06:00:00Z"}
    client = neon_client(neon)
    beside, in_place, _ = client.capabilities().ways
    assert (beside.missing, beside.earliest) == ("", NOW - 6 * 3600)  # before that it was its parent's history
    assert "main is a child branch (of br-root-1), and Neon restores root branches alone" in in_place.missing
    with pytest.raises(Refused, match="out of the vendor's window: 2026-11-25T06:00:00"):
        client.restore(BranchTarget(at=NOW - 7 * 3600), "early")
    side = client.restore(BranchTarget(at=NOW - 60), "side")
    asked = len(neon.changes())
    with pytest.raises(Refused, match="is a child branch") as caught:
        client.finalize(side, "main-before")
    assert any("Rescue" in option for option in caught.value.options)
    assert len(neon.changes()) == asked


@pytest.mark.parametrize(
    ("plan", "retention_s", "said"),
    [
        ("free_v3", 21_600, "keeps 6 h of history, and of it no more than 1 GB (free plan)"),
        ("", 21_600, "keeps 6 h of history, and on a free plan no more than 1 GB of it"),
        ("launch_v3", 86_400, "keeps 24 h of history"),
        ("", 604_800, "keeps 7 d of history"),
    ],
)
def test_how_much_history_neon_keeps(neon: Neon, plan: str, retention_s: int, said: str) -> None:
    """The project's own setting; the free plan's limit by size may end it earlier."""
    neon.plan, neon.retention_s = plan, retention_s
    way = neon_client(neon).capabilities().ways[0]
    assert way.note.endswith(said)
    assert way.earliest == NOW - retention_s


def test_a_branch_is_deleted_the_live_one_never(neon: Neon, xata: Xata) -> None:
    """Deleting what is gone is no error."""
    for client, vendor in ((neon_client(neon), neon), (xata_client(xata), xata)):
        side = client.restore(BranchTarget(), "side")
        client.delete(side)
        client.delete(side)
        live = next(branch for branch in client.branches() if branch.live)
        asked = len(vendor.changes())
        with pytest.raises(Refused, match="never deleted"):
            client.delete(live)
        assert len(vendor.changes()) == asked


def test_the_hosts_of_the_live_branch(neon: Neon, xata: Xata) -> None:
    """What the connection string is compared with before anything is made."""
    neon.host = "ep-a.example.test"
    xata.host = "xb0.example.test"
    assert neon_client(neon).hosts() == {"ep-a.example.test"}
    assert xata_client(xata).hosts() == {"xb0.example.test"}


def test_a_wrong_token_is_an_auth_error_that_does_not_quote_it(neon: Neon, xata: Xata) -> None:
    """In the matrix it is a state; elsewhere exit 4 with what to set."""
    for client, name in (
        (neon_client(neon, token="wrong-canary"), "NEON_API_KEY"),
        (xata_client(xata, token="wrong-canary"), "XATA_API_KEY"),
    ):
        state = client.capabilities()
        assert not state.answers
        assert "refuses the token (401)" in state.problem
        with pytest.raises(AuthError) as caught:
            client.branches()
        assert name in (caught.value.hint or "")
        assert "wrong-canary" not in str(caught.value) + state.problem


def test_an_unknown_branch_and_an_unknown_project(neon: Neon, xata: Xata) -> None:
    """The branches that there are, are named."""
    for client in (neon_client(neon, live="mian"), xata_client(xata, live="mian")):
        with pytest.raises(ProviderRejected, match="no branch 'mian'") as caught:
            client.restore(BranchTarget(), "side")
        assert caught.value.hint == "one of: main"
        assert "mian" in client.capabilities().problem
    with pytest.raises(ProviderRejected, match="404"):
        neon_client(neon, project="other").branches()


def test_a_vendor_that_does_not_answer(neon: Neon) -> None:
    """A state in the matrix, an error elsewhere; nothing claims that anything happened."""
    neon.url = refused_url()
    client = neon_client(neon)
    assert not client.capabilities().answers
    with pytest.raises(ProviderUnavailable, match="not reached"):
        client.restore(BranchTarget(), "side")


@pytest.mark.parametrize("body", [b"<html>", b'{"branches": 3}', b"", b"[]"], ids=["html", "type", "empty", "list"])
def test_an_answer_of_another_shape(neon: Neon, body: bytes) -> None:
    """Unavailable, not a crash."""
    neon.replies = [(200, body.decode())] * 9
    with pytest.raises(ProviderUnavailable, match="does not have the expected shape"):
        neon_client(neon).branches()


def test_a_value_that_cannot_be_read_is_left_out(neon: Neon, xata: Xata) -> None:
    """And a list without end is one that does not answer."""
    neon.branches[0] |= {"parent_lsn": "x/y", "parent_timestamp": "soon", "created_at": "99999-01-01"}
    (found,) = neon_client(neon).branches()
    assert (found.lsn, found.created_at) == (None, 0.0)
    xata.host = "[bad"
    assert xata_client(xata).hosts() == frozenset()
    with pytest.raises(ProviderUnavailable, match="no connection string"):
        xata_client(xata).url(xata_client(xata).branches()[0], "app", "")
    page = {"branches": neon.branches, "pagination": {"next": "again"}}
    neon.replies = [(200, page)] * 500
    with pytest.raises(ProviderUnavailable, match="does not end"):
        neon_client(neon).branches()


WORDS = st.sampled_from(
    ["branches", "id", "name", "current_state", "created_at", "parent_lsn", "parent_timestamp", "pagination", "next",
     "project", "history_retention_seconds", "operations", "status", "statusType", "backups", "branchID", "main", LIVE,
     "latestRestore", "endpoints", "snapshots", "2026-11-25T00:00:00Z", "99999-01-01", "0/1", "x/y"]
)  # fmt: skip
ANSWERS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=12,
)


@examples(60)
@given(answers=st.lists(st.tuples(st.sampled_from([200, 201, 400, 404, 409, 500]), ANSWERS), max_size=6))
def test_whatever_the_vendor_answers_is_an_answer_or_an_error_of_ours(
    neon: Neon, xata: Xata, answers: list[tuple[int, object]]
) -> None:
    """Never a crash, and never a second change when the first one's fate is not known."""
    for client, vendor in ((neon_client(neon), neon), (xata_client(xata), xata)):
        for call in (client.capabilities, client.branches, lambda c=client: c.restore(BranchTarget(), "side")):  # type: ignore[misc]
            vendor.asked.clear()
            vendor.replies = [*answers]
            with contextlib.suppress(BackoutError):
                call()
            assert len([path for method, path, _ in vendor.asked if method == "POST" and "endpoints" not in path]) <= 1
        vendor.replies = []
