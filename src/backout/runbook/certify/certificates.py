"""Certificates in the journal: recorded once, and looked up by the code and the migrations that they are bound to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from backout.decoding import Undecodable, decode_values
from backout.model.database.certificate import LASTS_S, Certificate

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from backout.analysis.certify.judging import KnownCode
    from backout.model.database.certificate import RoundTrip
    from backout.model.database.compatibility import MigrationFile, MigrationVerdict
    from backout.ports import Journal

KIND: Final = "certificate"


def make_certificate(
    codes: tuple[tuple[str, str], tuple[str, str]],
    head: str,
    migrations: Sequence[MigrationFile],
    seen: RoundTrip,
    known: KnownCode,
    verdicts: Sequence[MigrationVerdict],
    *,
    at: float,
) -> Certificate:
    """Return the certificate of a trial.

    Args:
        codes: of the old and the new code: its version id, or the hash where it has none, and the hash.
        head: the last migration that the old code ran with.
        migrations: those that were tried.
        seen: what the trial saw.
        known: the old code's statements.
        verdicts: on the texts of `migrations`.
        at: when the trial ended (Unix seconds).
    """
    from backout.analysis.certify.judging import judge_round_trip  # with Postgres's parser, which a rollback waits for

    (old, old_code), (new, new_code) = codes
    judged = judge_round_trip(seen, known, verdicts)
    return Certificate(
        old=old,
        new=new,
        old_code=old_code,
        new_code=new_code,
        head=head,
        migrations=tuple((file.name, file.checksum) for file in migrations),
        steps=judged.steps,
        coverage=judged.coverage,
        not_exercised=(*seen.not_exercised, *judged.unseen),
        reversible=judged.reversible,
        blocker=judged.blocker,
        reasons=judged.reasons,
        shapes=judged.shapes,
        at=at,
        expires_at=at + LASTS_S,
    )


def record_certificate(journal: Journal, environment: str, certificate: Certificate, *, actor: str) -> None:
    """Record it, whatever it says: a later one on the same code and migrations takes its place."""
    key = f"{certificate.old}:{certificate.new}:{certificate.at:.3f}"
    journal.note(environment, KIND, key, {"certificate": msgspec.to_builtins(certificate)}, actor=actor)


def find_certificate(
    journal: Journal,
    environment: str,
    *,
    old: Collection[str] | None,
    new: Collection[str] | None,
    head: str,
    migrations: Sequence[tuple[str, str]],
    now: float,
    writes: Iterable[str] = (),
) -> Certificate | None:
    """Return the newest certificate that still counts, None where there is none.

    Args:
        old, new: what each may be called: its version id, the hash of its code. None: whatever was tried.
        head: the last migration before those.
        migrations: names and checksums, in order, of what the new code came with.
        now: Unix seconds; a certificate ends after 24 hours.
        writes: statements by which the new code wrote since; one that the trial had no shape of ends it.
    """
    newest: Certificate | None = None
    for found in list_certificates(journal, environment):
        is_old = old is None or not {found.old, found.old_code}.isdisjoint(old)
        is_new = new is None or not {found.new, found.new_code}.isdisjoint(new)
        if is_old and is_new and (found.head, found.migrations) == (head, tuple(migrations)):
            newest = found
    if newest is None or not newest.at <= now < newest.expires_at:
        return None
    return None if any(_is_unknown(sql, newest) for sql in writes) else newest


def list_certificates(journal: Journal, environment: str) -> Iterator[Certificate]:
    """Yield those that were recorded, oldest first, whether they still count or not."""
    for event in journal.events(environment=environment, kind=KIND):
        found = _read_certificate(event.data.get("certificate"))
        if found is not None:
            yield found


def _read_certificate(data: object) -> Certificate | None:
    """Return a recorded certificate; None for one that another version of backout wrote in another shape."""
    try:
        return decode_values(data, Certificate, what="the certificate")
    except Undecodable:
        return None


def _is_unknown(sql: str, certificate: Certificate) -> bool:
    """Whether a statement writes in a way that the trial did not see; one that cannot be read may."""
    from backout.analysis.certify.statements import read_statement

    read = read_statement(sql)
    return read is None or bool(read.written and read.fingerprint not in certificate.shapes)
