"""Remarks: what is written into a deployment's message is read again exactly, and nobody's text is taken for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from values import replace

from backout.analysis.history.marks import read_marks
from backout.analysis.history.remark_text import parse
from backout.analysis.history.remarks import (
    drop_remarks,
    find_told_stable,
    find_underneath,
    is_deciding,
    is_remark,
    is_same_commit,
    is_same_hash,
    is_same_version,
    list_marks,
    merge_marks,
)
from backout.model.remark import Code, Doubt, Remark, RemarkKind, looks_like_mark
from backout.model.version import Mark, VersionMark
from backout.model.witness import Witness

from situations import deployment, version

if TYPE_CHECKING:
    from backout.model.deployment import Deployment

LIMIT = 100
"""Bytes that the strictest known provider keeps of a message."""

HEX = "0123456789abcdef"
runs = st.builds(
    lambda kind, digits: f"{kind}-{digits}",
    st.sampled_from(("rollback", "guard", "recover")),
    st.text(HEX, min_size=8, max_size=8),
)
codes = st.builds(
    Code,
    st.text(HEX, min_size=8, max_size=8),
    st.just("") | st.text(HEX, min_size=12, max_size=12),
    st.just("") | st.text(HEX, min_size=7, max_size=7),
)
texts = st.text(max_size=60).map(str.rstrip)
witnesses = st.none() | st.builds(Witness, st.text(HEX, min_size=8, max_size=8), st.text(HEX, min_size=12, max_size=12))
signatures = st.just("") | st.text("0123456789ABCDEFghij-_", min_size=14, max_size=14)
whole_seconds = st.integers(1, 4_000_000_000).map(float)
remarks = st.one_of(
    st.builds(
        Remark,
        st.just(RemarkKind.ROLLBACK),
        runs,
        auto=st.booleans(),
        hop=st.integers(1, 99),
        code=st.none() | codes,
        signature=signatures,
        text=texts,
    ),
    st.builds(Remark, st.just(RemarkKind.PROVE), runs, signature=signatures, text=texts),
    st.builds(Remark, st.just(RemarkKind.STABLE), runs, code=codes, signature=signatures, text=texts),
    st.builds(Remark, st.just(RemarkKind.QUESTIONED), runs, code=codes, signature=signatures, text=texts),
    st.builds(
        Remark,
        st.just(RemarkKind.HOLD),
        until=st.just(0.0) | whole_seconds,
        incident=st.just("") | runs,
        signature=signatures,
        text=texts,
    ),
    st.builds(Remark, st.just(RemarkKind.RELEASE), code=codes, signature=signatures, text=texts),
)


@given(remarks, witnesses)
def test_what_is_written_is_read_again(remark: Remark, witness: Witness | None) -> None:
    """For every kind and every combination of fields, whatever the reason says."""
    whole = replace(remark, witness=witness)
    assert parse(str(whole)) == whole


@given(remarks, witnesses)
def test_an_older_backout_reads_the_head_of_the_journal_as_a_part_of_the_reason(
    remark: Remark, witness: Witness | None
) -> None:
    """It reads the brackets exactly as ever, and what is behind them as text."""
    head, rest = str(remark.head), str(replace(remark, witness=witness))
    assert rest.startswith(head)
    assert rest[len(head) :].lstrip(" ") in (
        str(remark)[len(head) :].lstrip(" "),
        f"journal={witness} {remark.text}".rstrip(),
    )


@given(remarks, witnesses)
def test_a_provider_that_cuts_messages_keeps_the_remark(remark: Remark, witness: Witness | None) -> None:
    """What stands before the reason is never longer than the strictest limit, and reads the same without the reason."""
    said = str(replace(remark, text=""))
    assert len(said.encode()) <= LIMIT
    cut = parse(str(replace(remark, witness=witness)).encode()[:LIMIT].decode(errors="ignore"))
    assert cut is not None
    assert replace(cut, text="", witness=None) == replace(remark, text="")
    assert cut.witness in (witness, None)


@given(st.builds(Code, *[st.text(HEX, min_size=1, max_size=70)] * 3))
def test_code_is_abbreviated_when_it_is_written(code: Code) -> None:
    """Full ids and hashes may be given; what is written is what every machine can read."""
    assert len(str(code)) <= 29
    read = parse(str(Remark(RemarkKind.STABLE, "guard-1", code=code)))
    assert read is not None
    assert str(read.code) == str(code)


@given(
    st.text()
    | st.text().map("[backout ".__add__)
    | remarks.map(str).map(lambda said: said[1:])
    | st.text().map("[backout x bad=".__add__)
)
def test_no_message_whatever_breaks_reading(message: str) -> None:
    """Reading never raises, and what was read is one of the kinds that backout knows."""
    read = parse(message)
    assert read is None or read.kind in RemarkKind


@given(st.text(alphabet=HEX + "/", max_size=80))
def test_a_garbled_code_says_nothing(text: str) -> None:
    """Only three parts of the right length are a code: a single digit never quarantines a tenth of all versions."""
    read = parse(f"[backout x bad={text}] because")
    if read is not None and read.code is not None:
        assert [len(part) <= most for part, most in zip(text.split("/"), (8, 12, 7), strict=True)] == [True] * 3
        assert not is_same_hash(read.code.code_hash, "0123456789abcdef" * 4)
        assert not is_same_version("0", "0123456789abcdef")


def test_hostile_numbers_and_times_are_read_as_none() -> None:
    """An endless hop, a time that no calendar has, one without a zone: nothing of ours is written so."""
    assert parse(f"[backout rollback-1 hop={'9' * 5000}] x") is None
    assert parse("[backout rollback-1 hop=0] x") is None
    assert parse("[backout hold until=9999-99-99] x") is None
    assert parse("[backout hold until=2026-13-25T12:00:00Z] x") is None
    assert parse("[backout hold until=2026-11-25T12:00:00] x") is None
    assert parse("[backout hold until=2026-11-25T12:00:00Z] x").until == 1795608000.0  # type: ignore[union-attr]
    assert parse("deploy [backout hold until=0] of main") is None
    assert parse("[backout]") is None


def said(name: str, at: float, text: str, *shares: tuple[str, float]) -> Deployment:
    """Return a deployment with a message."""
    return replace(deployment(name, at, *shares), message=text, author="ops@example.com")


OLD, NEW = version("aaaaaaaa-1", 100), version("bbbbbbbb-2", 200, code="b" * 64)
BAD = Code.of(NEW)
FIRST = said("d1", 100, "deploy", (OLD.id, 100))
SECOND = said("d2", 200, "deploy", (NEW.id, 100))


def test_a_remark_is_not_a_deployment() -> None:
    """What decides about the traffic lies underneath; the newest remark is on top."""
    proof = said("d3", 210, "[backout rollback-1 prove] at 0 %", (NEW.id, 100), (OLD.id, 0))
    stable = said("d4", 220, f"[backout guard-1 stable={BAD}] well", (NEW.id, 100))
    history = read_marks((stable, proof, SECOND, FIRST))
    assert find_underneath(history) == SECOND
    assert drop_remarks(history) == (SECOND, FIRST)
    assert [is_remark(d) for d in history] == [True, True, False, False]
    assert is_deciding(history, "d2")
    assert not is_deciding(history, "d1")
    assert find_told_stable(history, NEW.id) == stable
    assert find_told_stable(history, OLD.id) is None


def test_a_remark_that_changed_the_traffic_is_a_deployment() -> None:
    """Somebody deployed between the look and the remark: the remark undid that, so it decides now, and says nothing."""
    stable = said("d3", 220, "[backout guard-1 stable=aaaaaaaa//] well", (OLD.id, 100))
    history = read_marks((stable, SECOND, FIRST))
    assert find_underneath(history) == stable
    assert (history[0].remark, history[0].doubt) == (None, Doubt.SHARES)


def test_remarks_that_pushed_the_deployment_out_of_the_list() -> None:
    """The oldest that is listed stands for it, so a hold upon a hold never makes a rollback impossible."""
    text = "[backout hold until=0] x"
    holds = read_marks([said(f"h{n}", 300 - n, text, (NEW.id, 100)) for n in range(10)])
    assert find_underneath(holds) == holds[-1]
    assert drop_remarks(holds) == (holds[-1],)
    assert is_deciding(holds, "d2")
    assert is_deciding(read_marks(holds[:-1]), holds[-1].id)
    hotfix = said("d9", 400, "deploy", (OLD.id, 100))
    assert not is_deciding(read_marks((hotfix, *holds[:9])), "d2")
    assert not is_deciding(read_marks((*holds[:8], hotfix)), "d2")
    assert drop_remarks(()) == ()


def test_marks_are_completed_and_in_the_providers_order() -> None:
    """Eight digits become the whole id where anything still names it; otherwise they stay eight digits."""
    left = said("d3", 300, f"[backout rollback-1 auto bad={BAD}] fails", (OLD.id, 100))
    lifted = said("d4", 300, f"[backout release ok={BAD}] mended", (OLD.id, 100))
    told = list_marks(read_marks((lifted, left, SECOND, FIRST)), ())
    assert [(m.mark, m.version, m.by) for m in told] == [
        (Mark.QUARANTINED, NEW.id, "ops@example.com"),
        (Mark.RELEASED, NEW.id, "ops@example.com"),
    ]
    alone = said("d4", 310, f"[backout release ok={BAD}] mended", (OLD.id, 100))
    assert [m.version for m in list_marks(read_marks((alone, FIRST)), ())] == ["bbbbbbbb"]
    assert [m.version for m in list_marks(read_marks((alone, FIRST)), (NEW,))] == [NEW.id]
    assert merge_marks((), told) == told


def marked(kind: Mark, at: float, *, run: str = "", why: str = "") -> VersionMark:
    """Return a journal's mark on the bad version."""
    return VersionMark(kind, NEW.id, NEW.code_hash, at, run, why or "in full")


