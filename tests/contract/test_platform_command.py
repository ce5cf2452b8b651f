"""Commands that speak for a platform: what they are given, and every way in which one can fail to answer."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from backout.errors import (
    AuthError,
    BackoutError,
    NoSplit,
    ProviderRejected,
    ProviderUnavailable,
    Refused,
    WorldMoved,
)
from backout.model.deployment import Cohort, Share
from backout.model.version import VersionId
from backout.providers.child_environment import make_sealed_environment
from backout.providers.command.calls import PlatformCommands
from backout.providers.command.platform import CommandDeployments, CommandVersions
from backout.providers.command.protocol import Current

from polling import PATIENCE_S

if TYPE_CHECKING:
    from pathlib import Path

    from backout.providers.command.protocol import Name

NAMES: tuple[Name, ...] = ("history", "current", "activate", "shares", "probe")
LIVE = {"id": "d1", "created_at": "2026-12-01T10:00:00Z", "shares": [{"version": "v1", "percentage": 100}]}
NEXT = {"id": "d2", "created_at": "2026-12-01T11:00:00Z", "shares": [{"version": "v2", "percentage": 100}]}
OTHER = {"id": "d3", "created_at": "2026-12-01T12:00:00Z", "shares": [{"version": "v1", "percentage": 100}]}
BUILDS = [
    {"id": "v2", "created_at": "2026-12-01T09:30:00Z", "commit": "b" * 40},
    {"id": "v1", "created_at": "2026-12-01T09:00:00Z"},
]


class Scripted:
    """Commands that answer what a test says, and keep what they were given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.without: set[str] = set()
        self.answers("current", {"application": "shop", "deployment": LIVE})
        self.answers("history", {"versions": BUILDS, "deployments": [LIVE]})

    def answers(self, name: Name, *values: object) -> None:
        """Have a command answer these values in turn; the last one for ever."""
        texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
        lines = f"""import os, pathlib, sys
told = pathlib.Path({str(self.folder / name)!r} + ".asked")
before = told.read_text().count("\\n") if told.exists() else 0
with told.open("a") as file:
    file.write(sys.stdin.read())
pathlib.Path({str(self.folder / name)!r} + ".env").write_text(repr(dict(os.environ)))
print({texts!r}[min(before, {len(texts)} - 1)])
"""
        self.runs(name, lines)

    def runs(self, name: Name, code: str) -> None:
        """Have a command run this."""
        (self.folder / f"{name}.py").write_text(code)

    def get_asked(self, name: Name) -> list[dict[str, Any]]:
        """Return what a command was asked, in order."""
        return [json.loads(line) for line in (self.folder / f"{name}.asked").read_text().splitlines()]

    def open(self, *, timeout_s: float = PATIENCE_S, secrets: dict[str, str] | None = None) -> PlatformCommands:
        """Return the commands."""
        return PlatformCommands(
            {n: (sys.executable, "-I", str(self.folder / f"{n}.py")) for n in NAMES if n not in self.without},
            self.folder,
            timeout_s=timeout_s,
            make_environment=lambda: make_sealed_environment({"PATH": "/usr/bin:/bin", "GIVEN": "yes"}),
            read_secrets=lambda: secrets or {},
            write_line=lambda name: f"run {name}",
            mask=lambda text: text.replace("canary", "***"),
        )


@pytest.fixture
def scripted(tmp_path: Path) -> Scripted:
    """A platform with one version live."""
    return Scripted(tmp_path)


def whole(version: str) -> tuple[Share, ...]:
    return (Share(VersionId(version), 100.0),)


def test_a_switch_names_what_has_to_be_live_still(scripted: Scripted) -> None:
    """And counts only as `current`, asked again, shows it."""
    port = CommandDeployments(scripted.open())
    assert port.history()[0].id == "d1"
    scripted.answers("activate", {"deployment": NEXT})
    current = [{"application": "shop", "deployment": each} for each in (LIVE, NEXT)]
    scripted.answers("current", *current)
    assert port.activate("v2", message="[backout r-1] why").id == "d2"
    (asked,) = scripted.get_asked("activate")
    assert asked == {
        "protocol": "backout.platform/1", "command": "activate", "version": "v2", "message": "[backout r-1] why",
        "if_current": "d1",
    }  # fmt: skip


def test_nothing_of_ours_reaches_a_command_but_what_is_named(scripted: Scripted) -> None:
    """Its variables are those of the configuration; secrets come on its input."""
    scripted.open(secrets={"TOKEN": "canary-token"}).ask("current", Current)
    assert scripted.get_asked("current")[0]["secrets"] == {"TOKEN": "canary-token"}
    seen = (scripted.folder / "current.env").read_text()
    assert "GIVEN" in seen
    assert "canary" not in seen
    assert "HOME" not in seen


