"""Build the incident from the journal's events; pure, and the only author of timelines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.decoding import Undecodable, decode_values
from backout.model.guard.probes import NOT_PROVED
from backout.model.guard.verdict import Cause, Decision, Verdict, Verification
from backout.model.incident.diagnosis import Diagnosis
from backout.model.incident.incident import Incident, TimelineEntry
from backout.model.plan import PlanKind
from backout.report.guard.acceptances import make_accepted_entry
from backout.report.verified import describe_verified

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from backout.model.guard.shift import Acceptance
    from backout.model.incident.incident import Event, Run
    from backout.model.plan import Json, Step


def tell(
    runs: Sequence[Run], events: Iterable[Event], *, held: str = "", accepted: Sequence[Acceptance] = ()
) -> Incident:
    """Return the incident that these runs are about; they are in the order in which they led to one another.

    Args:
        runs: the watch (if any) and the rollback (if any).
        held: why nothing was done, when nothing was.
        accepted: what a person accepted as intended, oldest first; only what is about these runs or their version is
            told.
    """
    told = _Teller(runs)
    for event in events:
        told.hear(event)
    return told.incident(held, accepted)


_TITLES = {
    Cause.ERRORS: "errors",
    Cause.LATENCY: "slow responses",
    Cause.HEALTH: "failed health checks",
    Cause.CONNECTIONS: "no database connections left",
    Cause.ANSWERS: "other answers than before",
}


_ASKED = {
    "pause": "A person asked the run to pause",
    "resume": "A person had the run go on",
    "approve": "A person approved the plan",
    "break-glass": "A person broke the glass: the plan went on WITHOUT THE APPROVAL that it needs",
}
"""What people ask of a run that a report tells."""
_REPAIRS = frozenset(
    (
        *("db_rescue", "db_undo_rescue", "db_exchange", "db_branch_rescue", "db_branch_finalize"),
        *("restore_objects", "undo_objects"),
    )
)
"""The steps that bring data back."""
_COMPARISONS = frozenset(("db_rescue_check", "db_compare", "db_read_back", "db_branch_compare", "compare_objects"))
"""The steps that show whether it is as it was meant to be."""


class _Teller:
    """Collects facts from the events; every fact comes from an event or from the frozen plan."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = {run.id: run for run in runs}
        self._last = runs[-1]
        self._entries: list[TimelineEntry] = []
        self._people: dict[str, None] = {}
        self._decision: Decision | None = None
        self._verification: Verification | None = None
        self._facts: dict[str, float] = {}
        self._bad = self._good = self._downgraded = self._secrets = ""
        self._forward = False
        self._verdict_told: Json = None
        self._diagnosis: Diagnosis | None = None
        self._repairs: list[str] = []
        self._actor = ""
        for run in runs:
            self._from_plan(run)

    def _from_plan(self, run: Run) -> None:
        for step in run.plan.steps:
            if step.action == "watch":
                self._bad = str(step.args["version"])
                self._tell_deployment(step, "deployed_at", self._bad)
            elif step.action == "activate" and _get_number(step.args.get("hop", 1)) <= 1:
                self._bad = str(step.args["leaving"])
                self._tell_deployment(step, "leaving_since", self._bad)
                if step.args.get("detected_at") is not None:
                    self._facts.setdefault("detected", _get_number(step.args["detected_at"]))
            elif step.action == "deploy":
                self._bad, self._forward = str(step.args["leaving"]), True
                self._tell_deployment(step, "leaving_since", self._bad)

    def _tell_deployment(self, step: Step, name: str, version: str) -> None:
        if "opened" not in self._facts:
            self._facts["opened"] = _get_number(step.args[name])
            self._add(self._facts["opened"], f"Deployment initiated: version {version} went live")

    def _add(self, at: float, text: str) -> None:
        self._entries.append(TimelineEntry(at, text, self._actor))

    def hear(self, event: Event) -> None:
        """Take one event into account."""
        if event.run not in self._runs:
            return
        self._actor = event.actor
        if event.actor:
            self._people.setdefault(event.actor)
        step = self._runs[event.run].plan.steps[event.step] if event.step is not None else None
        if event.kind == "run.submitted":
            self._tell_submitted(event)
        elif event.kind == "step.start" and _get_number(event.data.get("attempt", 1)) > 1 and step is not None:
            self._add(event.at, f"Resumed after an interruption: {step.title}")
        elif event.kind == "step.progress" and step is not None and step.action == "watch":
            self._verdict(event)
        elif event.kind == "step.progress" and event.data.get("diagnosis") is not None:
            self._take_diagnosis(event)
        elif event.kind == "step.ok" and step is not None:
            self._step_done(event, step)
        elif event.kind == "run.asked" and event.data.get("what") in _ASKED:
            self._add(event.at, f"{_ASKED[str(event.data['what'])]}: {event.data.get('reason') or 'no reason given'}")
        elif event.kind in ("step.failed", "run.failed", "run.aborted", "run.blocked"):
            what = event.data.get("error") or event.data.get("reason") or event.kind
            self._add(event.at, f"{event.kind.replace('.', ' ')}: {what}")

    def _tell_submitted(self, event: Event) -> None:
        plan = self._runs[event.run].plan
        if plan.kind is PlanKind.SECRETS:
            self._facts.setdefault("acted", event.at)
        if plan.kind in (PlanKind.RAMP, PlanKind.SECRETS):
            return  # told when the step is made
        if plan.kind is PlanKind.GUARD:
            self._add(event.at, f"Guard began to watch version {str(plan.step('watch').args['version'])[:8]}")
            return
        self._facts.setdefault("acted", event.at)
        if plan.kind is PlanKind.FORWARD:
            self._add(event.at, f"Roll-forward initiated: {plan.step('deploy').args['command']}")
        elif plan.kind is PlanKind.RECOVER:
            self._add(event.at, f"Recovery initiated: {plan.why}")
        else:
            target = plan.step("activate").args.get("version")
            self._add(event.at, f"Rollback initiated to version {str(target)[:8]}")

    def _verdict(self, event: Event) -> None:
        verdict, reason = event.data.get("verdict"), event.data.get("reason")
        downgraded = str(event.data.get("downgraded") or "")
        if downgraded and downgraded != self._downgraded:
            self._add(event.at, f"Nothing is done automatically on the counts: {downgraded}")
        self._downgraded = downgraded
        if verdict == self._verdict_told:
            return
        self._verdict_told = verdict
        if verdict == "regressed":
            self._facts.setdefault("detected", event.at)
            self._add(event.at, f"Issue detected: {reason}")
        elif verdict == "healthy":
            self._add(event.at, f"Verdict healthy: {reason}")

    def _take_diagnosis(self, event: Event) -> None:
        """Take the first diagnosis: it was made closest to the trouble."""
        if self._diagnosis is not None:
            return
        try:
            self._diagnosis = decode_values(event.data["diagnosis"], Diagnosis)
        except Undecodable:  # another backout wrote it: a report without a cause is better than none
            return
        if self._diagnosis.is_known:
            self._add(event.at, f"Cause: {self._diagnosis.title} ({self._diagnosis.cause})")

    def _step_done(self, event: Event, step: Step) -> None:
        result = event.data.get("result")
        if not isinstance(result, dict):
            return
        told = {
            "watch": self._tell_watched,
            "prove": self._tell_proofs,
            "verify": self._tell_verified,
            "verify_health": self._tell_verified,
            "settle": self._tell_settled,
        }
        if step.action in told:
            told[step.action](event, result)
        elif step.action == "activate":
            self._good = str(result["version"])
            self._add(event.at, f"Version {self._good[:8]} activated (deployment {result['deployment']})")
        elif step.action in ("deploy", "read_new", "check_head"):
            self._went_forward(event, step, result)
        elif step.action in ("ramp", "read_back"):
            self._add(event.at, _describe_live(step, result, self._good))
        elif step.action in ("push_secrets", *_SAID):
            said = self._describe_push if step.action == "push_secrets" else _SAID[step.action]
            self._add(event.at, said(result))
        elif step.action in _REPAIRS | _COMPARISONS:
            self._tell_repair(event, step, result)

    def _tell_repair(self, event: Event, step: Step, result: Mapping[str, Json]) -> None:
        if step.action in _REPAIRS:
            self._repairs.append(step.title)
        word = "Done" if step.action in _REPAIRS else "Compared"
        self._add(event.at, f"{word}: {step.title}{_describe_comparison(result)}")

    def _tell_verified(self, event: Event, result: Mapping[str, Json]) -> None:
        self._verification = decode_values(result, Verification)
        done = self._verification.verified
        outcome = "Service restored" if done else describe_verified(done)
        self._add(event.at, f"{outcome}: {self._verification.summary}")

    def _tell_settled(self, event: Event, result: Mapping[str, Json]) -> None:
        if result.get("why"):
            self._add(event.at, str(result["why"]))

    def _tell_watched(self, event: Event, result: Mapping[str, Json]) -> None:
        self._decision = decode_values(result["decision"], Decision)
        if self._decision.verdict in (Verdict.INCONCLUSIVE, Verdict.UNMEASURED) and not result.get("moved"):
            self._add(event.at, f"The watch ended {self._decision.verdict}: {self._decision.reason}")

    def _went_forward(self, event: Event, step: Step, result: Mapping[str, Json]) -> None:
        said = "The deploy command ended well"
        if step.action == "read_new":
            self._good = str(result["version"])
            said = f"Read back from the provider: version {self._good[:8]} is live"
        elif step.action == "check_head":
            said = f"Read back from the database: the migration head is {result['head'] or 'none'}"
        self._add(event.at, said)

    def _tell_proofs(self, event: Event, result: Mapping[str, Json]) -> None:
        tried = result.get("tried")
        for entry in tried if isinstance(tried, list) else ():
            if isinstance(entry, dict):
                word = "NOT proved" if entry.get("ok") is None else "NOT taken"
                word = "proved at 0 % of the traffic" if entry.get("ok") is True else word
                self._add(
                    event.at,
                    f"Version {str(entry['version'])[:8]} {word}: {str(entry['why']).removeprefix(NOT_PROVED)}",
                )
        if result.get("carried_from"):
            self._add(event.at, f"Version {str(result['carried_from'])[:8]} uploaded again as {result['version']}")

    def _describe_push(self, result: Mapping[str, Json]) -> str:
        if result.get("problem"):
            return f"Secrets NOT set: {result['problem']}"
        secrets = result["secrets"]
        self._secrets = ", ".join(secrets) if isinstance(secrets, dict) else ""
        apart = ", the live code uploaded again" if result.get("way") == "apart" else ""
        version = str(result["version"])[:8]
        return f"Secrets set: {self._secrets} (version {version}{apart}; deployment {result['deployment']})"

    def _of_this(self, accepted: Sequence[Acceptance]) -> tuple[Acceptance, ...]:
        """Return what was accepted of these runs or of their version, and tell it in the timeline."""
        found = tuple(each for each in accepted if each.run in self._runs or each.version == self._bad)
        self._entries += [make_accepted_entry(each) for each in found]
        self._people.update(dict.fromkeys(each.by for each in found if each.by))
        return found

    def incident(self, held: str, accepted: Sequence[Acceptance]) -> Incident:
        """Return what was told so far."""
        intended = self._of_this(accepted)
        verification = self._verification
        restored = verification.ended_at if verification is not None and verification.verified else None
        return Incident(
            id=self._last.id,
            environment=self._last.environment,
            title=self._title(),
            opened_at=self._facts.get("opened", self._last.started_at),
            detected_at=self._facts.get("detected"),
            acted_at=self._facts.get("acted"),
            resolved_at=restored,
            bad_version=self._bad,
            good_version=self._good,
            decision=self._decision,
            verification=verification,
            timeline=tuple(sorted(self._entries, key=lambda entry: entry.at)),
            people=tuple(self._people),
            diagnosis=self._diagnosis,
            secrets=self._secrets,
            forward=self._forward,
            accepted=intended,
            repairs=tuple(self._repairs),
            notes=(*self._last.plan.notes, *self._describe_coverage(), *((f"not acted on: {held}",) if held else ())),
        )

    def _describe_coverage(self) -> tuple[str, ...]:
        """Say whether the things beside the code changed with it."""
        return tuple(f"{line.fate}: {line.what}: {line.why}" for line in self._last.plan.coverage)

    def _title(self) -> str:
        if self._decision is not None and self._decision.cause in _TITLES:
            return f"{_TITLES[self._decision.cause]} after the deployment of {self._bad[:8]}"
        if self._last.plan.kind is PlanKind.RECOVER and not self._bad:
            return f"recovery: {self._last.plan.why}"
        if self._secrets:
            return f"secrets set: {self._secrets}"
        return f"roll{'-forward' if self._forward else 'back'} from version {self._bad[:8]}"


