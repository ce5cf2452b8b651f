"""Secrets through the real program on the twin: they are set, and no value is left anywhere, however it fails."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from api_gate import Answer, api_gate, said
from canaries import CANARIES, leaks_below, leaks_in

from backout.twin.stage import SCRIPT

from arranged import api, upload
from drillbook import ENV, Result
from extent import ALL, long

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from drillbook import Drillbook, Trial

pytestmark = [pytest.mark.calm, pytest.mark.rotating("canaries of secrets", 3)]

SURE = ("-m", "the deployment lost them", "--confirm", "production")
SECRETS = """
[environments.production.secrets]
example = "planted/.env.example"
required = ["JWT_SECRET", "EMAIL_API_KEY"]
"""


@dataclass
class Lacking:
    """A trial whose live version has lost JWT_SECRET; `told` is all that the program printed."""

    trial: Trial
    live: str
    told: list[str] = field(default_factory=list)

    @property
    def planted(self) -> Path:
        """The folder in which values may stand."""
        return self.trial.folder / "planted"

    def run(self, *args: str, typed: str = "", variables: dict[str, str] | None = None) -> Result:
        """Run the program with something in its stdin."""
        ended = self.trial.run(*args, stdin=typed, variables=variables)
        self.told.append(ended.out + ended.err)
        return ended

    def source(self, text: str) -> None:
        """Configure the source."""
        base = self.trial.config.read_text(encoding="utf-8").partition("\nsource = ")[0].rstrip("\n")
        self.trial.config.write_text(f"{base}\nsource = {text}\n", encoding="utf-8")

    def program(self, body: str) -> str:
        """Return the words of a program, as TOML."""
        file = self.planted / "vault.py"
        file.write_text(f"import json, sys\nVALUES = {CANARIES!r}\n{body}\n", encoding="utf-8")
        return json.dumps([sys.executable, str(file)])

    def roll_back(self) -> None:
        """Make the good version live again, as `wrangler rollback` does."""
        deployments = self.trial.book.trial().tools().deployments  # past any gate
        deployments.activate(self.trial.book.good, message="back", force=True)

    def names(self) -> tuple[str, ...]:
        """Return the names of the live version's secrets."""
        tools = self.trial.tools()
        return tools.versions.detail(tools.deployments.history()[0].main).secret_names

    def leaks(self) -> list[str]:
        """Return which value is where: in what was printed, or kept."""
        return [*leaks_in("\n".join(self.told), "what was printed"), *leaks_below(self.trial.folder)]


@pytest.fixture(scope="module")
def drillbook(own_drillbook: Drillbook) -> Drillbook:
    """Return a stage of its own: these drills change the secrets of what is live."""
    return own_drillbook


@pytest.fixture
def lacking(drillbook: Drillbook) -> Iterator[Lacking]:
    trial = drillbook.trial()
    trial.make_live(drillbook.good)
    trial.make_live(upload(trial, drillbook.good))  # the newest version is live, as after a deployment
    live = trial.tools().versions.detail(trial.live())
    for name in set(live.secret_names) - {"EMAIL_API_KEY"}:  # JWT_SECRET, and what tests before have set
        api(drillbook, "DELETE", f"secrets/{name}?url_encoded=true")
    lost = trial.live()
    with trial.config.open("a", encoding="utf-8") as file:
        file.write(SECRETS)
    found = Lacking(trial, lost)
    found.planted.mkdir()
    (found.planted / ".env.example").write_text("JWT_SECRET=\nEMAIL_API_KEY=\n")
    (found.planted / "values.json").write_text(json.dumps(CANARIES), encoding="utf-8")
    try:
        yield found
    finally:
        found.roll_back()
        assert (leaks := found.leaks()) == [], "\n".join(leaks)