FAILURES = {
    "not JSON": ("print('hello')", "answers something that is not JSON"),
    "nothing": ("pass", "answers nothing"),
    "torn": ("print('{\"application\": \"shop\", \"depl')", "answers something that is not JSON"),
    "two answers": (
        "print('{\"application\": \"shop\", \"deployment\": null}\\n' * 2)", "answers something that is not JSON"
    ),
    "another shape": ("print('{\"application\": 5, \"deployment\": null}')", "does not have the expected shape"),
    "a part is missing": ("print('{\"application\": \"shop\"}')", "missing required field `deployment`"),
    "an exit code": ("import sys; print('nope canary', file=sys.stderr); sys.exit(3)", "exit code 3: nope ***"),
    "an answer and an exit code": (
        "import sys; print('{\"application\": \"shop\", \"deployment\": null}'); sys.exit(1)", "exit code 1"
    ),
    "killed": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "was killed"),
    "huge": ("print('x' * 3_000_000)", "answers more than 1 MiB"),
    "endless": ("while True: print('x' * 100_000)", "answers more than 1 MiB"),
    "deep": ("print('[' * 100_000)", "nested too deeply"),
    "an impossible number": ("print('{\"application\": \"shop\", \"deployment\": ' + '9' * 5000 + '}')", "too large"),
    "no text": ("import sys; sys.stdout.buffer.write(b'\\xff\\xfe')", "answers something that"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(FAILURES))
def test_an_answer_that_is_none_is_no_answer(scripted: Scripted, name: str) -> None:
    """Exit code 7, with what is wrong, and the line to look at it by hand."""
    code, said = FAILURES[name]
    scripted.runs("current", code)
    with pytest.raises(ProviderUnavailable) as caught:
        CommandDeployments(scripted.open()).history()
    assert said in caught.value.what
    assert caught.value.where == "platform.command.current"
    assert caught.value.hint == "run it by hand: run current"
    assert caught.value.exit_code == 7


@pytest.mark.parametrize(
    "code",
    ["import time; time.sleep(3600)", "import subprocess; subprocess.Popen(['sleep', '3600'])"],
    ids=["itself", "what it started"],
)
def test_a_command_that_hangs_is_stopped_with_all_that_it_started(scripted: Scripted, code: str) -> None:
    """Whatever it started and left with its output counts as part of it."""
    scripted.runs("current", code)
    begun = time.monotonic()
    with pytest.raises(ProviderUnavailable, match=r"did not end within 0\.5 s"):
        scripted.open(timeout_s=0.5).ask("current", Current)
    assert time.monotonic() - begun < PATIENCE_S


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    """It is named as such."""
    scripted = Scripted(tmp_path)
    commands = scripted.open()
    commands._argv = {"current": ("no-such-program",)}
    with pytest.raises(ProviderUnavailable, match=r"cannot be started: .*no-such-program"):
        commands.ask("current", Current)


ERRORS: dict[str, tuple[type[BackoutError], int]] = {
    "conflict": (WorldMoved, 6),
    "unknown_version": (ProviderRejected, 1),
    "not_found": (ProviderRejected, 1),
    "refused": (Refused, 3),
    "no_split": (NoSplit, 1),
    "denied": (AuthError, 4),
    "unavailable": (ProviderUnavailable, 7),
}


@pytest.mark.parametrize("exits", [0, 1])
@pytest.mark.parametrize("kind", list(ERRORS))
def test_an_error_that_is_said_has_its_class(scripted: Scripted, kind: str, exits: int) -> None:
    """With what the command says, masked; whatever it exits with."""
    answer = json.dumps({"error": kind, "message": "because canary \x1b[31m"})
    scripted.runs("activate", f"import sys; print({answer!r}); sys.exit({exits})")
    port = CommandDeployments(scripted.open())
    with pytest.raises(ERRORS[kind][0]) as caught:
        port.activate("v2", message="x")
    assert caught.value.exit_code == ERRORS[kind][1]
    assert caught.value.what.startswith("because ***")
    assert "\x1b" not in caught.value.what


@pytest.mark.parametrize("shown", [LIVE, OTHER, {**NEXT, "shares": LIVE["shares"]}, None])
def test_a_switch_that_current_does_not_show_was_not_made(scripted: Scripted, shown: object) -> None:
    """Another deployment, another version, none: it may be live or not, and nothing is claimed."""
    scripted.answers("activate", {"deployment": NEXT})
    current = [{"application": "shop", "deployment": each} for each in (LIVE, shown)]
    scripted.answers("current", *current)
    with pytest.raises(ProviderUnavailable, match="not what was made live"):
        CommandDeployments(scripted.open()).activate("v2", message="x")