def test_one_act_is_told_once_with_the_journals_details_at_the_providers_time() -> None:
    """The journal's clock may be wrong by minutes: the order is the provider's."""
    left = said("d3", 300, f"[backout rollback-1 auto bad={BAD}] in sh", (OLD.id, 100))
    lifted = said("d4", 310, f"[backout release ok={BAD}] mended", (OLD.id, 100))
    provider = list_marks(read_marks((lifted, left, SECOND, FIRST)), (NEW,))
    ahead = marked(Mark.QUARANTINED, 900.0, run="rollback-1")
    assert merge_marks((ahead,), provider) == (replace(ahead, at=300.0), provider[1])
    own = marked(Mark.RELEASED, 310.0, why="mended")
    assert merge_marks((ahead, own), provider) == (replace(ahead, at=300.0), own)


@given(st.permutations([Mark.QUARANTINED, Mark.RELEASED] * 2), st.integers(-900, 900), st.integers(-900, 900))
def test_two_machines_with_wrong_clocks_read_the_same_last_word(order: list[Mark], first: int, second: int) -> None:
    """Each machine made some of the marks and journalled them by its own clock; both end with the provider's newest."""
    history, journals = [FIRST], ([], [])  # type: ignore[var-annotated]
    for number, mark in enumerate(order):
        at, run = 1000.0 + 10 * number, f"rollback-{number}" if mark is Mark.QUARANTINED else ""
        text = f"[backout {run} bad={BAD}]" if run else f"[backout release ok={BAD}]"
        if run:  # it was deployed once more
            history.insert(0, said(f"again{number}", at - 1, "deploy", (NEW.id, 100)))
        history.insert(0, said(f"d{number}", at, f"{text} why", (OLD.id, 100)))
        skew = (first, second)[number % 2] if run else 0  # a release is journalled at the provider's own time
        journals[number % 2].append(marked(mark, at + skew, run=run))
    provider = list_marks(read_marks(history), (NEW,))
    for journal in ([], *journals):
        told = merge_marks(sorted(journal, key=lambda m: m.at), provider)
        assert [m.mark for m in told] == order