def test_a_lost_secret_is_found_and_set_without_a_rollback(lacking: Lacking, drillbook: Drillbook) -> None:
    """Check names it and the command; push sets it on the code that is live; check is content."""
    checked = lacking.run("secrets", "check", "--json")
    assert (checked.code, checked.json["missing"]) == (1, ["JWT_SECRET"])
    lacking.source('{ from = "file", path = "planted/values.json" }')
    assert "backout secrets push JWT_SECRET -e production" in lacking.run("secrets", "check").err
    dry = lacking.run("secrets", "push", "JWT_SECRET", "--dry-run", *SURE[:2])
    assert "wrangler secret" in dry.out
    assert lacking.names() == ("EMAIL_API_KEY",)
    pushed = lacking.run("secrets", "push", "JWT_SECRET", *SURE, "--report", "--json")
    assert pushed.code == 0, pushed.err
    assert pushed.json["verified"] is True
    assert pushed.json["secrets"] == ["JWT_SECRET"]
    assert pushed.json["way"] == "newest"
    tools = lacking.trial.tools()
    live = tools.versions.detail(pushed.json["live_version"])
    assert live.code_hash == tools.versions.detail(drillbook.good).code_hash
    assert live.secret_names == ("EMAIL_API_KEY", "JWT_SECRET")
    assert lacking.run("secrets", "check").code == 0
    listed = lacking.run("secrets", "list", "--ask-source", "--json").json
    (secret,) = [each for each in listed["secrets"] if each["name"] == "JWT_SECRET"]
    assert (secret["source"], secret["since_push"], secret["pushed"]["run_id"]) == (
        "same",
        "same",
        pushed.json["run_id"],
    )
    shown = lacking.run("runs", "show", pushed.json["run_id"], "--json")
    assert shown.code == 0
    (report,) = lacking.trial.reports()
    assert "Secrets set: JWT_SECRET" in report.read_text(encoding="utf-8")


@pytest.mark.long
def test_after_a_rollback_wrangler_is_refused_and_backout_is_not(lacking: Lacking, drillbook: Drillbook) -> None:
    """The newest version is the bad one: the live code is uploaded again with the secret, the bad code stays away."""
    lacking.roll_back()
    pushed = lacking.run("secrets", "put", "NEW_KEY", *SURE, typed=CANARIES["NEW_KEY"] + "\n")
    assert pushed.code == 0, pushed.err
    assert "uploaded again" in pushed.err
    tools = lacking.trial.tools()
    live = tools.deployments.history()[0]
    detail = tools.versions.detail(live.main)
    assert detail.code_hash == tools.versions.detail(drillbook.good).code_hash
    assert detail.secret_names == ("EMAIL_API_KEY", "JWT_SECRET", "NEW_KEY")
    assert live.message.startswith("[backout secrets-")
    assert lacking.run("status").code in (0, 1)


@pytest.mark.long
def test_a_gradual_deployment_is_refused(lacking: Lacking, drillbook: Drillbook) -> None:
    """Exit 3, with the ways on, and nothing is changed."""
    from backout.model.deployment import Share  # noqa: PLC0415 - only here
    from backout.model.version import VersionId  # noqa: PLC0415 - only here

    deployments = lacking.trial.tools().deployments
    shares = (Share(VersionId(lacking.live), 90.0), Share(VersionId(drillbook.good), 10.0))
    made = deployments.deploy(shares, message="a canary", force=True)
    ended = lacking.run("secrets", "put", "NEW_KEY", *SURE, typed=CANARIES["NEW_KEY"])
    assert ended.code == 3
    assert "gradual deployment" in ended.err
    assert deployments.history()[0].id == made.id


PRINTING = "name = sys.argv[1] if len(sys.argv) > 1 else ''\nsys.stdout.reconfigure(encoding='utf-8')\n"
WHOLE = PRINTING + "json.dump(VALUES, sys.stdout)"
SOURCES: dict[str, tuple[tuple[str, ...], str]] = {
    "file": (("--from-file", "FILE"), ""),
    "stdin": (("--from-file", "-"), json.dumps(CANARIES)),
    "piped": ((), json.dumps(CANARIES)),
    "env": (("JWT_SECRET", "NEW_KEY", "--from-env", "--prefix", "CANARY_"), ""),
    "command": (("--from-command", "COMMAND"), ""),
    "command by name": (("JWT_SECRET", "NEW_KEY", "--from-command", "COMMAND {name}"), ""),
}


