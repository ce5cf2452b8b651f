"""A certificate in a sentence, for whoever plans a deployment or a rollback."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.clock import to_utc

if TYPE_CHECKING:
    from backout.model.database.certificate import Certificate


def describe_certificate(certificate: Certificate) -> str:
    """Return what a trial says of the way back, and when it was."""
    at = f"{to_utc(certificate.at):%Y-%m-%d %H:%M}Z{f' in {certificate.place}' if certificate.place else ''}"
    if certificate.reversible is False:
        return f"a trial at {at} found no way back: {certificate.blocker}"
    if certificate.reversible is None:
        return f"a trial at {at} saw too little to say: {'; '.join(certificate.reasons)}"
    until = f"{to_utc(certificate.expires_at):%Y-%m-%d %H:%M}Z"
    return f"a trial at {at}, which counts until {until}: {describe_seen(certificate).removesuffix('.')}"


def describe_seen(certificate: Certificate) -> str:
    """Return what was seen, and no more than that."""
    coverage = certificate.coverage
    requests = sum(step.requests for step in certificate.steps if step.name != "migrate")
    seen, known = coverage.routes_seen + coverage.statements_seen, coverage.routes + coverage.statements
    rows = coverage.rows_read_again
    return (
        f"No failure found in {requests} requests; {seen} of {known} routes and statements of the old code seen; "
        f"{rows} row{'s' * (rows != 1)} written by the new code {'were' if rows != 1 else 'was'} read again by the old."
    )
