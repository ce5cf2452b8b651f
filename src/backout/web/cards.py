"""One environment at a glance: what needs a person, and how it is, in words and how they are marked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.decoding import Undecodable, parse_moment
from backout.model.incident.incident import RunState
from backout.web.sentences import format_minute, name_run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.plan import Json
    from backout.runbook.serve.overviews import EnvironmentView

_URGENT, _UNREAD, _UNMEASURED, _OPEN = range(4)
WELL: Final = 4
"""The urgency of an environment in which nothing needs anybody."""


class Card:
    """One environment on the first page and at the head of its own.

    Attributes:
        urgency: 0 wrong, 1 not read, 2 not measured, 3 held, unfinished or an incident, 4 well.
        needs: what a person has to know, one sentence each; () where nothing needs one.
        is_being_read: what it shows is old, or nothing yet, because nobody looked; a worker reads it now.
    """

    def __init__(self, view: EnvironmentView, now: float) -> None:
        self.view, self.now = view, now
        self.name, self.protected, self.worker = view.name, view.protected, view.worker
        self.record: Mapping[str, Json] = view.status.record if view.status is not None else {}
        self.read_at = view.status.read_at if view.status is not None else None
        self.is_stale, self.is_being_read = view.is_stale(now), view.is_being_read(now)
        self.failed = str(self.record.get("message", "")) if "error" in self.record else ""
        self.urgency, self.needs = self._judge()

    def _judge(self) -> tuple[int, tuple[str, ...]]:
        view, record = self.view, self.record
        if view.status is None:
            again = "its worker is asked to read it" if view.worker else "no worker has read it yet"
            if self.is_being_read:
                again = "it is being read for the first time"
            return _UNREAD, (f"{again}: what is live is not known here", *self._list_open())
        if self.failed:
            return _UNREAD, (f"the worker cannot read it: {self.failed}",)
        wrong = [*list_texts(record.get("troubles"))]
        if record.get("closed"):
            wrong.insert(0, "the application is closed for a recovery")
        unmeasured = [*list_texts(record.get("unmeasured"))]
        open_ = [f"held: {self.hold}"] if self.hold else []
        open_ += self._list_open()
        stale = self._tell_age()
        if stale:  # what the last reading said is not how it is now: a rollback may have mended it since
            wrong, unmeasured = ([f"when it was read last: {each}" for each in found] for found in (wrong, unmeasured))
        needs = (*stale, *wrong, *unmeasured, *open_)
        if wrong and not self.is_being_read:
            return _URGENT, needs
        if stale:
            return _UNREAD, needs
        return (_UNMEASURED if unmeasured else _OPEN if open_ else WELL), needs

    def _list_open(self) -> list[str]:
        """Return what the journal alone tells: an open incident, and a run that stands still."""
        found = ["an incident is open"] if self.view.incident is not None else []
        if self.view.run is not None and self.halted:
            found.append(f"{name_run(self.view.run)}: {self.view.run.state}")
        return found

    def _tell_age(self) -> list[str]:
        """Return that what is shown is old, and what is done about it; nothing where it is not old."""
        if self.is_being_read:
            return ["nobody looked for a while: what is shown is old, and is being read anew"]
        again = "its worker is asked to read it again" if self.worker else "no worker has read it since"
        return [f"what is shown is old: {again}"] if self.is_stale else []

    @property
    def halted(self) -> bool:
        """Whether its newest run waits for a person."""
        run = self.view.run
        return run is not None and run.state in (RunState.WAITING, RunState.BLOCKED, RunState.PAUSED)

    @property
    def hold(self) -> str:
        """Why it is held, and until when, "" where it is not."""
        return describe_hold(self.record)

    @property
    def is_wrong(self) -> bool:
        """Whether something is wrong there, or was and is not over: going back may be called for."""
        return self.urgency == _URGENT or self.view.incident is not None

    @property
    def tone(self) -> str:
        """How it is marked, beside its word."""
        if self.urgency == _UNREAD and self.is_being_read and not self.failed:
            return "note"
        if self.urgency == _OPEN and self.halted:
            return "warn"
        return ("bad", "warn", "warn", "note", "good")[self.urgency]

    @property
    def word(self) -> str:
        """How it is, in a word or two."""
        if self.urgency == _OPEN:
            return "needs you" if self.halted else "held" if self.hold else "an incident is open"
        if self.urgency == _UNREAD and self.is_being_read and not self.failed:
            return "being read"
        return {_URGENT: "needs you", _UNREAD: "not known", _UNMEASURED: "not measured"}.get(self.urgency, "well")

    @property
    def live(self) -> str:
        """The live version, "" where it is not known or not the same everywhere."""
        return str(self.record.get("live_version") or "")

    @property
    def mark(self) -> tuple[str, str]:
        """The mark of the live version, (tone, word)."""
        if self.record.get("quarantined"):
            return self._dim("bad", "quarantined")
        return self._dim("good", "stable") if self.record.get("stable") else ("dim", "not marked yet")

    @property
    def health(self) -> tuple[str, str]:
        """The health endpoint, (tone, word)."""
        health = get_table(self.record.get("health"))
        if not health:
            return "dim", "not set up" if self.record.get("health", 0) is None else "not known"
        services = get_table(health.get("services"))
        down = [name for name, each in services.items() if get_table(each).get("state") == "down"]
        if down:
            return self._dim("bad", f"{', '.join(down)} down")
        reach, overall = str(health.get("reach") or ""), str(health.get("overall") or "")
        is_well = reach == "answered" and overall in ("", "ok", "None")
        return self._dim("good", "ok") if is_well else self._dim("warn", overall or reach)

    @property
    def failed_share(self) -> tuple[str, str]:
        """The share of failed requests of the last minutes, (tone, words)."""
        traffic = get_table(self.record.get("traffic"))
        rate, requests = traffic.get("error_rate"), traffic.get("requests")
        if not traffic or traffic.get("problem"):
            return "warn" if traffic else "dim", "not measured" if traffic else "not set up"
        if requests is not None and not isinstance(requests, int):
            return "dim", "not measured"
        if requests is None or not isinstance(rate, int | float):
            return "dim", "no request"
        is_bad = any("requests failed" in each for each in list_texts(self.record.get("troubles")))
        return self._dim("bad" if is_bad else "good", f"{100 * rate:.2g} % of {requests:,}")

    def _dim(self, tone: str, words: str) -> tuple[str, str]:
        """Return a mark and its words; what is old is marked as neither good nor bad."""
        return ("dim" if self.is_stale else tone), words

    @property
    def drill(self) -> Mapping[str, Json]:
        """The newest drill that passed: `name`, `passed_at`; empty for none."""
        return get_table(self.record.get("drill"))


def describe_hold(record: Mapping[str, Json]) -> str:
    """Return why an environment is held, and until when, from its status; "" where it is not."""
    hold = get_table(record.get("hold"))
    why, until = str(hold.get("why") or ""), hold.get("until")
    if not why:
        return ""
    why = _name_asker_only(why)
    try:
        at = parse_moment(str(until)) if until else None
    except Undecodable:
        return why
    return f"{why}, until " + ("somebody lifts it" if at is None else format_minute(at))


def _name_asker_only(why: str) -> str:
    """Return the reason of what a worker did for somebody without the number of the request, see `name_asker`.

    >>> _name_asker_only("data (asked for by eve, request 75)"), _name_asker_only("data (asked for)")
    ('data (eve)', 'data (asked for)')
    """
    before, _, asked = why.rpartition(" (asked for by ")
    who, _, number = asked.rpartition(", request ")
    return f"{before} ({who})" if who and number.endswith(")") and number[:-1].isdecimal() else why


def list_texts(value: object) -> list[str]:
    """Return the texts of a JSON value that ought to be a list of them, none where it is not."""
    return [str(each) for each in value] if isinstance(value, list) else []


def get_table(value: object) -> Mapping[str, Json]:
    """Return a JSON value that ought to be an object, an empty one where it is not."""
    return value if isinstance(value, dict) else {}
