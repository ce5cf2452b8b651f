"""Which cause is named: incidents simulated in a canary, with a background of errors and cascades; and calm streams."""

from __future__ import annotations

import random
from collections import Counter
from typing import Final

from msgspec.structs import replace

from backout.analysis.diagnosis.diagnosis import diagnose
from backout.analysis.diagnosis.signatures import Classifier
from backout.model.incident.diagnosis import UNKNOWN, Clue, RollbackAdvice, Scenario, Surroundings
from backout.model.incident.events import EventCounts, InvocationCounts, Origin, Seen, Template, TemplateKey
from backout.wiring.diagnosis import load_catalogue

CATALOGUE = load_catalogue()
CLASSIFIER = Classifier(CATALOGUE)
OLD, NEW = "11111111-old", "22222222-new"
START: Final = 1_800_000_000

CAUSES: Final = {
    "db_schema_mismatch": 'PrismaClientKnownRequestError: The column `users.nick` does not exist. code: "P2022"',
    "missing_env_var": "TypeError: Cannot read properties of undefined (reading 'put')\n    at save (worker.js:1:111)",
    "secret_invalid": "JsonWebTokenError: invalid signature\n    at verify (/app/jsonwebtoken/verify.js:171:19)",
    "db_unreachable": "Error: connect ECONNREFUSED 127.0.0.1:5432",
    "db_pool_exhausted": "error: remaining connection slots are reserved for roles with the SUPERUSER attribute",
    "db_timeout": 'error: canceling statement due to statement timeout {"code":"57014"}',
    "storage_missing_bucket": "NoSuchBucket: The specified bucket does not exist",
    "dns_tls_failure": "Error: getaddrinfo ENOTFOUND db.internal.invalid",
    "worker_script_error": "TypeError: Cannot read properties of undefined (reading 'email')\n    at f (w.js:1:111)",
    "module_not_found": "ReferenceError: require is not defined\n    at load (worker.js:1:47)",
    "worker_cpu_exceeded": "Error: Worker exceeded CPU time limit.",
    "worker_memory_exceeded": "Error: Worker exceeded memory limit.",
    "rate_limited": "SlowDown: Please reduce your request rate.",
    "api_incompatibility": "SyntaxError: Unexpected token '<', \"<!DOCTYPE \"... is not valid JSON",
}
"""One text of each cause that a canary meets."""
CASCADES: Final = {
    "db_unreachable": "db_pool_exhausted",
    "db_pool_exhausted": "db_timeout",
    "missing_env_var": "secret_invalid",
    "worker_memory_exceeded": "client_disconnected",
}
"""What comes along with some; with all others, tRPC answers 500."""
WRAPPER: Final = "❌ tRPC failed on orders.list: INTERNAL_SERVER_ERROR"
BACKGROUND: Final = (
    ("Error: Network connection lost.", True, 0.4),
    ('error: duplicate key value violates unique constraint "users_email_key" {"code":"23505"}', False, 0.2),
    ("Error: The client disconnected", False, 0.2),
    ("RangeError: Maximum call stack size exceeded\n    at f (worker.js:1:59)", True, 0.15),
    ("Error: Request to https://api.example.com/v1/rates failed with status code 503", True, 0.05),
)
"""Texts that both versions have: (text, whether the invocation fails, its part of the background)."""


