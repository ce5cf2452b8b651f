"""The S3 client and the retry wrapper when the server misbehaves; time passes on a clock of the test's own."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backout.errors import AuthError, BackoutError, ProviderRejected, ProviderUnavailable
from backout.providers.retry import CallFailed, Retry, retry_after_s, retry_call
from backout.providers.s3.client import S3Client
from backout.providers.s3.sigv4 import S3Credentials
from backout.providers.s3.transport import S3Settings

from scripted_server import ScriptedServer, answer, drip, raw_answer, scripted_server

if TYPE_CHECKING:
    import socket
    import threading
    from collections.abc import Iterator

BUCKETS = b"<ListAllMyBucketsResult><Buckets><Bucket><Name>b</Name></Bucket></Buckets></ListAllMyBucketsResult>"
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"


@dataclass
class FakeClock:
    at: float = 1_795_566_000.0
    slept: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as made:
        yield made


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def client(server: ScriptedServer, clock: FakeClock) -> Iterator[S3Client]:
    settings = S3Settings(server.url, S3Credentials("AKID", "secret"), timeout_s=2.0, retry=Retry(attempts=3))
    with S3Client(settings, clock) as made:
        yield made


def test_503_is_tried_again_after_the_wait_that_was_asked_for(
    server: ScriptedServer, client: S3Client, clock: FakeClock
) -> None:
    """Retry-After is kept exactly, and each attempt is signed anew."""
    server.will(answer(SLOW_DOWN, 503, Retry_After="7"), answer(BUCKETS))
    assert client.list_buckets() == (("b", 0.0),)
    assert clock.slept == [7.0]
    dates = [one.headers["x-amz-date"] for one in server.asked]
    assert len(set(dates)) == 2


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_server_that_stays_busy_is_unavailable(
    server: ScriptedServer, client: S3Client, clock: FakeClock, status: int
) -> None:
    """Three attempts, growing waits, then exit 7 with the server's own words."""
    server.will(answer(SLOW_DOWN, status))
    with pytest.raises(ProviderUnavailable, match=f"S3 answered {status} SlowDown: Reduce your request rate"):
        client.list_buckets()
    assert len(server.asked) == 3
    assert 0.1 <= clock.slept[0] <= 0.2
    assert 0.2 <= clock.slept[1] <= 0.4


@pytest.mark.parametrize(
    ("status", "kind"), [(400, ProviderRejected), (401, AuthError), (403, AuthError), (404, ProviderRejected)]
)
def test_a_refusal_is_not_tried_again(
    server: ScriptedServer, client: S3Client, clock: FakeClock, status: int, kind: type[BackoutError]
) -> None:
    """One attempt, and no sleep."""
    server.will(answer(b"", status))
    with pytest.raises(kind):
        client.list_buckets()
    assert (len(server.asked), clock.slept) == (1, [])


def test_a_truncated_answer_is_tried_again(server: ScriptedServer, client: S3Client) -> None:
    """Half a listing is no listing."""
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + BUCKETS[:30]
    server.will(raw_answer(half), raw_answer(b""), answer(BUCKETS))
    assert client.list_buckets() == (("b", 0.0),)


def test_an_answer_that_is_no_xml_is_not_an_empty_listing(server: ScriptedServer, client: S3Client) -> None:
    """A captive portal's page is no answer."""
    server.will(answer(b"<html><p>Log in</html>"))
    with pytest.raises(ProviderUnavailable, match="did not answer"):
        client.list_buckets()


def test_a_copy_that_fails_after_its_200_is_a_failure(server: ScriptedServer, client: S3Client) -> None:
    """S3 begins the answer before the copy is done."""
    late = b'<?xml version="1.0"?><Error><Code>InternalError</Code><Message>Please try again.</Message></Error>'
    done = b"<CopyObjectResult><ETag>&quot;abc&quot;</ETag></CopyObjectResult>"
    server.will(answer(late), answer(done))
    assert client.copy(("b", "from", None), "b", "to").etag == "abc"


