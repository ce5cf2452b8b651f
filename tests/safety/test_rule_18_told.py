"""Rule 18, somebody is told: every end that a person should hear of arrives, with facts, and delays nothing."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from cli_shell import Stream, make_shell
from values import replace

from backout.cli.guard.live import Live
from backout.cli.support.session import Session
from backout.errors import AuthError, Busy, Interrupted, ProviderUnavailable, Refused, UsageError, WorldMoved
from backout.journal.stop import StopRequest
from backout.model.guard.policy import Mode, OnUnmeasured
from backout.model.hold import Hold
from backout.model.incident.incident import RunState
from backout.model.incident.notice import Delivery, NoticeKind
from backout.model.plan import PlanKind
from backout.plan.rollback import Request
from backout.providers.clock import SystemClock
from backout.providers.files.holds import FileHolds
from backout.providers.memory import make_steady, quiet
from backout.providers.notify.channel import Route
from backout.providers.notify.dispatcher import Dispatcher
from backout.providers.notify.outbox import Outbox
from backout.runbook.rollback.rollback import prepare
from backout.twin.home import CLOUDFLARE

from line import POLICY, Story, by_version, equip, roll_back, watch
from polling import PATIENCE_S, until
from private import write_private
from receivers import SECRET, mailbox, verified_now
from scripted_server import answer, hang, refused_url, scripted_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backout.model.incident.notice import Notice

    from drillbook import Drillbook, Trial
    from receivers import Mailbox
    from scripted_server import ScriptedServer


@pytest.fixture
def story(quick_path: Path) -> Story:
    return Story(quick_path / "journal.sqlite")


def only(story: Story) -> Notice:
    """Return the one notice that was told."""
    (notice,) = story.world.notices
    return notice


# --- what is told, on the World -------------------------------------------------------------------------------------


def test_rule_18_told(story: Story) -> None:
    """A rollback of guard is told once: why, what is live as read back, numbers, the report, what to type next."""
    run = watch(story.tools())
    notice = only(story)
    assert notice.kind is NoticeKind.ROLLED_BACK
    assert notice.environment == "production"
    assert notice.run == run.id
    assert story.good.id[:8] in notice.title
    assert "verified" in notice.title
    decision = story.tools().runs.result(run.plan.cause, "watch")["decision"]  # type: ignore[index,call-overload]
    for told in (
        story.bad.id,
        story.good.id,
        decision["reason"],
        "requests failed",
        "Live, as read back at",
        "Report:",
    ):
        assert told in notice.text, told
    live = story.tools().deployments.history()[0]
    facts = {
        "outcome": "verified",
        "from_version": story.bad.id,
        "to_version": story.good.id,
        "live_version": live.main,
        "deployment_id": live.id,
        "guard_run_id": run.plan.cause,
        "asked_by": "guard",
        "verdict": "regressed",
        "errors": str(decision["errors"]),
        "requests": str(decision["requests"]),
    }
    assert facts.items() <= notice.facts.items()
    assert notice.next == ("backout status -e production",)


@pytest.mark.parametrize("wait", [True, False])
def test_rule_18_told_of_a_persons_rollback(story: Story, wait: bool) -> None:
    """With who asked for it and why; without waiting, it says that nothing was proven."""
    roll_back(story.tools(), Request(message="orders fail", wait=wait))
    notice = only(story)
    assert notice.kind is NoticeKind.ROLLED_BACK
    assert "ops@host asked for it: orders fail." in notice.text
    assert notice.facts["asked_by"] == "ops@host"
    assert notice.facts["outcome"] == ("verified" if wait else "not verified (not waited for)")
    assert notice.facts["live_version"] == story.good.id


def test_rule_18_told_before_a_long_verification_ends(story: Story) -> None:
    """With few requests the proof takes minutes: the rollback is told at once, how it ended afterwards."""
    story.world.traffic_rule = make_steady(1)
    story.world.log_rule = lambda _since, _until: ()
    roll_back(story.tools(), Request(message="orders fail"))
    first, second = story.world.notices
    assert (first.kind, second.kind) == (NoticeKind.ROLLED_BACK, NoticeKind.ROLLED_BACK)
    assert first.title.endswith("being verified")
    assert first.facts["live_version"] == story.good.id
    assert second.at > first.at
    assert "being verified" not in second.title
    assert first.key != second.key


def test_rule_18_told_when_it_is_not_restored(story: Story) -> None:
    """The target fails too: the title says so, the text which criterion failed, and the first command looks on."""
    story.world.traffic_rule = make_steady(30, error_rate=0.3)
    roll_back(story.tools())
    notice = story.world.notices[-1]
    assert notice.kind is NoticeKind.NOT_RESTORED
    assert notice.title.endswith("verification failed")
    assert "error rate" in notice.text.lower()
    assert "failed" in notice.text
    assert notice.next == ("backout status -e production", "backout rollback --dry-run -e production")


def test_rule_18_told_when_nothing_can_be_proven(story: Story) -> None:
    """No traffic, so no proof: that is neither good nor bad, and the title says it."""
    tools = replace(story.tools(), traffic=None, health=None)
    roll_back(tools)
    notice = only(story)
    assert notice.kind is NoticeKind.ROLLED_BACK
    assert "verification inconclusive" in notice.title


def test_rule_18_told_what_guard_would_do(story: Story) -> None:
    """Mode observe: which version it would return to, and how."""
    watch(story.tools(), mode=Mode.OBSERVE)
    notice = only(story)
    assert notice.kind is NoticeKind.WOULD_ROLL_BACK
    assert f"It would be rolled back to version {story.good.id}." in notice.text
    assert notice.facts["target_version"] == story.good.id
    assert notice.facts["live_version"] == story.bad.id
    assert notice.next[0] == "backout rollback --dry-run -e production"


def test_rule_18_told_of_a_refusal(story: Story) -> None:
    """A migration since the target was live: the rule, and every legal way on."""
    story.world.migrate("20270115090000_drop_orders")
    watch(story.tools())
    notice = only(story)
    assert notice.kind is NoticeKind.REFUSED
    assert notice.facts["rule"] == "4 schema"
    assert "Safety rule: 4 schema." in notice.text
    assert "20270115090000_drop_orders" in notice.text
    assert "roll forward" in notice.text
    assert "--force=schema" in notice.facts["options"]
    assert story.world.activations == []


def test_rule_18_told_when_a_hold_is_on(story: Story, tmp_path: Path) -> None:
    """Regressed, and a person has stopped guard: who, and what would be done."""
    holds, now = FileHolds(tmp_path), story.world.clock.now()
    holds.write("production", Hold(now + 3600, "a release party", "ann@desk", now, "this host"))
    watch(equip(story.tools(), holds=holds))
    notice = only(story)
    assert notice.kind is NoticeKind.HELD
    assert notice.facts["rule"] == "10 hold"
    assert "a release party" in notice.text
    assert story.good.id in notice.text


def test_rule_18_told_when_guard_acted_already(story: Story) -> None:
    """The second bad deployment within the time of rule 9 waits for a person, who is told."""
    watch(story.tools())
    story.world.clock.sleep(60)
    again = story.world.upload("worse")
    story.world.traffic_rule = by_version(again.id)
    story.world.deploy(again)
    story.world.clock.sleep(2)
    watch(story.tools())
    kinds = [notice.kind for notice in story.world.notices]
    assert kinds == [NoticeKind.ROLLED_BACK, NoticeKind.HELD]
    assert story.world.notices[-1].facts["rule"] == "9 once"


@pytest.mark.parametrize("accept", [False, True])
def test_rule_18_told_when_nobody_knows(quick_path: Path, accept: bool) -> None:
    """An inconclusive watch is never silent, not even where the policy accepts it."""
    choice = OnUnmeasured.ACCEPT if accept else OnUnmeasured.HOLD
    policy = replace(POLICY, guard=replace(POLICY.guard, on_unmeasured=choice))
    story = Story(quick_path / "journal.sqlite", policy=policy)
    story.world.traffic_rule = quiet
    watch(replace(story.tools(), health=None))
    notice = only(story)
    assert notice.kind is NoticeKind.INCONCLUSIVE
    assert notice.facts["verdict"] in ("inconclusive", "unmeasured")
    assert "it is not known" in notice.title
    assert ("accepts that (guard.on_unmeasured = 'accept')" in notice.text) is accept


def test_rule_18_not_told_when_all_is_well(story: Story) -> None:
    """The watch that marked the good version stable told nobody."""
    ended = story.tools().runs.runs("production")[-1]
    assert story.tools().runs.result(ended.id, "conclude")["action"] == "stable"  # type: ignore[index,call-overload]
    assert story.world.notices == []


def test_rule_18_told_once_whatever_crashes(quick_path: Path) -> None:
    """A crash right after telling: the step is done again, and the notice is the same one."""
    story = Story(quick_path / "journal.sqlite")

    class Crash(BaseException):
        pass

    def crash(name: str) -> None:
        if name == "notifier.tell":
            raise Crash

    for hook in ("before_call", "after_call"):
        setattr(story.world, hook, crash)
        with pytest.raises(Crash):
            watch(story.tools())
        setattr(story.world, hook, None)
    watch(story.tools())
    assert [notice.kind for notice in story.world.notices] == [NoticeKind.ROLLED_BACK]


# --- runs that end with an error ------------------------------------------------------------------------------------


def session(story: Story, folder: Path) -> Session:
    shell = make_shell(folder)
    return Session(shell, story.tools(), StopRequest(lambda: None), Live(shell.output, "rollback"))


def test_rule_18_told_when_a_run_stops(story: Story, tmp_path: Path) -> None:
    """A rollback that the provider broke off: partly done, what is live is not guessed, and how to go on."""
    bench_ = session(story, tmp_path)
    _, plan = prepare(bench_.tools, Request(message="it fails"))
    run = bench_.submit(plan, "it fails")  # type: ignore[arg-type]

    def fail(name: str) -> None:
        if name.startswith("deployments."):
            raise ProviderUnavailable("the API does not answer", where="memory")

    story.world.before_call = fail
    with pytest.raises(Exception, match="does not answer"):
        bench_.drive(run)
    story.world.before_call = None
    notice = only(story)
    assert notice.kind is NoticeKind.FAILED
    assert notice.run == run
    assert notice.facts["error"] == "ProviderUnavailable"
    assert run in notice.title
    assert "does not answer" in notice.text
    assert "could not be read back" in notice.text
    assert "live_version" not in notice.facts
    ended = bench_.drive(run)
    assert ended.state is RunState.DONE
    assert [each.kind for each in story.world.notices] == [NoticeKind.FAILED, NoticeKind.ROLLED_BACK]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (WorldMoved("another deployment is live"), NoticeKind.FAILED),
        (Refused("not this one", rule="1 identity", options=("look",)), NoticeKind.REFUSED),
        (AuthError("the token is refused"), NoticeKind.TOKEN_LOST),
        (KeyError("a mistake of ours"), NoticeKind.FAILED),
        (Busy("somebody else keeps it"), None),
        (Interrupted("stopped on request"), None),
        (UsageError("no such run"), None),
    ],
)
def test_rule_18_told_of_errors_that_somebody_should_hear_of(
    story: Story, tmp_path: Path, error: Exception, kind: NoticeKind | None
) -> None:
    """Not of what the person at the terminal did; before a watch, too: then nobody guards the deployment."""
    with pytest.raises(type(error)), session(story, tmp_path).telling():
        raise error
    assert [notice.kind for notice in story.world.notices] == ([kind] if kind else [])
    for notice in story.world.notices:
        assert "guard cannot begin" in notice.title


# --- telling never stops what it tells of ---------------------------------------------------------------------------


@dataclass
class Trap:
    """A channel that hangs until the test lets it go."""

    free: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)

    def send(self, _notice: Notice, _now: float) -> None:
        self.entered.set()
        assert self.free.wait(PATIENCE_S)


def test_rule_18_a_hanging_channel_delays_no_rollback(story: Story, tmp_path: Path) -> None:
    """The rollback is done, verified and reported while the channel still hangs."""
    trap = Trap()
    dispatcher = Dispatcher([Route("webhook", lambda: trap)], Outbox(tmp_path / "o.sqlite"), SystemClock())
    tools = replace(story.tools(), notifier=dispatcher)
    try:
        run = watch(tools)
        assert run.state is RunState.DONE
        assert run.plan.kind is PlanKind.ROLLBACK
        assert story.world.live.sole == story.good.id
        assert trap.entered.wait(PATIENCE_S)
        assert dispatcher.flush(0.01).waiting == 1
    finally:
        trap.free.set()
    assert dispatcher.flush(10).delivered == 1


@pytest.mark.parametrize(("problem", "said"), [("", "not sent yet: 2 wait"), ("slack: no", "not sent: slack: no")])
def test_rule_18_what_was_not_told_is_said_once(tmp_path: Path, problem: str, said: str) -> None:
    """At the end of a command, also when a channel only keeps silent."""

    class Silent:
        """A notifier whose channels do not answer."""

        def tell(self, notice: Notice) -> None:
            """Take it."""

        def flush(self, within_s: float) -> Delivery:
            """Wait in vain."""
            assert within_s > 0
            return Delivery(delivered=0, waiting=2, given_up=0, problems=(problem,) if problem else ())

    shell = make_shell(tmp_path)
    shell.notifier = Silent()
    shell.end()
    stderr = shell.output.stderr
    assert isinstance(stderr, Stream)
    assert stderr.getvalue().count("not sent") == 1
    assert said in stderr.getvalue()


def test_rule_18_a_text_that_cannot_be_made_stops_nothing(story: Story) -> None:
    """The bare fact is told instead."""
    tools = story.tools()

    class Forgetful:
        """Runs that fail when they are asked for the whole story."""

        def __getattr__(self, name: str) -> object:
            return getattr(tools.runs, name)

        def result(self, run: str, action: str) -> object:
            if action == "report":
                raise ValueError("nothing fits")
            return tools.runs.result(run, action)

    run = roll_back(replace(tools, runs=Forgetful()))  # type: ignore[arg-type]
    assert run.state is RunState.DONE
    notice = only(story)
    assert notice.kind is NoticeKind.ROLLED_BACK
    assert "ValueError" in notice.text


# --- the real program on the twin -----------------------------------------------------------------------------------


@dataclass
class Told:
    """A trial whose backout tells a webhook, a mailbox and Slack."""

    trial: Trial
    webhook: ScriptedServer
    slack: ScriptedServer
    mail: Mailbox

    def run(self, *args: str) -> tuple[int, str]:
        """Run the program; return its code and all that it wrote."""
        ended = self.trial.run(*args)
        return ended.code, ended.out + ended.err

    def bodies(self) -> list[dict[str, object]]:
        """Return what the webhook got; each request was signed just now."""
        assert all(verified_now(asked) for asked in self.webhook.asked)
        return [json.loads(asked.body) for asked in self.webhook.asked]

    def kinds(self) -> list[str]:
        """Return the types that arrived, the same message sent twice once."""
        ids = {asked.headers["webhook-id"]: json.loads(asked.body)["type"] for asked in self.webhook.asked}
        return list(ids.values())


@pytest.fixture
def told(drillbook: Drillbook) -> Iterator[Told]:
    with scripted_server() as webhook, scripted_server() as slack, mailbox() as mail:
        webhook.will(answer({}, 204))
        slack.will(answer(b"ok"))
        trial = drillbook.trial()
        trial.make_live(drillbook.good)
        yield Told(trial, webhook, slack, mail)


def bad_deployment(told: Told) -> Told:
    """Configure the channels, make the bad version live, and have a short watch."""
    trial = told.trial
    for name, text in {
        "webhook-url": f"{told.webhook.url}/in/canary-path",
        "webhook-secret": SECRET,
        "slack-url": f"{told.slack.url}/services/T0/B0/canary-slack",
    }.items():
        write_private(trial.folder / name, text)
    channels = f"""