@pytest.mark.long
def test_no_value_is_left_by_any_source(lacking: Lacking) -> None:
    """Set and verified, as a person, with --json, and with -v."""
    variables = {f"CANARY_{name}": value for name, value in CANARIES.items()}
    for number, (source, (args, typed)) in enumerate(SOURCES.items()):
        body = PRINTING + "print(VALUES[name].rstrip())" if source == "command by name" else WHOLE
        words = " ".join(json.loads(lacking.program(body)))
        args = tuple(word.replace("COMMAND", words) for word in args)  # noqa: PLW2901 - the same words, filled in
        args = tuple(str(lacking.planted / "values.json") if word == "FILE" else word for word in args)  # noqa: PLW2901
        more = ((), ("--json",), ("-v",))[number % 3]
        ended = lacking.run("secrets", "push", *args, *SURE, *more, typed=typed, variables=variables)
        assert ended.code == 0, (source, ended.err)
        assert {"JWT_SECRET", "NEW_KEY"} <= set(lacking.names()), source
        lacking.run("runs", "show", lacking.trial.newest()["run_id"])


FAILING = {
    "stderr": "print(*VALUES.values(), file=sys.stderr); sys.exit(3)",
    "traceback": "secret = VALUES; raise RuntimeError(str(VALUES))",
    "nonsense": "print('=', *VALUES.values())",
}
ASKING = ("push", "-v", *SURE), ("push", "--dry-run"), ("list", "--ask-source", "-v", "--json")
"""What asks the command: in `make test` each of them meets another failure."""


@pytest.mark.long
def test_no_value_is_left_by_a_command_that_fails(lacking: Lacking) -> None:
    """It writes the values into whatever it can."""
    for number, body in enumerate(FAILING.values()):
        lacking.source(f'{{ from = "command", command = {lacking.program(body)} }}')
        for command in ASKING if ALL else ASKING[number : number + 1]:
            ended = lacking.run("secrets", *command)
            assert ended.code in (1, 2), ended.err
    assert lacking.names() == ("EMAIL_API_KEY",)


ECHO = " ".join([*CANARIES.values(), json.dumps(CANARIES), *(v.encode().hex() for v in CANARIES.values())])
ECHOES = {
    "400": said(400, 10021, ECHO),
    "403": said(403, 10000, ECHO),
    "500": said(500, 10013, ECHO),
    "no json": Answer(502, f"<html>{ECHO}</html>".encode()),
    "cut": Answer(200, ECHO.encode(), cut=True),
}


@pytest.mark.long
@pytest.mark.parametrize("way", ["newest", long("apart")])
def test_no_value_is_left_by_an_api_that_echoes_it(lacking: Lacking, drillbook: Drillbook, way: str) -> None:
    """In its errors, in a page that is no JSON, in half an answer; then the run goes on, or is over."""
    if way == "apart":
        lacking.roll_back()
    file = str(lacking.planted / "values.json")
    method, path = ("POST", f"{SCRIPT}/versions") if way == "apart" else ("PATCH", "secrets-bulk")
    with api_gate(str(drillbook.stage.twin.api_base_url)) as gate:
        lacking.trial.behind(gate.url)
        for kind, scripted in ECHOES.items():
            gate.when(method, path, *[scripted] * 5)
            ended = lacking.run("secrets", "push", "--from-file", file, *SURE, "-v", "--no-wait")
            assert ended.code in (1, 4, 5, 7), (kind, ended.err)
            gate.rules.clear()
            newest = lacking.trial.newest()
            if newest["state"] == "interrupted":
                assert lacking.run("runs", "resume", newest["run_id"], "-v").code == 0, kind
                assert {"JWT_SECRET", "NEW_KEY"} <= set(lacking.names())
            lacking.run("runs", "show", newest["run_id"])
            if way == "apart":
                lacking.roll_back()


@pytest.mark.long
def test_a_run_of_typed_values_cannot_be_resumed_without_them(lacking: Lacking, drillbook: Drillbook) -> None:
    """It says what to type; the same command with the same value goes on, with another one the run is over."""
    with api_gate(str(drillbook.stage.twin.api_base_url)) as gate:
        lacking.trial.behind(gate.url)
        gate.when("PATCH", "secrets-bulk", *[Answer(503)] * 5)
        put = ("secrets", "put", "JWT_SECRET", *SURE)
        assert lacking.run(*put, typed=CANARIES["JWT_SECRET"]).code == 5
        gate.rules.clear()
        resumed = lacking.run("runs", "resume", lacking.trial.newest()["run_id"])
        assert resumed.code == 5
        assert "type the same command again" in resumed.err
        done = lacking.run(*put, typed=CANARIES["JWT_SECRET"])
        assert done.code == 0, done.err
        assert "picking up run" in done.err
        gate.when("PATCH", "secrets-bulk", *[Answer(503)] * 5)
        assert lacking.run(*put, typed=CANARIES["JWT_SECRET"]).code == 5
        gate.rules.clear()
        other = lacking.run(*put, typed=CANARIES["NEW_KEY"])
        assert (other.code, "another value of JWT_SECRET" in other.err) == (3, True)
        assert lacking.run(*put, typed=CANARIES["NEW_KEY"]).code == 0
        assert lacking.names() == ("EMAIL_API_KEY", "JWT_SECRET")


