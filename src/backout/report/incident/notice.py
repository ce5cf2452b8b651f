"""The texts of notices, in whole sentences with numbers; pure. A title is one line, and the text stands on its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import field

from backout.escaping import shorten
from backout.model.database.wal import show_lsn
from backout.model.guard.verdict import CriterionState, Verdict
from backout.model.incident.notice import NoticeKind
from backout.model.value import Value
from backout.report.times import format_clock, format_duration, format_time
from backout.report.verified import VERIFIED, describe_verified

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.database.backups import Protection
    from backout.model.guard.verdict import Decision, Verification
    from backout.model.incident.incident import Incident

_ID = 8
"""How many characters of a version id a title shows."""


class Words(Value, frozen=True):
    """The words of one notice, see `Notice`."""

    title: str
    text: str
    next: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)


class LiveNow(Value, frozen=True):
    """What is live, as it was read back from the provider."""

    version: str
    deployment: str
    since: float
    read_at: float

    @property
    def sentence(self) -> str:
        """Return it in words, with the time of the read-back."""
        return (
            f"Live, as read back at {format_clock(self.read_at)} UTC: version {self.version} since "
            f"{format_clock(self.since)} UTC "
            f"(deployment {self.deployment})."
        )

    @property
    def facts(self) -> dict[str, str]:
        """The same for programs."""
        return {
            "live_version": self.version,
            "deployment_id": self.deployment,
            "live_since": format_time(self.since),
            "read_back_at": format_time(self.read_at),
        }


NOT_READ = "What is live now could not be read back."


class Switched(Value, frozen=True):
    """A rollback at its end, or while it is being verified.

    Args:
        incident: according to the journal.
        waited: whether its plan verifies the outcome.
        cause: the watch that led to it, or "".
        by, why: who asked for it, and the reason given.
        more: a sentence on what follows, or "".
        pending: the verification goes on.
    """

    environment: str
    incident: Incident
    live: LiveNow | None
    waited: bool
    cause: str
    by: str
    why: str
    report: str = ""
    more: str = ""
    pending: bool = False


def describe_rollback(told: Switched) -> Words:
    """Return the words of ROLLED_BACK, ROLLED_FORWARD, NOT_RESTORED: title and text say whether it is proven well."""
    incident, environment = told.incident, told.environment
    proof = incident.verification
    outcome = "being verified" if told.pending else _describe_outcome(proof, waited=told.waited)
    done = "rolled forward" if incident.forward else "rolled back"
    title = f"{environment}: {done} to version {incident.good_version[:_ID]}, {outcome}"
    sentences = [
        f"Version {incident.bad_version} was left for version {incident.good_version}{_describe_after(incident)}.",
        f"Guard decided it: {_make_sentence(told.why)}"
        if told.cause
        else f"{told.by} asked for it: {_make_sentence(shorten(told.why))}",
        *_list_numbers(incident.decision),
        "It is being verified; how that ends is told." if told.pending else _describe_proof(proof, waited=told.waited),
        told.live.sentence if told.live else NOT_READ,
        *([told.more] if told.more else []),
        *([f"Report: {told.report}"] if told.report else []),
    ]
    status = f"backout status -e {environment}"
    again = f"backout rollback --dry-run -e {environment}"
    restored = proof is None or proof.verified is not False
    facts = {
        "outcome": outcome,
        "from_version": incident.bad_version,
        "to_version": incident.good_version,
        "guard_run_id": told.cause,
        "asked_by": "guard" if told.cause else told.by,
        "report_path": told.report,
        **_make_decision_facts(incident.decision),
        **(told.live.facts if told.live else {}),
    }
    return Words(title, _join_sentences(sentences), (status,) if restored else (status, again), _drop_empty(facts))


class Concluded(Value, frozen=True):
    """A watch that ended without a rollback although something is wrong.

    Args:
        why: why nothing was done.
        rule: the safety rule, or "".
        target: what would have been made live, or "".
        options: the allowed options, whole sentences.
        accepted_by: the setting by which the policy accepts this, or "".
        told: what became of the shifts that were told during the watch, sentences.
    """

    environment: str
    version: str
    decision: Decision
    why: str
    live: LiveNow | None
    rule: str = ""
    target: str = ""
    options: tuple[str, ...] = ()
    report: str = ""
    accepted_by: str = ""
    told: tuple[str, ...] = ()


def describe_conclusion(kind: NoticeKind, told: Concluded) -> Words:
    """Return the words of WOULD_ROLL_BACK, REFUSED, HELD and INCONCLUSIVE."""
    environment, decision = told.environment, told.decision
    version = told.version[:_ID]
    head = {
        NoticeKind.WOULD_ROLL_BACK: f"version {version} regressed; guard only observes",
        NoticeKind.REFUSED: f"version {version} regressed, and the rollback is refused ({told.rule})",
        NoticeKind.HELD: f"version {version} is {decision.verdict}, and a person has to decide",
        NoticeKind.INCONCLUSIVE: f"version {version}: {decision.verdict}, it is not known whether it is good",
    }[kind]
    lasted = format_duration(decision.watched_s)
    sentences = [
        (
            f"The watch of version {told.version} ended after {lasted}: {decision.verdict}, "
            f"{_make_sentence(decision.reason)}"
        ),
        *_list_numbers(decision),
        *told.told,
        *([f"Nothing was changed: {_make_sentence(told.why)}"] if told.why != decision.reason else []),
        *([f"The policy accepts that ({told.accepted_by} = 'accept')."] if told.accepted_by else []),
        *([f"Safety rule: {told.rule}."] if told.rule else []),
        *([f"It would be rolled back to version {told.target}."] if told.target else []),
        told.live.sentence if told.live else NOT_READ,
        *(["What may be done:", *(f"- {option}" for option in told.options)] if told.options else []),
        *([f"Report: {told.report}"] if told.report else []),
    ]
    facts = {
        "version": told.version,
        "why": told.why,
        "rule": told.rule,
        "target_version": told.target,
        "options": "\n".join(told.options),
        "report_path": told.report,
        **_make_decision_facts(decision),
        **(told.live.facts if told.live else {}),
    }
    roll_back = () if decision.verdict is Verdict.HEALTHY else (f"backout rollback --dry-run -e {environment}",)
    return Words(
        f"{environment}: {head}",
        _join_sentences(sentences),
        (*roll_back, f"backout status -e {environment}"),
        _drop_empty(facts),
    )


def describe_overtaken(environment: str, version: str, live: LiveNow | None) -> Words:
    """Return the words of UNGUARDED when another deployment took the place of the watched one."""
    return Words(
        f"{environment}: another deployment took the place of version {version[:_ID]} while it was watched",
        _join_sentences(
            [
                f"The verdict on version {version} is void, and nothing was changed.",
                live.sentence if live else NOT_READ,
                "Unless another guard was started for it, it is not watched.",
            ]
        ),
        (f"backout guard -e {environment}", f"backout status -e {environment}"),
        _drop_empty({"version": version, **(live.facts if live else {})}),
    )


class Stopped(Value, frozen=True):
    """A run, or the start of a watch, that ended with an error.

    Args:
        doing: what was going on, for the title.
        error: the error's class.
        rule, options: of a refusal.
    """

    environment: str
    doing: str
    error: str
    what: str
    live: LiveNow | None
    hint: str = ""
    rule: str = ""
    options: tuple[str, ...] = ()


def describe_stop(kind: NoticeKind, told: Stopped) -> Words:
    """Return the words of FAILED, and of REFUSED and HELD when a rule or a question stopped a run."""
    head = {
        NoticeKind.REFUSED: f"refused ({told.rule})" if told.rule else "refused",
        NoticeKind.HELD: "a person has to decide",
        NoticeKind.TOKEN_LOST: "the token is refused",
    }.get(kind, "stopped with an error")
    sentences = [
        _make_sentence(told.what),
        *([f"Safety rule: {told.rule}."] if told.rule else []),
        told.live.sentence if told.live else NOT_READ,
        *(["What may be done:", *(f"- {option}" for option in told.options)] if told.options else []),
        *([f"Next: {told.hint}"] if told.hint and not told.hint.startswith("backout ") else []),
    ]
    facts = {
        "error": told.error,
        "what": told.what,
        "rule": told.rule,
        "options": "\n".join(told.options),
        **(told.live.facts if told.live else {}),
    }
    commands = (told.hint,) if told.hint.startswith("backout ") else ()
    return Words(
        f"{told.environment}: {told.doing}: {head}",
        _join_sentences(sentences),
        (*commands, f"backout status -e {told.environment}"),
        _drop_empty(facts),
    )


def describe_trial(environment: str, by: str) -> Words:
    """Return the words of TEST."""
    return Words(
        f"{environment}: this is a test",
        f"{by} tries whether notices of {environment} arrive here. Nothing happened.",
        (f"backout notify list -e {environment}",),
        {"asked_by": by},
    )


def describe_protection(environment: str, found: Protection, since: float, lsn: int) -> Words:
    """Return the words of UNPROTECTED and PROTECTED.

    Args:
        since, lsn: the last moment and position at which it was protected; 0 where it never was.
    """
    last = f"{format_clock(since)} UTC, {show_lsn(lsn)}" if since else ""
    facts = {"why": found.why, "protected_at": format_time(since) if since else "", "protected_lsn": show_lsn(lsn)}
    looks = f"backout db wal status -e {environment}"
    if found.protected:
        text = f"It is {found.claim}."
        return Words(f"{environment}: the database is protected again", text, (looks,), facts)
    text = f"It could last be brought back to every moment at {last}: {found.why}." if last else f"{found.why}."
    next_ = (looks, f"backout db backup -e {environment}")
    return Words(f"{environment}: the database is UNPROTECTED", text, next_, facts)


def describe_unproved(environment: str, alarm: str) -> Words:
    """Return the words of UNPROVED: the last proof of the backups failed, or is too old.

    Args:
        alarm: as `proof_alarm` returns it.
    """
    text = f"{alarm[:1].upper()}{alarm[1:]}. Whether the newest backup can be restored is not known."
    next_ = (f"backout db backups prove -e {environment}", f"backout db backups list -e {environment}")
    return Words(f"{environment}: the backups are not proved", text, next_, {"why": alarm})


def _describe_outcome(proof: Verification | None, *, waited: bool) -> str:
    if proof is None:
        return VERIFIED[None] if waited else "not verified (not waited for)"
    return VERIFIED[proof.verified]


def _describe_proof(proof: Verification | None, *, waited: bool) -> str:
    if proof is None:
        return (
            "Whether the service is healthy again could not be verified." if waited else "Not verified: not waited for."
        )
    word = describe_verified(proof.verified)
    open_ = [c for c in proof.criteria if c.state not in (CriterionState.PASSED, CriterionState.NOT_SET_UP)]
    listed = "".join(f" {c.name} {c.state} ({c.evidence})." for c in open_) if proof.verified is not True else ""
    return f"{word}: {_make_sentence(proof.summary)}{listed}"


def _list_numbers(decision: Decision | None) -> list[str]:
    if decision is None:
        return []
    shifts = [
        _make_sentence(f"{s.sentence} ({s.outcome})") for s in decision.shifts if s.sentence not in decision.reason
    ]
    if not decision.requests:
        return shifts
    numbers = f"{decision.errors:,} of {decision.requests:,} requests failed"
    told = [] if numbers in decision.reason else [f"In {format_duration(decision.watched_s)} of watching, {numbers}."]
    return [*told, *shifts]


def _make_decision_facts(decision: Decision | None) -> dict[str, str]:
    if decision is None:
        return {}
    return {
        "verdict": decision.verdict,
        "cause": decision.cause,
        "reason": decision.reason,
        "requests": str(decision.requests),
        "errors": str(decision.errors),
        "decided_at": format_time(decision.at),
    }


def _describe_after(incident: Incident) -> str:
    if incident.acted_at is None:
        return ""
    return (
        f" at {format_clock(incident.acted_at)} UTC, "
        f"{format_duration(incident.acted_at - incident.opened_at)} after it went live"
    )


def _make_sentence(text: str) -> str:
    text = text.strip()
    return text + ("" if text.endswith((".", "!", "?")) else ".")


def _join_sentences(sentences: list[str]) -> str:
    return "\n".join(sentence for sentence in sentences if sentence)


def _drop_empty(facts: Mapping[str, str]) -> dict[str, str]:
    return {name: str(value) for name, value in facts.items() if value}