[notify.webhook]
url_file = "webhook-url"
secret_file = "webhook-secret"
[notify.slack]
url_file = "slack-url"
[notify.smtp]
host = "127.0.0.1"
port = {told.mail.port}
security = "none"
from = "backout@example.com"
to = ["on-call@example.com"]
"""
    with trial.config.open("a", encoding="utf-8") as file:
        file.write(channels)
    trial.make_live(trial.book.bad)
    return told


@pytest.mark.both_homes
@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
def test_rule_18_told_by_the_real_program(drillbook: Drillbook, told: Told) -> None:
    """Guard rolls back a bad deployment: a signed webhook, a mail and a Slack message say so, with the facts."""
    trial = bad_deployment(told).trial
    ended = trial.run("guard", "--json")
    assert ended.code == 1, ended.err
    assert ended.json["verified"] is True
    (body,) = told.bodies()
    assert body["type"] == "backout.rolled_back"
    data = body["data"]
    assert isinstance(data, dict)
    expected = {
        "environment": "production",
        "run_id": ended.json["run_id"],
        "guard_run_id": ended.json["guard_run_id"],
        "from_version": drillbook.bad,
        "to_version": drillbook.good,
        "live_version": drillbook.good,
        "deployment_id": ended.json["deployment_id"],
        "outcome": "verified",
        "reason": ended.json["reason"],
        "report_path": ended.json["report_path"],
    }
    assert expected.items() <= data.items()
    (mail,) = told.mail.mails
    assert mail["Subject"] == f"[backout] {data['title']}"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert drillbook.good in mail.get_content()
    (asked,) = told.slack.asked
    assert drillbook.good in json.loads(asked.body)["blocks"][1]["text"]["text"]
    listed = trial.run("notify", "list", "--json")
    assert [n["state"] for n in listed.json["notices"]] == ["delivered"] * 3
    status = trial.run("status", "--json").json
    assert status["notices"] == {"delivered": 3, "waiting": 0, "given_up": 0, "problems": []}
    assert "notifications" not in status["not_set_up"]
    assert len(told.webhook.asked) == 1


@pytest.mark.long
@pytest.mark.calm
def test_rule_18_receivers_that_fail_cost_nothing_and_are_told_later(drillbook: Drillbook, told: Told) -> None:
    """One hangs, one is away, one refuses: the rollback is the same, each is named once, a later command delivers."""
    trial = bad_deployment(told).trial
    told.webhook.will(hang())
    write_private(trial.folder / "slack-url", refused_url())
    told.mail.refuse = {"DATA": "451 4.7.1 later"}
    rollback = ("rollback", "-m", "it fails", "--confirm", "production", "--no-wait", "--json")
    ended = trial.run(*rollback)
    assert ended.code == 0, ended.err
    assert ended.json["live_version"] == drillbook.good
    assert ended.err.count("not sent: slack") == 1
    assert ended.err.count("not sent: smtp") == 1
    assert trial.run("status", "--json").json["notices"]["waiting"] == 3
    told.webhook.will(answer({}))
    told.mail.refuse = {}
    write_private(trial.folder / "slack-url", f"{told.slack.url}/x")

    def all_arrived() -> bool:
        trial.run("status", "--json")
        return bool(
            told.mail.mails and told.slack.asked and trial.run("notify", "list", "--json").json["delivered"] == 3
        )

    until(all_arrived, 90, "the next commands deliver what was left", every_s=1)
    assert told.kinds() == ["backout.rolled_back"]
    assert len(told.mail.mails) == len(told.slack.asked) == 1


@pytest.mark.both_homes
@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
def test_rule_18_each_end_of_a_watch_is_told(drillbook: Drillbook, told: Told) -> None:
    """What guard would do, and what stops it: each in one run of the real program."""
    trial = bad_deployment(told).trial.replace((r'watch = "\d+s"', 'watch = "60s"'))
    assert trial.run("guard", "--observe", "--json").code == 1
    with drillbook.fault("service-down", "database"):
        refused = trial.run("guard", "--json")
        assert refused.code == 3, refused.err
    assert trial.run("hold", "-m", "stop", "--json").code == 0
    assert trial.run("guard", "--json").code == 3
    assert trial.run("unhold", "--json").code == 0
    assert trial.live() == drillbook.bad
    trial.replace(('warm_up = "1h"', 'warm_up = "1s"'))  # one second of response times tells nothing
    trial.make_live(drillbook.good)
    assert trial.run("guard", "--for", "2s", "--json").code == 7
    expected = ["would_roll_back", "refused", "hold_set", "held", "hold_set", "inconclusive"]
    assert told.kinds() == [f"backout.{kind}" for kind in expected]
    assert len(told.mail.mails) == len(expected)


@pytest.mark.calm
def test_rule_18_a_test_notice_through_every_channel(told: Told) -> None:
    """`backout notify test`: each channel with its result; exit 1 when one fails, 0 when all took it."""
    trial = bad_deployment(told).trial
    told.webhook.will(answer({}, 410))
    failed = trial.run("notify", "test", "--json")
    assert failed.code == 1
    assert {c["channel"]: c["ok"] for c in failed.json["channels"]} == {"webhook": False, "smtp": True, "slack": True}
    assert "410" in failed.json["channels"][0]["why"]
    told.webhook.will(answer({}))
    assert trial.run("notify", "test").code == 0
    assert told.kinds()[-1] == "backout.test"
    assert "canary" not in failed.out + failed.err


@pytest.mark.both_homes
@pytest.mark.long
@pytest.mark.calm
def test_rule_18_no_secret_leaves(drillbook: Drillbook, told: Told) -> None:
    """Secrets in a reason that a person typed, in an error's text, in URLs: none arrives, none is kept."""
    trial = bad_deployment(told).trial
    database = (drillbook.stage.directory / "database-url").read_text().strip()
    password = database.partition("@")[0].rpartition(":")[2]
    token = (drillbook.stage.directory / "twin" / "api-token").read_text().strip()
    token = token if drillbook.home == CLOUDFLARE else password  # a host has no token that backout could know
    why = f"it fails with {token} at {database}, Authorization: Bearer canary0123456789, password=canary-word"
    ended = trial.run("rollback", "-m", why, "--confirm", "production", "--no-wait")
    assert ended.code == 0, ended.err
    told.run("notify", "test")
    assert set(told.kinds()) == {"backout.rolled_back", "backout.test"}
    left = [asked.body.decode() for asked in (*told.webhook.asked, *told.slack.asked)]
    left += [mail.as_string() + mail.get_content() for mail in told.mail.mails]
    left += [file.read_bytes().decode("latin-1") for file in trial.folder.glob("journal.notices*")]
    for text in left:
        for secret in (token, password, "canary", SECRET):
            assert secret not in text
    assert any("***" in text for text in left)


@pytest.mark.long
@pytest.mark.calm
def test_rule_18_guard_says_that_nobody_will_be_told(drillbook: Drillbook, told: Told) -> None:
    """Without a channel, in mode act: before the watch, and in `config check`."""
    trial = told.trial.replace((r'watch = "\d+s"', 'watch = "2s"'))
    assert "no one will be told" in trial.run("guard", "--json").err
    assert "no one will be told" not in trial.run("guard", "--observe", "--json").err
    assert "no one will be told" in trial.run("config", "check").out