class Stream:
    """Counts of a stream of invocations, as the reader of events would have made them."""

    def __init__(self, seed: int, *, invocations: int = 20_000, canary: float = 0.1, minutes: int = 30) -> None:
        self.draw = random.Random(seed)  # noqa: S311 - a simulation
        new = sum(self.draw.random() < canary for _ in range(invocations))
        self.invocations = {OLD: invocations - new, NEW: new}
        self.minutes = minutes
        self.errors: Counter[str] = Counter()
        self.seen: dict[str, Counter[str]] = {}
        self.failed: dict[str, Counter[str]] = {}
        self.at: dict[str, Counter[tuple[str, int]]] = {}

    def happen(self, text: str, rates: dict[str, float], *, fails: bool = True, since: int = 0) -> Stream:
        """Let a text happen at these rates, evenly over the minutes from `since` on."""
        for version, rate in rates.items():
            share = (self.minutes - since) / self.minutes
            number = sum(self.draw.random() < rate * share for _ in range(self.invocations[version]))
            self.seen.setdefault(text, Counter())[version] += number
            self.failed.setdefault(text, Counter())[version] += number if fails else 0
            self.errors[version] += number if fails else 0
            for _ in range(number):
                minute = START // 60 + self.draw.randrange(since, self.minutes)
                self.at.setdefault(text, Counter())[version, minute] += 1
        return self

    def background(self, rate: float = 0.03) -> Stream:
        for text, fails, part in BACKGROUND:
            self.happen(text, dict.fromkeys((OLD, NEW), rate * part), fails=fails)
        return self

    def counts(self) -> EventCounts:
        templates = tuple(
            Template(
                TemplateKey("", text.splitlines()[0]),
                Origin.EXCEPTION,
                text,
                {v: Seen(n, self.failed[text][v]) for v, n in seen.items() if n},
                dict(self.at.get(text, {})),
                first_seen=float(START),
            )
            for text, seen in self.seen.items()
            if sum(seen.values())
        )
        return EventCounts(
            by_version={v: InvocationCounts(n, self.errors[v]) for v, n in self.invocations.items()},
            templates=templates,
            first_at=float(START),
            last_at=float(START + 60 * self.minutes - 1),
        )


def incident(cause: str, seed: int, *, cascade: bool) -> EventCounts:
    """Return a canary in which one per cent of the new version's invocations meet a cause, and its consequences."""
    stream = Stream(seed).background().happen(CAUSES[cause], {NEW: 0.01})
    if cascade:
        other = CASCADES.get(cause)
        text = CAUSES.get(other or "", "Error: The client disconnected" if other else WRAPPER)
        stream.happen(text, {NEW: 0.015})
        stream.happen(WRAPPER, {NEW: 0.02})
    return stream.counts()


AROUND: Final = Surroundings(old=OLD, new=NEW, deployed_at=float(START))


def test_the_cause_of_simulated_incidents_is_named() -> None:
    """In 28 incidents (14 causes, cascades on and off) the top cause is right in at least 24; each is called new."""
    wrong = []
    for number, cause in enumerate(CAUSES):
        for cascade in (False, True):
            found = diagnose(incident(cause, number, cascade=cascade), AROUND, CATALOGUE, CLASSIFIER)
            if found.cause != cause or not found.is_new:
                wrong.append((cause, cascade, found.cause, found.confidence))
    assert len(wrong) <= 4, wrong


def test_calm_streams_raise_no_alarm() -> None:
    """In 28 streams with the background alone nothing is called new and nothing is blamed."""
    for seed in range(28):
        found = diagnose(Stream(seed).background().counts(), AROUND, CATALOGUE, CLASSIFIER)
        assert (found.scenario, found.cause, found.is_new) == (Scenario.NO_ACTION, UNKNOWN, False), (seed, found)
        assert found.rollback is RollbackAdvice.NOT_NEEDED


def answered_without_a_word(number: int) -> EventCounts:
    """Return a cut-over in which so many answers of the new version were 503, and nothing was logged."""
    template = Template(
        TemplateKey("", "HTTP 503 without a logged error"),
        Origin.OUTCOME,
        "HTTP 503 without a logged error",
        {NEW: Seen(number, number)},
        {(NEW, START // 60): number},
        first_seen=float(START),
        status=503,
    )
    by_version = {OLD: InvocationCounts(5704), NEW: InvocationCounts(137, number)}
    return EventCounts(by_version=by_version, templates=(template,), first_at=START - 300.0, last_at=START + 3.0)


def test_a_critical_service_that_is_down_explains_answers_without_a_word() -> None:
    """However many there are: the looks at /health are among them. Where it may degrade it explains nothing."""
    text, down = "database is down (critical)", Clue("db_unreachable", 4.0, "", "health", service="database")
    for number in (1, 4, 60):
        clue = replace(down, text=text, explains_silence=True)
        found = diagnose(answered_without_a_word(number), replace(AROUND, clues=(clue,)), CATALOGUE, CLASSIFIER)
        assert (found.scenario, found.cause) == (Scenario.HEALTH_CHECK, "db_unreachable"), number
        assert found.evidence[0].text == text
    alone = diagnose(answered_without_a_word(60), replace(AROUND, clues=(down,)), CATALOGUE, CLASSIFIER)
    assert (alone.scenario, alone.cause) == (Scenario.RUNTIME_ERRORS, UNKNOWN)
