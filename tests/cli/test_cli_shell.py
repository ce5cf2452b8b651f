"""The frame around every command: global options, errors, exit codes, questions, colour, the mask, closed pipes."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from cli_shell import Stream, backout, make_shell
from spelled import shown_of

from backout import config
from backout.cli.support import errors
from backout.cli.support.confirm import ask, confirm
from backout.cli.support.output import Output
from backout.cli.support.style import Style, Tone, measure_width, wants_color
from backout.errors import ConfigError, DecisionNeeded, PartlyDone, Refused
from backout.report.redact import Redactor
from backout.report.text import wrap_text

from polling import PATIENCE_S
from streamed import await_line

if TYPE_CHECKING:
    from pathlib import Path

TWO = """[app]
name = "fm5"
[environments.production]
platform = { provider = "cloudflare", script = "fm5-production" }
[environments.staging]
platform = { provider = "cloudflare", script = "fm5-staging" }
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "backout.toml").write_text(TWO)
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ("--json", "-e", "staging", "config", "show"),
        ("config", "--json", "-e", "staging", "show"),
        ("config", "show", "-e", "staging", "--json"),
        ("-e", "production", "config", "show", "--environment=staging", "--json"),
    ],
)
def test_global_options_stand_before_or_after_the_command(project: Path, arguments: tuple[str, ...]) -> None:
    """Everywhere on the line they mean the same, and the last one wins."""
    answer = backout(project, *arguments)
    assert answer.code == 0
    assert answer.json["schema"] == "backout.config/1"
    assert answer.json["environment"] == "staging"
    assert answer.err == ""


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("gaurd",), "no command 'gaurd', did you mean 'guard'?"),
        (("config", "chek"), "no command 'chek', did you mean 'check'?"),
        (("config", "show", "--jsn"), "No such option '--jsn'"),
        (("config", "show", "extra"), "Got unexpected extra argument"),
        (("completion", "tcsh"), "'tcsh' is not one of"),
        (("--color", "blue", "config", "show"), "'blue' is not one of"),
    ],
)
def test_a_wrong_call_is_exit_2_with_the_help_to_type(tmp_path: Path, arguments: tuple[str, ...], what: str) -> None:
    """The nearest known word is offered; nothing of it goes to stdout."""
    answer = backout(tmp_path, *arguments)
    assert answer.code == 2
    assert what in answer.err
    assert "--help" in answer.err.splitlines()[-1]
    assert answer.out == ""


@pytest.mark.parametrize("time", ["-1h", "soon", "0"])
def test_a_wrong_time_names_its_flag_and_a_right_one(project: Path, time: str) -> None:
    """Whoever set a hold in a hurry sees what was wrong with it."""
    answer = backout(project, "hold", "-e", "staging", "--for", time, "-m", "mending", "--local", "--json")
    assert (answer.code, answer.json["where"]) == (2, "--for")
    assert str(answer.json["hint"]).startswith("--for ")


def test_every_error_has_its_envelope_with_json(project: Path) -> None:
    """Even where `--json` stands behind a mistake, stdout holds exactly one line."""
    usage = backout(project, "config", "shw", "--json")
    assert (usage.code, usage.json["schema"], usage.json["error"]) == (2, "backout.error/1", "UsageError")
    missing = backout(project, "config", "show", "-e", "stagin", "--json")
    assert missing.json["hint"] == "one of: production, staging"
    (project / "backout.toml").write_text("[ap]\n")
    wrong = backout(project, "config", "check", "--json")
    assert (wrong.code, wrong.json["exit_code"]) == (78, 78)
    assert wrong.json["mistakes"] == [
        "backout.toml:1: ap: unknown key, did you mean 'app'?",
        "backout.toml:1: app: required, but not there",
        "backout.toml:1: environments: required, but not there",
    ]
    assert len(wrong.err.splitlines()) == 5


def test_an_error_says_what_where_options_and_next() -> None:
    """The legal ways on stand below a refusal; the exit code is the class's."""
    out = Output(Stream(), Stream(), Redactor(), talk=Style(unicode=True))
    refused = Refused("no", where="here", hint="do that", rule="4 schema", options=("one way", "another"))
    assert errors.show(refused, out) == 3
    assert errors.show(PartlyDone("half", hint="backout runs resume 7"), out) == 5
    assert isinstance(out.stderr, Stream)
    assert out.stderr.getvalue().splitlines() == [
        "error: no", "  at here", "  safety rule: 4 schema", "  → one way", "  → another", "  next: do that",
        "error: half", "  next: backout runs resume 7",
    ]  # fmt: skip


