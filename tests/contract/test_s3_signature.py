"""The signature and the answers of the S3 client, against botocore's and against hostile bodies; no server."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from unittest import mock

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import example, given
from hypothesis import strategies as st

from backout.providers.s3 import answers, calls
from backout.providers.s3.documents import LONGEST_BODY_BYTES, MalformedAnswer, parse_xml
from backout.providers.s3.sigv4 import (
    EMPTY_SHA256,
    UNSIGNED_PAYLOAD,
    S3Credentials,
    S3Request,
    encode_key,
    make_canonical_request,
    sign,
)

AT = 1_795_566_000.0
KEYS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,15}", fullmatch=True)


def theirs(request: S3Request, session_token: str | None) -> str:
    """Return the Authorization header that botocore makes of the same request."""
    url = f"https://{request.host}{request.target}"
    headers = {**request.headers, "X-Amz-Content-SHA256": request.payload_sha256}
    aws = AWSRequest(request.method, url, headers=headers)
    signer = botocore.auth.S3SigV4Auth(Credentials("AKID", "secret", session_token), "s3", "eu-west-1")
    at = datetime.fromtimestamp(AT, UTC)
    # Another project's clock: botocore has no other way in.
    with (
        mock.patch("botocore.auth.get_current_datetime", return_value=at),
        mock.patch.object(botocore.auth.S3SigV4Auth, "payload", return_value=request.payload_sha256),
    ):
        signer.add_auth(aws)
    return str(aws.headers["Authorization"])


REQUESTS = st.builds(
    lambda key, method, query, metadata, payload: S3Request(
        method,
        "host.example:9000",
        f"/bucket/{encode_key(key)}",
        tuple(query),
        {f"x-amz-meta-{name}": value for name, value in metadata.items()},
        payload,
    ),
    key=KEYS,
    method=st.sampled_from(["GET", "PUT", "HEAD", "DELETE", "POST"]),
    query=st.lists(st.tuples(NAMES, VALUES), max_size=4, unique_by=lambda pair: pair[0]),
    metadata=st.dictionaries(NAMES, VALUES, max_size=3),
    payload=st.sampled_from([EMPTY_SHA256, UNSIGNED_PAYLOAD]),
)
TRICKY = (
    S3Request("GET", "h:1", f"/b/{encode_key('a b+c//d/../é?x#y%41~*()')}", (("prefix", "a/b c+"), ("v", "x=y&z"))),
    S3Request("PUT", "h:1", f"/b/{encode_key('/leading')}", (("uploads", ""),), {"x-amz-meta-a": "  two   spaces  "}),
)


@given(request=REQUESTS, token=st.sampled_from([None, "session/token=="]))
@example(TRICKY[0], None)
@example(TRICKY[1], "session/token==")
def test_the_signature_is_botocores(request: S3Request, token: str | None) -> None:
    """For any key, query and metadata both sign the same."""
    ours = sign(request, S3Credentials("AKID", "secret", token), "eu-west-1", AT)
    assert ours["Authorization"] == theirs(request, token)


def test_the_example_of_the_documentation_is_signed_as_documented() -> None:
    """AWS's own GET Object example with its published signature."""
    request = S3Request("GET", "examplebucket.s3.amazonaws.com", "/test.txt", (), {"Range": "bytes=0-9"})
    credentials = S3Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    at = datetime(2013, 5, 24, tzinfo=UTC).timestamp()
    signed = sign(request, credentials, "us-east-1", at)["Authorization"]
    assert signed.endswith("Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")


def test_a_secret_is_in_no_representation() -> None:
    """Neither repr nor the canonical request shows it."""
    credentials = S3Credentials("AKID", "the-secret", "the-token")
    assert "the-secret" not in repr(credentials)
    assert "the-token" not in repr(credentials)
    assert "the-secret" not in make_canonical_request(S3Request("GET", "h", "/"), {})[0]


@given(KEYS)
def test_an_encoded_key_is_ascii_and_comes_back(key: str) -> None:
    """Percent-encoding loses nothing."""
    from urllib.parse import unquote  # noqa: PLC0415 - this test alone

    encoded = encode_key(key)
    assert encoded.isascii()
    assert unquote(encoded) == key


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not xml",
        b"<a><b></a>",
        b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
        b'<!DOCTYPE a SYSTEM "http://127.0.0.1:1/x"><a/>',
        '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'.encode("utf-16"),
        b"<a>" * 100 + b"</a>" * 100,
        b"<a>" + b"x" * (LONGEST_BODY_BYTES + 1) + b"</a>",
    ],
    ids=["empty", "text", "crossed", "entity", "external", "utf-16", "deep", "large"],
)
def test_a_hostile_body_is_refused(body: bytes) -> None:
    """No entity is expanded, nothing is fetched, nothing grows without a limit."""
    with pytest.raises(MalformedAnswer):
        parse_xml(body)


@given(st.binary(max_size=200))
def test_any_body_is_parsed_or_refused(body: bytes) -> None:
    """Nothing else is ever raised."""
    with contextlib.suppress(MalformedAnswer):
        parse_xml(body)
    answers.parse_error(body)


def test_versions_keep_the_order_of_the_document() -> None:
    """Two versions of one second are ordered by nothing else."""
    entry = (
        "<{0}><Key>a%2Fb+c</Key><VersionId>{1}</VersionId><LastModified>2026-11-25T00:00:00.000Z</LastModified></{0}>"
    )
    kinds = ("Version", "DeleteMarker", "Version", "DeleteMarker")
    listed = "".join(entry.format(kind, number) for number, kind in enumerate(kinds))
    body = f"<ListVersionsResult><EncodingType>url</EncodingType>{listed}</ListVersionsResult>"
    page = answers.parse_version_page(body.encode())
    assert [one.version_id for one in page.versions] == ["0", "1", "2", "3"]
    assert [one.is_delete_marker for one in page.versions] == [False, True, False, True]
    assert {one.key for one in page.versions} == {"a/b c"}
    assert {one.last_modified for one in page.versions} == {1_795_564_800.0}
    assert page.next_markers is None


def test_keys_are_decoded_only_where_the_answer_says_that_they_are_encoded() -> None:
    """SeaweedFS lists versions with their keys as they are, though it is asked to encode them."""
    entry = "<Version><Key>a b+c%2F</Key><VersionId>1</VersionId></Version>"
    more = "<IsTruncated>true</IsTruncated><NextKeyMarker>d+e</NextKeyMarker>"
    page = answers.parse_version_page(f"<ListVersionsResult>{entry}{more}</ListVersionsResult>".encode())
    assert [one.key for one in page.versions] == ["a b+c%2F"]
    assert page.next_markers == ("d+e", "")


def test_bodies_escape_what_xml_needs() -> None:
    """A key may hold any markup."""
    body = calls.delete_many("b", [("a<&>b", "v1"), ("plain", None)]).body
    assert body is not None
    root = parse_xml(body)
    assert [one.value("Key") for one in root.all("Object")] == ["a<&>b", "plain"]
    assert [one.value("VersionId") for one in root.all("Object")] == ["v1", ""]