def test_a_body_is_sent_again_from_its_begin(server: ScriptedServer, client: S3Client) -> None:
    """Each attempt sends the whole rest of the file."""
    server.will(answer(b"", 500), answer(b"", 200, ETag='"e"'))
    file = io.BytesIO(b"skipped-content")
    file.seek(8)
    assert client.put("b", "k", file).etag == "e"
    assert [one.body for one in server.asked] == [b"content", b"content"]
    assert all(one.headers["content-length"] == "7" for one in server.asked)


def test_an_object_that_breaks_off_is_noticed(server: ScriptedServer, client: S3Client) -> None:
    """The reader never takes a part for the whole."""
    server.will(raw_answer(b"HTTP/1.1 200 OK\r\nETag: e\r\nContent-Length: 100\r\n\r\nonly this"))
    with client.get("b", "k") as body, pytest.raises(ProviderUnavailable, match="broke off"):
        b"".join(body)


def test_an_endless_answer_is_cut(server: ScriptedServer, client: S3Client) -> None:
    """Seventeen megabytes of XML are refused instead of parsed."""
    server.will(answer(b"<a>" + b"x" * (17 * 1024 * 1024) + b"</a>"))
    with pytest.raises(ProviderUnavailable):
        client.list_buckets()


def test_connections_are_kept(server: ScriptedServer, client: S3Client) -> None:
    """One connection for many calls."""
    server.will(answer(BUCKETS))
    for _ in range(5):
        client.list_buckets()
    assert server.connections == 1


# --- the wrapper itself ---------------------------------------------------------------------------------------------


def failing(times: int, **how: object) -> tuple[list[int], object]:
    calls: list[int] = []

    def call() -> str:
        calls.append(1)
        if len(calls) <= times:
            raise CallFailed(BackoutError("no"), **how)  # type: ignore[arg-type]
        return "done"

    return calls, call


def test_a_permanent_failure_is_the_last_one(clock: FakeClock) -> None:
    """The adapter says so, the wrapper obeys."""
    calls, call = failing(9, permanent=True)
    with pytest.raises(BackoutError, match="no"):
        retry_call(call, Retry(), clock)  # type: ignore[arg-type]
    assert (len(calls), clock.slept) == (1, [])


def test_a_wait_beyond_the_total_is_not_begun(clock: FakeClock) -> None:
    """Retry-After of an hour is an error now, not in an hour."""
    _, call = failing(1, retry_after_s=3600.0)
    with pytest.raises(BackoutError):
        retry_call(call, Retry(total_s=60.0), clock)  # type: ignore[arg-type]
    assert clock.slept == []


def test_another_exception_passes_through(clock: FakeClock) -> None:
    """A bug is not a reason to try again."""

    def call() -> str:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        retry_call(call, Retry(), clock)
    assert clock.slept == []


@given(attempts=st.integers(1, 8), first=st.floats(0.01, 5), longest=st.floats(0.01, 20), total=st.floats(0, 100))
def test_waits_grow_and_stay_within_the_limits(attempts: int, first: float, longest: float, total: float) -> None:
    """Never more attempts, never a longer wait, never later than allowed."""
    clock = FakeClock()
    begun = clock.now()
    calls, call = failing(attempts + 1)
    with pytest.raises(BackoutError):
        retry_call(call, Retry(attempts, first, longest, total), clock)  # type: ignore[arg-type]
    assert len(calls) <= attempts
    assert clock.now() - begun <= total + 1e-3
    assert all(slept <= longest for slept in clock.slept)
    assert all(slept <= first * 2**number for number, slept in enumerate(clock.slept))


@pytest.mark.parametrize("header", [None, "", "soon", "-1", "1.5"])
def test_an_unreadable_retry_after_is_none(header: str | None) -> None:
    """Then the wrapper's own wait counts."""
    assert retry_after_s(header, 0.0) is None