def test_an_unforeseen_error_is_short_unless_asked(tmp_path: Path) -> None:
    """A mistake of ours is exit 1 with one sentence; -v shows the traceback; secrets stay masked."""
    out = Output(Stream(), Stream(), Redactor(), json=True)
    out.redactor.register("canary-secret")
    assert errors.show_unexpected(ValueError("canary-secret"), out) == 1
    assert isinstance(out.stderr, Stream)
    assert isinstance(out.stdout, Stream)
    assert "Traceback" not in out.stderr.getvalue()
    out.verbose = 1
    errors.show_unexpected(ValueError("canary-secret"), out)
    assert "ValueError: ***" in out.stderr.getvalue()
    assert json.loads(out.stdout.getvalue())["error"] == "Unexpected"
    assert "canary" not in out.stderr.getvalue() + out.stdout.getvalue()


def test_a_second_json_answer_is_a_programming_error() -> None:
    """Exactly one line on stdout is a contract, so breaking it does not pass unseen."""
    out = Output(Stream(), Stream(), Redactor(), json=True)
    out.result("status", {})
    with pytest.raises(RuntimeError):
        out.result("status", {})


# --- questions ------------------------------------------------------------------------------------------------------


def go_ahead(
    folder: Path, environment: str, *, typed: str = "", terminal: bool = True, flags: dict[str, object] | None = None,
    message: str | None = None, confirmed: str | None = None,
) -> tuple[str, str]:  # fmt: skip
    shell = make_shell(folder, typed=typed, terminal=terminal)
    shell.take(**(flags or {}))
    loaded = config.load(shell.environment, start=folder, environment=environment)
    reason = confirm(shell, loaded, "roll back", message=message, typed=confirmed)
    assert isinstance(shell.output.stderr, Stream)
    return reason, shell.output.stderr.getvalue()


def test_production_wants_a_reason_and_its_name_typed(project: Path) -> None:
    """Typed at the terminal or given beforehand, both do."""
    reason, asked = go_ahead(project, "production", typed="errors\nproduction\n")
    assert reason == "errors"
    assert "Type" in asked
    assert go_ahead(project, "production", terminal=False, message="m", confirmed="production") == ("m", "")


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ({"terminal": False}, 'add -m "WHY"'),
        ({"terminal": False, "message": "m"}, "add --confirm production"),
        ({"terminal": False, "message": "m", "flags": {"yes": True}}, "add --confirm production"),
        ({"message": "m", "flags": {"no_input": True}}, "add --confirm production"),
        ({"message": "m", "typed": "prod\n"}, None),
        ({"message": "m", "typed": ""}, None),
        ({"typed": "\nproduction\n"}, 'add -m "WHY"'),
    ],
)
def test_production_is_never_assumed(project: Path, given: dict[str, object], hint: str | None) -> None:
    """No terminal, --yes, --no-input, a wrong name, silence: exit 3, naming the flag."""
    with pytest.raises(DecisionNeeded) as caught:
        go_ahead(project, "production", **given)  # type: ignore[arg-type]
    assert caught.value.exit_code == 3
    assert caught.value.hint == hint


def test_the_name_of_another_environment_is_refused(project: Path) -> None:
    """--confirm staging never passes for production, and not the other way round."""
    for environment, other in (("production", "staging"), ("staging", "production")):
        with pytest.raises(Refused) as caught:
            go_ahead(project, environment, message="m", confirmed=other, flags={"yes": True})
        assert caught.value.rule == "1 identity"


def test_staging_wants_y_or_yes_beforehand(project: Path) -> None:
    """Anything else is a no; nobody there is exit 3."""
    assert go_ahead(project, "staging", typed="y\n", message="m")[0] == "m"
    assert go_ahead(project, "staging", terminal=False, flags={"yes": True}, message="m") == ("m", "")
    for given in ({"typed": "\n"}, {"typed": "n\n"}, {"terminal": False}):
        with pytest.raises(DecisionNeeded):
            go_ahead(project, "staging", **given)  # type: ignore[arg-type]


def test_a_question_names_the_flag_that_answers_it(tmp_path: Path) -> None:
    """Without a terminal the message is enough to write the next call."""
    with pytest.raises(DecisionNeeded) as caught:
        ask(make_shell(tmp_path), "Carry the secrets?", flag="--restore-secrets")
    assert caught.value.hint == "add --restore-secrets"