def test_prefixes_count_only_in_their_full_length() -> None:
    """8 digits of a version, 12 of a hash, 7 of a commit; anything shorter says nothing."""
    assert is_same_version("bbbbbbbb", NEW.id)
    assert is_same_version(NEW.id, NEW.id)
    assert not is_same_version("bbbb", NEW.id)
    assert not is_same_version("", NEW.id)
    assert is_same_hash("b" * 12, "b" * 64)
    assert not is_same_hash("b" * 11, "b" * 64)
    assert not is_same_hash(None, None)
    assert not is_same_hash("", "")
    assert is_same_commit("ABCDEF1", "abcdef1234")
    assert not is_same_commit("abcdef", "abcdef")
    assert not is_same_commit("", "")
    assert not is_same_commit("release-12", "release-13")  # names that begin alike
    assert not is_same_commit("nightly", "nightly")
    named = Code.of(replace(NEW, git_sha="release-12"))
    assert (named.git_sha, Code.of(NEW).git_sha) == ("", NEW.git_sha[:7])


@pytest.mark.parametrize(
    ("message", "is_mark"),
    [
        ("[backout guard-1a2b3c4d stable=1a2b3c4d/0123456789ab/abcdef1] well", True),
        ("[backout hold until=0] over", True),
        ("[backout release ok=1a2b3c4d//] mended", True),
        ("[backout rollback-1a2b3c4d prove] at 0 %", True),
        ("[backout rollback-1a2b3c4d auto hop=2 bad=1a2b3c4d/0123456789ab/abcdef1] prove", False),
        ("[backout ramp-1a2b3c4d ramp] to 50 %", False),
        ("deploy of main", False),
    ],
)
def test_a_message_that_looks_like_a_mark(message: str, is_mark: bool) -> None:
    """One of a remark that moves no traffic, as they are written."""
    said = parse(message)
    assert looks_like_mark(message) is is_mark
    assert is_mark is (said is not None and not said.kind.moves_traffic)