@pytest.mark.long
def test_the_key_of_fingerprints_is_the_owners_alone(lacking: Lacking) -> None:
    """Beside the journal, 0600; once others may read it, it is not used."""
    file = str(lacking.planted / "values.json")
    assert lacking.run("secrets", "push", "JWT_SECRET", "--from-file", file, *SURE, "--no-wait").code == 0
    key = lacking.trial.folder / "journal.key"
    assert key.stat().st_mode & 0o777 == 0o600
    key.chmod(0o640)
    refused = lacking.run("secrets", "push", "JWT_SECRET", "--from-file", file, *SURE)
    assert refused.code == 1
    assert "chmod 600" in refused.err


BAD: list[tuple[tuple[str, ...], str, int, str]] = [
    (("push", *SURE), "", 2, "stdin is empty"),
    (("push", "NOPE", "--from-file", "FILE", *SURE), "", 3, "does not hold NOPE"),
    (("push", "MODELS", "--from-env", *SURE), "", 3, "bound as r2_bucket"),
    (("push", "--from-file", "FILE", "--from-env", *SURE), "", 2, "contradict"),
    (("push", "--prefix", "X", *SURE), "", 2, "--prefix belongs"),
    (("push", "--from-file", "/nowhere/at/all", *SURE), "", 2, "No such file"),
    (("push", "--from-command", "'", *SURE), "", 2, "No closing quotation"),
    (("push", "--from-keyring", "fm5", "JWT_SECRET", *SURE), "", 2, "'.[keyring]'"),
    (("push", "--from-file", "FILE"), "", 3, "needs a reason"),
    (("push", "--from-file", "FILE", "-m", "why", "--confirm", "staging"), "", 3, "--confirm names"),
    (("put", "A B", *SURE), "x", 2, "cannot be the name"),
    (("put", "A", *SURE), "", 2, "needs a value"),
    (("put", "A", *SURE), "\0", 2, "NUL"),
]


@pytest.mark.long
def test_bad_input_is_told_before_anything_is_changed(lacking: Lacking) -> None:
    """What, where, what to type next; the exit code is fixed."""
    before = lacking.trial.tools().deployments.history()[0].id
    for args, typed, code, words in BAD:
        args = tuple(str(lacking.planted / "values.json") if w == "FILE" else w for w in args)  # noqa: PLW2901
        ended = lacking.run("secrets", *args, typed=typed)
        assert (ended.code, words in ended.err) == (code, True), (args, ended.err)
    assert lacking.trial.tools().deployments.history()[0].id == before


@pytest.mark.long
def test_what_is_typed_is_not_shown(lacking: Lacking) -> None:
    """At a terminal the value is asked for without echo."""
    import pty  # noqa: PLC0415 - only here
    import select  # noqa: PLC0415 - same

    argv = lacking.trial.book.argv("secrets", "put", "JWT_SECRET", *SURE, "--no-wait", config=lacking.trial.config)
    child, terminal = pty.fork()
    if child == 0:
        os.execve(argv[0], argv, ENV)  # noqa: S606 - the program itself
    shown = b""
    typed = False
    while select.select([terminal], [], [], 60)[0]:
        try:
            part = os.read(terminal, 4096)
        except OSError:
            break
        shown += part
        if not typed and b"not shown" in shown:
            os.write(terminal, CANARIES["EMAIL_API_KEY"].encode() + b"\n")
            typed = True
        if not part:
            break
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    lacking.told.append(shown.decode(errors="replace"))
    assert os.waitstatus_to_exitcode(status) == 0, shown
    assert typed
    assert "JWT_SECRET" in lacking.names()