# --- what a stream can show -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "terminal", "no_color", "force", "term", "expected"),
    [
        ("auto", True, False, False, "xterm", True),
        ("auto", True, False, False, None, True),
        ("auto", False, False, False, "xterm", False),
        ("auto", True, True, True, "xterm", False),
        ("auto", True, False, False, "dumb", False),
        ("auto", False, False, True, "dumb", True),
        ("always", False, True, False, "dumb", True),
        ("never", True, False, True, "xterm", False),
    ],
)
def test_colour_follows_the_conventions(
    when: str, terminal: bool, no_color: bool, force: bool, term: str | None, expected: bool
) -> None:
    """Flag, NO_COLOR, FORCE_COLOR, TERM=dumb, terminal: in this order."""
    assert wants_color(when, is_terminal=terminal, no_color=no_color, force_color=force, term=term) is expected


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_cell_is_masked_before_it_is_cut(width: int) -> None:
    """What is left of a secret in a cut cell would be no secret any more that anybody recognises."""
    secret = "ab7_Kq9zXw3vRt6LmN2p"
    redactor = Redactor()
    redactor.register(secret)
    output = Output(Stream(), Stream(), redactor, style=Style(width=width))
    for lead in range(width):
        table = output.table(("version", "message"), [("3f2a91c0", f"{'x' * lead} {secret} {'y' * width}")])
        assert secret[:4] not in table


def test_colour_is_never_the_only_carrier() -> None:
    """Plain, coloured and ASCII badges differ in looks, never in their word."""
    assert Style().badge("regressed", Tone.BAD) == "x regressed"
    assert Style(unicode=True).badge("regressed", Tone.BAD) == "✗ regressed"
    assert measure_width(Style(color=True, unicode=True).badge("regressed", Tone.BAD)) == len("✗ regressed")
    assert len({Style().badge("w", tone) for tone in (Tone.GOOD, Tone.BAD, Tone.WARN, Tone.NOTE, Tone.DIM)}) == 5


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("color", [False, True])
def test_a_table_keeps_the_width(width: int, color: bool) -> None:
    """The flexible column gives way; the others keep their text."""
    style = Style(color=color, unicode=True, width=width)
    rows = [("3f2a91c0", style.badge("healthy", Tone.GOOD), "a very long message " * 8, "2 h ago")]
    header, row = style.table(("version", "verdict", "message", "when"), rows, flexible=2).splitlines()
    assert measure_width(row) <= width
    assert "3f2a91c0" in row
    assert row.endswith("2 h ago")
    assert "…" in row
    assert measure_width(header.split("when")[0]) == measure_width(row.split("2 h")[0])
    assert style.table(("a",), []) == ""


def test_a_terminal_without_utf8_gets_ascii(project: Path) -> None:
    """A C locale never ends in a UnicodeEncodeError."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    out = Output(stream, Stream(), Redactor())
    out.text("✓ 3 → 4 ≤ 5 … ü")
    assert raw.getvalue() == b"+ 3 -> 4 <= 5 ... \\xfc\n"
    stream.detach()


# --- the mask and the pipe ------------------------------------------------------------------------------------------


def test_no_way_out_shows_a_registered_secret() -> None:
    """Answers, streams, talk, errors, prompts: each passes the mask, keys and nested values included."""
    out = Output(Stream(), Stream(), Redactor(), json=True, verbose=1)
    secret = "canary/sec+ret=1"
    out.redactor.register(secret)
    out.line("x", {"a": {secret: [secret, {"b": f"u={secret}"}]}})
    out.result("y", {"a": secret})
    out.raw(secret)
    for talk in (out.say, out.detail, out.warn, out.complain, out.next, out.prompt):
        talk(f"{secret} canary%2Fsec%2Bret%3D1")
    errors.show(ConfigError((secret,), hint=secret), out)
    assert isinstance(out.stderr, Stream)
    assert isinstance(out.stdout, Stream)
    everything = out.stdout.getvalue() + out.stderr.getvalue()
    assert "canary" not in everything
    assert everything.count("***") >= 15


def test_a_reader_that_went_away_is_no_error() -> None:
    """`backout config show | head -1` ends quietly, without a traceback and without exit 120 of the interpreter."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "backout", "config", "example"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False, timeout=PATIENCE_S)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_quiet_silences_talk_but_no_error(project: Path) -> None:
    """-q leaves data and errors."""
    assert backout(project, "init", "--dry-run", "-q").err.startswith("error: ")
    shell = make_shell(project)
    shell.take(quiet=True)
    shell.output.say("talk")
    shell.output.warn("care")
    assert isinstance(shell.output.stderr, Stream)
    assert shell.output.stderr.getvalue() == "warning: care\n"