def test_a_lost_answer_is_found_in_the_history(scripted: Scripted) -> None:
    """The command was killed after the switch: what is live says that it happened."""
    port = CommandDeployments(scripted.open())
    port.history()
    scripted.runs("activate", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(ProviderUnavailable, match="was killed"):
        port.activate("v2", message="[backout r-1]")
    scripted.answers("current", {"application": "shop", "deployment": {**NEXT, "message": "[backout r-1]"}})
    assert [(each.id, each.message) for each in port.history()] == [("d2", "[backout r-1]"), ("d1", "")]


def test_what_somebody_made_live_in_another_way_is_shown_as_such(scripted: Scripted) -> None:
    """An old deployment that `current` names again is not the one of then."""
    scripted.answers("history", {"versions": BUILDS, "deployments": [NEXT, LIVE]})
    top, second, third = CommandDeployments(scripted.open()).history()
    assert (top.id, top.triggered_by, top.sole, second.id, third.id) == ("hand-d1", "hand", "v1", "d2", "d1")
    assert top.created_at > second.created_at


def test_where_nothing_is_live_nothing_is(scripted: Scripted) -> None:
    """Whatever the history says; the first switch says that nothing is."""
    scripted.answers("current", *({"application": "shop", "deployment": each} for each in (None, NEXT)))
    scripted.answers("activate", {"deployment": NEXT})
    port = CommandDeployments(scripted.open())
    assert port.history() == ()
    assert port.activate("v2", message="x").id == "d2"
    assert scripted.get_asked("activate")[0]["if_current"] is None


IMPOSSIBLE: dict[str, dict[str, object]] = {
    "a sum": {**LIVE, "shares": [{"version": "v1", "percentage": 90}]},
    "a version twice": {**LIVE, "shares": [{"version": "v1", "percentage": 50}] * 2},
    "no shares": {**LIVE, "shares": []},
    "a share": {**LIVE, "shares": [{"version": "v1", "percentage": 101}]},
    "a time": {**LIVE, "created_at": "yesterday"},
    "an id": {**LIVE, "id": "d 1; rm"},
    "a version": {**LIVE, "shares": [{"version": "--force", "percentage": 100}]},
}


@pytest.mark.parametrize("what", list(IMPOSSIBLE))
def test_impossible_values_are_no_answer(scripted: Scripted, what: str) -> None:
    """Of what is live, and of the history alike."""
    scripted.answers("current", {"application": "shop", "deployment": IMPOSSIBLE[what]})
    with pytest.raises(ProviderUnavailable):
        CommandDeployments(scripted.open()).history()


def test_lists_that_are_not_newest_first_are_no_answer(scripted: Scripted) -> None:
    """Nor those that hold something twice."""
    for deployments, builds in (([LIVE, NEXT], BUILDS), ([LIVE, LIVE], BUILDS), ([LIVE], BUILDS[::-1])):
        scripted.answers("history", {"versions": builds, "deployments": deployments})
        ask = (
            CommandVersions(scripted.open()).recent if builds != BUILDS else CommandDeployments(scripted.open()).history
        )
        with pytest.raises(ProviderUnavailable):
            ask()


def test_without_a_command_for_shares_the_traffic_is_not_split(scripted: Scripted) -> None:
    """Nor are there cohorts with one; nothing is asked."""
    scripted.without = {"shares"}
    port, halves = CommandDeployments(scripted.open()), (Share(VersionId("v1"), 50.0), Share(VersionId("v2"), 50.0))
    with pytest.raises(NoSplit, match="no command"):
        port.deploy(halves, message="x")
    with pytest.raises(NoSplit, match="cohorts"):
        port.deploy(whole("v2"), message="x", cohorts=(Cohort("employees", whole("v1")),))
    assert not (scripted.folder / "current.asked").exists()


def test_a_split_is_asked_for_with_its_shares(scripted: Scripted) -> None:
    """One at 0 % included."""
    split = {**NEXT, "shares": [{"version": "v1", "percentage": 100}, {"version": "v2", "percentage": 0}]}
    scripted.answers("shares", {"deployment": split})
    scripted.answers("current", *({"application": "shop", "deployment": each} for each in (LIVE, split)))
    made = CommandDeployments(scripted.open()).deploy((*whole("v1"), Share(VersionId("v2"), 0.0)), message="x")
    assert [(each.version, each.percentage) for each in made.shares] == [("v1", 100.0), ("v2", 0.0)]
    assert scripted.get_asked("shares")[0]["shares"] == split["shares"]


def test_versions_are_as_they_are_said(scripted: Scripted) -> None:
    """Their place in the list is their number where none is said."""
    newest, oldest = CommandVersions(scripted.open()).recent()
    assert (newest.id, newest.number, newest.git_sha) == ("v2", 2, "b" * 40)
    assert (oldest.id, oldest.number, oldest.code_hash) == ("v1", 1, None)
