"""Text that others wrote (messages, tags, errors of the application): no terminal, page or mail obeys it."""

from __future__ import annotations

import json
from email import message_from_bytes, policy
from typing import TYPE_CHECKING

import pytest
from cli_shell import Stream
from values import replace

from backout.cli.support.output import Output
from backout.cli.support.style import Style
from backout.escaping import make_printable
from backout.model.incident.notice import Notice, NoticeKind
from backout.providers.notify.slack import make_message
from backout.providers.notify.smtp import compose
from backout.providers.notify.webhook import make_payload
from backout.report.guard.summary import Ending, Word, format_markdown, format_outputs
from backout.report.redact import Redactor

if TYPE_CHECKING:
    from drillbook import Drillbook

HOSTILE = (
    "evil \x1b[32m\x1b[2J\x1b[8m\x1b]0;mine\x07 \x9b31m \u202egnp.exe `x` | <!channel> <@U1> **b** </details>\r\n"
    "::error::mine\nBcc: all@example.com\n\nresult=healthy\n# head\x00 $(id) "
)
LONG = HOSTILE * 100
OBEYED = {chr(code) for code in (*range(9), *range(11, 32), *range(127, 160))} | set("\u202a\u202b\u202c\u202d\u202e")


def notice(text: str) -> Notice:
    """Return a notice that says it everywhere."""
    return Notice(NoticeKind.FAILED, "production", 1e9, text, text, text, text, (text,), {"reason": text})


def test_a_terminal_shows_it_and_obeys_nothing() -> None:
    """Whatever way it takes, in colour or not; a table keeps one row for each of its rows."""
    for color in (False, True):
        out, err = Stream(terminal=True), Stream(terminal=True)
        output = Output(out, err, Redactor(), verbose=1, style=Style(color, True), talk=Style(color, True))
        output.text(HOSTILE)
        output.say(HOSTILE)
        output.detail(HOSTILE)
        output.warn(HOSTILE)
        output.complain(HOSTILE)
        output.prompt(HOSTILE)
        output.next(HOSTILE)
        output.text(output.table(("A", "B"), [(HOSTILE[:12], "a\nb")]))
        output.result("x", {}, HOSTILE)
        shown = out.getvalue() + err.getvalue()
        for own in ("\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[33m"):
            shown = shown.replace(own, "")
        assert not OBEYED & set(shown)
    assert len(Style().table(("A", "B"), [("a\nb", "c\r\nd")]).splitlines()) == 2


def test_json_on_a_terminal_obeys_nothing_and_says_the_same() -> None:
    """In a pipe it is as it is."""
    for terminal in (True, False):
        out = Stream(terminal=terminal)
        output = Output(out, Stream(terminal=True), Redactor(), json=True, style=Style(), talk=Style())
        output.result("x", {"why": f"{HOSTILE}\U000e0041"})
        assert json.loads(out.getvalue())["why"] == f"{HOSTILE}\U000e0041"
        obeyed = (OBEYED | {"\U000e0041"}) & set(out.getvalue())
        assert bool(obeyed) is not terminal


def test_colours_and_line_ends_are_left() -> None:
    """What we paint ourselves passes."""
    style = Style(color=True, unicode=True)
    assert style.plain(f"{style.paint('bad', 'x')}\n\tü") == "\x1b[31mx\x1b[0m\n\tü"
    assert style.plain("\x1b[31mx\x1b[0m") == "?[31mx?[0m", "those of others are shown"


def test_slack_sees_no_mention_and_keeps_its_limits() -> None:
    """Every text is escaped, and no longer than Slack takes."""
    sent = make_message(notice(LONG))
    blocks = sent["blocks"]
    assert isinstance(blocks, list)
    header, *marked = blocks
    assert header["text"]["type"] == "plain_text"
    text = json.dumps(marked) + str(sent["text"])
    assert "<!" not in text
    assert "<@" not in text
    assert len(str(sent["text"])) <= 4000
    assert len(header["text"]["text"]) <= 150
    sections = [part["text"] if "text" in part else part["elements"][0] for part in marked]
    assert all(len(section["text"]) <= 3000 for section in sections)


@pytest.mark.parametrize("text", [HOSTILE, LONG])
def test_a_mail_gets_no_header_from_it(text: str) -> None:
    """One subject on one line, the receivers that are set up, the text in the body."""
    made = compose(notice(make_printable(text)), "a@example.com", ("b@example.com",), 1e9)
    mail = message_from_bytes(bytes(made), policy=policy.default)
    assert mail["Bcc"] is None
    assert mail["To"] == "b@example.com"
    assert not OBEYED & set(mail["Subject"])
    assert not OBEYED & set(mail.get_content())


def test_a_webhook_stays_small() -> None:
    """Receivers expect less than 20 kB."""
    sent = make_payload(replace(notice(LONG), next=(LONG,) * 3))
    assert len(sent) < 20_000
    assert json.loads(sent)["type"] == "backout.failed"


def test_a_page_and_outputs_of_a_pipeline() -> None:
    """No line of the page begins with what it says; no output is named by it."""
    ended = Ending(Word.REFUSED, "production", HOSTILE, 3, HOSTILE, HOSTILE, HOSTILE, (("Rule", HOSTILE),), (HOSTILE,))
    page = format_markdown(ended)
    assert not [line for line in page.splitlines() if line.startswith(("::", "# head", "result=", "Bcc"))]
    assert "<" not in page.replace("\\<", "").replace("`<@U1>`", "")
    assert not OBEYED & set(page)
    names, inside = [], ""
    for line in format_outputs(ended).split("\n"):
        if inside:
            inside = "" if line == inside else inside
        elif "<<" in line:
            name, _, inside = line.partition("<<")
            names.append(name)
        elif line:
            names.append(line.partition("=")[0])
    assert names == ["result", "live-version", "report-path", "run-id", "guarded", "requires-counts"]


@pytest.mark.calm
def test_a_reason_in_another_encoding_stops_nobody(drillbook: Drillbook) -> None:
    """Umlauts of a Latin-1 terminal are no UTF-8: panic goes back, and a hold holds, all the same."""
    trial = drillbook.trial()
    trial.make_live(drillbook.bad)
    reason = "l\udce4uft nicht"  # as Python hands over the byte E4
    ended = trial.run("panic", "-m", reason, "--json", "-v")
    assert ended.code == 0, ended.err
    assert trial.live() == drillbook.good
    for command in ("hold", "unhold"):
        ended = trial.run(command, "-m", reason)
        assert ended.code == 0, ended.err
    assert "l?uft nicht" in ended.out + trial.run("runs", "list").out + trial.run("deployments", "list").out


@pytest.mark.long
@pytest.mark.calm
def test_hostile_text_on_the_twin(drillbook: Drillbook) -> None:
    """A deployment's message of somebody else: what the real program shows, writes down and prints as a card."""
    trial = drillbook.trial()
    deployments = trial.tools().deployments
    said = "evil \x1b[2J\x1b]0;mine\x07 \x9b31m \u202e `x` $(id)\r\n::error::mine\x00"
    deployments.deploy(deployments.history()[0].shares, message=said, force=True)
    for command in (("deployments", "list"), ("deployments", "show"), ("status",), ("card", "--write")):
        ended = trial.run(*command)
        assert ended.code == 0, ended.err
        assert "evil" in ended.out or command[1:] == ("show",)
        assert not OBEYED & set(ended.out + ended.err), command
        assert "\n::error" not in ended.out
    card = (trial.folder / ".backout" / "card-production.md").read_text(encoding="utf-8")
    assert not OBEYED & set(card)
