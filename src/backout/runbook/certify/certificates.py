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
    place: str = "",
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
        place: the environment in which it took place, "" for a local twin.
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
        place=place,
    )


def record_certificate(journal: Journal, environment: str, certificate: Certificate, *, actor: str) -> None:
    """Record it, whatever it says: a later one on the same code and migrations takes its place."""
    key = f"{certificate.old}:{certificate.new}:{certificate.at:.3f}"
    journal.note(environment, KIND, key, {"certificate": msgspec.to_builtins(certificate)}, actor=actor)


def list_counting(journal: Journal, environment: str, *, now: float) -> list[Certificate]:
    """Return those that have not ended at `now` (Unix seconds), oldest first."""
    return [each for each in list_certificates(journal, environment) if each.at <= now < each.expires_at]


def is_about_old(certificate: Certificate, names: Collection[str]) -> bool:
    """Whether the old code is one of these version ids or hashes."""
    return not {certificate.old, certificate.old_code}.isdisjoint(names)


def is_about_new(certificate: Certificate, names: Collection[str]) -> bool:
    """Whether the new code is one of these version ids or hashes."""
    return not {certificate.new, certificate.new_code}.isdisjoint(names)


def has_unknown_write(certificate: Certificate, writes: Iterable[str]) -> bool:
    """Whether one of these statements writes in a way that the trial had no shape of."""
    return any(_is_unknown(sql, certificate) for sql in writes)


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