# --- time and lengths -----------------------------------------------------------------------------------------------


@pytest.fixture
def hasty(server: ScriptedServer, clock: FakeClock) -> Iterator[S3Client]:
    """A client that waits for a byte longer than for a whole answer."""
    settings = S3Settings(
        server.url, S3Credentials("AKID", "secret"), timeout_s=60.0, total_s=0.3, retry=Retry(attempts=1)
    )
    with S3Client(settings, clock) as made:
        yield made


def test_an_answer_that_drips_has_an_end(server: ScriptedServer, hasty: S3Client) -> None:
    """A byte now and then keeps no call beyond its one deadline."""
    server.will(drip(b"HTTP/1.1 200 OK\r\nETag: e\r\nContent-Length: 100000\r\n\r\n", every_s=0.01))
    with pytest.raises(ProviderUnavailable, match="no whole answer came in time"):
        hasty.list_buckets()


def test_a_head_that_drips_has_an_end(server: ScriptedServer, hasty: S3Client) -> None:
    """Neither does a head that never ends."""
    server.will(drip(b"HTTP/1.1 200 OK\r\nX: ", every_s=0.01))
    with pytest.raises(ProviderUnavailable, match="no whole answer came in time"):
        hasty.list_buckets()


def test_an_object_has_to_move_on(server: ScriptedServer, clock: FakeClock) -> None:
    """An object of any size may take as long as it wants, while it moves; a byte now and then is no movement."""
    settings = S3Settings(server.url, S3Credentials("AKID", "secret"), timeout_s=0.3, retry=Retry(attempts=1))

    def step(connection: socket.socket, ended: threading.Event) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nETag: e\r\nContent-Length: 100000\r\n\r\n")
        while not ended.wait(0.01):
            connection.sendall(b" ")
        return False

    server.will(step)
    with (
        S3Client(settings, clock) as client,
        pytest.raises(ProviderUnavailable, match="broke off"),
        client.get("b", "k") as body,
    ):
        body.read()