def test_ctrl_c_is_exit_130(tmp_path: Path) -> None:
    """A command that waits for input ends with the code of an interruption and one sentence."""
    command = [sys.executable, "-m", "backout", "guard", "replay", "-"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, text=True, **pipes) as process:  # type: ignore[call-overload]
        process.stdin.write('{"type":"start","deploy_ts":0,"old":"a","new":"b","split":1}\n{"type":"tick","ts":1}\n')
        process.stdin.flush()
        assert await_line(process, "").startswith('{"ts":1')  # it is up and waits for more
        process.send_signal(signal.SIGINT)
        process.wait(timeout=PATIENCE_S)
        assert (process.returncode, process.stderr.read()) == (130, "\nerror: interrupted\n")  # the line after ^C


STRAY = """
import sys, threading
from backout.cli.support import errors
from backout.cli.support.shell import Shell
shell = Shell.of_process()
errors.mask_strays(shell.output)
shell.environment.secret("STRAY_TOKEN")
secret = shell.environment.variables["STRAY_TOKEN"]
thread = threading.Thread(target=lambda: {}[secret])
thread.start()
thread.join()
class Odd:
    def __del__(self): raise ValueError(secret)
Odd()
raise RuntimeError(secret)
"""


def test_an_error_that_nobody_catches_goes_through_the_mask() -> None:
    """In a thread, in a finalizer, at the end of the process: the traceback is told, and the secret is not."""
    variables = {**os.environ, "STRAY_TOKEN": "tok-Canary_9f3/x+Q7k2"}
    done = subprocess.run(
        [sys.executable, "-c", STRAY], capture_output=True, text=True, env=variables, timeout=60, check=False
    )
    assert done.returncode == 1
    for kind in ("KeyError", "ValueError", "RuntimeError"):
        assert kind in done.stderr
    assert "Canary" not in done.stderr


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_table_that_cuts_its_cells_shows_no_part_of_a_secret(width: int) -> None:
    """Wherever the cut falls: the value is masked before it; a text that is wrapped is masked after it."""
    token = "tok-Canary_9f3/x+Q7k2_w8=="
    redactor = Redactor()
    redactor.register(token)
    out = Stream()
    output = Output(out, Stream(), redactor, style=Style(width=width), talk=Style(width=width))
    for before in range(0, width, 3):
        output.text(output.table(("AT", "SAID"), [("12:00", f"{'x' * before} {token}")]))
        output.text("\n".join(wrap_text(f"{'x ' * before}{token.replace('_', ' _')} y", width, indent="  ")))
        output.text("\n    ".join(token[at : at + 7] for at in range(0, len(token), 7)))
    assert not shown_of(token, out.getvalue())
    assert "***" in out.getvalue()


LOST = """
import io, signal, time
from backout.cli.support import errors
from backout.cli.support.output import Output
from backout.report.redact import Redactor

class Left:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

errors.mask_strays(Output(io.StringIO(), io.StringIO(), Redactor()))
try:
    Left()
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
else:
    print("lost")
"""


def test_ctrl_c_is_not_lost_where_python_raises_nothing() -> None:
    """In `__del__`, as in every callback of the interpreter, an error goes nowhere; a Ctrl-C comes again after it."""
    done = subprocess.run([sys.executable, "-c", LOST], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("interrupted\n", "")


SHOP = """
[app]
name = "shop"
[environments.production]
platform = { provider = "cloudflare", script = "shop", account_id = "0123456789abcdef0123456789abcdef" }
criteria = { watch = "10m" }
[environments.staging]
platform = { provider = "cloudflare", script = "shop-staging", account_id = "0123456789abcdef0123456789abcdef" }
criteria = { watch = "5m" }
"""


@pytest.mark.parametrize("variables", [{}, {"BACKOUT_JOURNAL_PATH": "elsewhere.sqlite"}])
def test_another_environment_of_a_file_is_as_if_it_was_read_anew(tmp_path: Path, variables: dict[str, str]) -> None:
    """And is, where a variable set something."""
    (tmp_path / "backout.toml").write_text(SHOP)
    shell = make_shell(tmp_path, variables)
    first = shell.config(environment="production")
    (tmp_path / "backout.toml").write_text(SHOP.replace("5m", "7m"))
    chosen = shell.choose(first, "staging")
    assert (chosen.name, float(chosen.environment.criteria.watch)) == ("staging", 420.0 if variables else 300.0)
    assert chosen.kept is not first.kept