def _describe_comparison(result: Mapping[str, Json]) -> str:
    objects = result.get("compared")
    if isinstance(objects, dict):
        return "" if objects.get("verified") is True else " (NOT as it was meant to be)"
    return " (NOT as it was meant to be)" if any(result.get(name) for name in ("failed", "differs", "left")) else ""


def _describe_live(step: Step, result: Mapping[str, Json], good: str) -> str:
    if step.action == "read_back":
        return f"Read back from the provider: version {good[:8]} is live at 100 %"
    version, percentage = str(step.args["version"])[:8], _get_number(result["percentage"])
    return f"Version {version} moved up to {percentage:g} % (deployment {result['deployment']})"


def _describe_schedules(result: dict[str, Json]) -> str:
    schedules = result["schedules"]
    if not result["restored"] or not isinstance(schedules, list):
        return f"Schedules not restored: {result.get('why')}"
    return f"Schedules restored: {', '.join(map(str, schedules)) or 'none'}"


def _describe_mark(result: dict[str, Json]) -> str:
    return f"Version {str(result['version'])[:8]} marked {result['mark']}"


def _describe_stopped_jobs(result: dict[str, Json]) -> str:
    versions = result["versions"]
    if not isinstance(versions, list) or not versions:
        return "No job workers of another version ran"
    whose = " and ".join(str(each)[:8] for each in versions)
    return f"Job workers of version {whose} ended; {_get_number(result['in_flight']):g} jobs were in flight"


def _describe_started_jobs(result: dict[str, Json]) -> str:
    hosts = result["hosts"]
    where = f" on {', '.join(map(str, hosts))}" if isinstance(hosts, list) and hosts else ""
    return f"Job workers of version {str(result['version'])[:8]} run{where}"


_SAID = {
    "restore_schedules": _describe_schedules,
    "mark": _describe_mark,
    "stop_jobs": _describe_stopped_jobs,
    "start_jobs": _describe_started_jobs,
}


def _get_number(value: Json) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