@pytest.mark.parametrize("length", ["-5", "five", "9" * 5000, "5\r\nContent-Length: 50", "", "5, 50"])
def test_a_length_that_is_none(server: ScriptedServer, client: S3Client, length: str) -> None:
    """A negative, huge, written or second Content-Length is an error of ours, for every kind of call."""
    server.will(raw_answer(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nhello".encode()))
    for call in (
        client.list_buckets,
        lambda: client.head("b", "k"),
        lambda: client.put("b", "k", b"x"),
        lambda: client.get("b", "k").read(),
    ):
        with pytest.raises(ProviderUnavailable, match="S3 did not answer"):
            call()  # type: ignore[operator]


# --- what bodies may not do -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["foo", "hex", "utf-7", "idna", "base64", "undefined", "utf-16", "cp037"])
@pytest.mark.parametrize("status", [200, 403])
def test_a_declared_encoding_is_never_looked_up(
    server: ScriptedServer, client: S3Client, encoding: str, status: int
) -> None:
    """S3 writes UTF-8; whatever else a body says of itself is no reason to fail in another way than with an answer."""
    error = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
    body = f'<?xml version="1.0" encoding="{encoding}"?>'.encode() + (BUCKETS if status == 200 else error)
    server.will(answer(body, status))
    if status == 200:
        assert client.list_buckets() == (("b", 0.0),)
    else:
        with pytest.raises(AuthError, match="S3 answered 403 AccessDenied: no"):
            client.list_buckets()


def test_a_message_of_any_length_is_cut(server: ScriptedServer, client: S3Client) -> None:
    """Of a refusal of 50,000 characters three hundred are kept, and of its word a hundred."""
    many = b"A" * 50_000
    server.will(answer(b"<Error><Code>" + many[:5000] + b"</Code><Message>" + many + b"</Message></Error>", 403))
    with pytest.raises(AuthError, match=r"S3 answered 403 A{100}: A{300} \.\.\.$") as refused:
        client.list_buckets()
    assert len(refused.value.what) < 450


def test_a_body_of_many_elements_is_refused(server: ScriptedServer, client: S3Client) -> None:
    """Four bytes of XML are 125 in memory: 1.6 MB of them would be 50."""
    server.will(answer(b"<ListAllMyBucketsResult>" + b"<a/>" * 100_001 + b"</ListAllMyBucketsResult>"))
    with pytest.raises(ProviderUnavailable, match="XML of more than 100000 elements"):
        client.list_buckets()


# --- listings have an end -------------------------------------------------------------------------------------------


def objects_page(number: int, key: str, token: str = "") -> bytes:
    more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    entry = f"<Contents><Key>{key}</Key><Size>{number}</Size><ETag>e</ETag></Contents>"
    return f"<ListBucketResult>{more}{entry}</ListBucketResult>".encode()


def versions_page(key: str, marker: str = "") -> bytes:
    more = f"<IsTruncated>true</IsTruncated><NextKeyMarker>{marker}</NextKeyMarker>" if marker else ""
    entry = f"<Version><Key>{key}</Key><VersionId>v</VersionId><Size>1</Size><ETag>e</ETag></Version>"
    return f"<ListVersionsResult>{more}{entry}</ListVersionsResult>".encode()


def test_a_listing_that_repeats_its_token_has_an_end(server: ScriptedServer, client: S3Client) -> None:
    """It leads back to where it was."""
    server.will(*(answer(objects_page(1, f"k{number}", "same")) for number in range(5)), answer(objects_page(1, "z")))
    with pytest.raises(ProviderUnavailable, match="listing has no end: it leads back"):
        list(client.list_objects("b"))
    assert len(server.asked) == 2


def test_a_listing_whose_token_is_ignored_has_an_end(server: ScriptedServer, client: S3Client) -> None:
    """Each page is the first one again, with a token of its own."""
    server.will(*(answer(objects_page(1, "k", f"t{number}")) for number in range(5)), answer(objects_page(1, "k")))
    with pytest.raises(ProviderUnavailable, match="listing has no end: the same page came twice"):
        list(client.list_objects("b"))
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("pages", "why"),
    [
        ([versions_page("k1", "m"), versions_page("k2", "m"), versions_page("k3")], "leads back"),
        ([versions_page("k", "m1"), versions_page("k", "m2"), versions_page("k")], "the same page"),
    ],
)
def test_a_listing_of_versions_has_an_end(
    server: ScriptedServer, client: S3Client, pages: list[bytes], why: str
) -> None:
    """The same for versions."""
    server.will(*map(answer, pages))
    with pytest.raises(ProviderUnavailable, match=why):
        list(client.list_versions("b"))


def test_a_listing_that_goes_on_is_cut(server: ScriptedServer, client: S3Client) -> None:
    """New keys and new tokens for ever: the number of pages has a limit, and so has the time."""
    from backout.providers.s3.paging import list_pages  # noqa: PLC0415 what the commit before did not have

    for limits, why in ({"most_pages": 4}, "after 4 pages"), ({"within_s": 0.0}, "after 0 s"):
        server.will(*(answer(objects_page(1, f"k{number}", f"t{number}")) for number in range(9)))
        with pytest.raises(ProviderUnavailable, match=why):
            list(list_pages(lambda token: client.list_page("b", token=token), "b", **limits))  # type: ignore[arg-type]


def test_a_listing_in_another_order_is_read_whole(server: ScriptedServer, client: S3Client) -> None:
    """Not every store sorts as S3 does: a folder may come before a name that sorts before its slash."""
    server.will(
        answer(objects_page(1, "a/x", "t1")), answer(objects_page(2, "a-b", "t2")), answer(objects_page(3, "c"))
    )
    assert [each.key for each in client.list_objects("b")] == ["a/x", "a-b", "c"]
