"""`--no-commands`: what a configuration names is not run, and what needs it says so."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_shell import backout

from backout import config

from private import write_private
from twin_harness import ACCOUNT, TOKEN, running_api
from workflow_runner import read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twin_harness import Api

ROOT = Path(__file__).parents[2]
GIVEN = {"CLOUDFLARE_API_TOKEN": TOKEN, "MAIN_DB": "postgresql://a:b@127.0.0.1:1/x"}
PROGRAM = "run-me-and-be-sorry"
JOBS = (
    '[environments.production.platform.caddy]\nreleases = "r"\nrun = "x"\n'
    "[environments.production.platform.caddy.jobs]\n"
)
NAMED = {
    "database.binaries": f'[environments.production.database]\nbinaries = "{PROGRAM}"\n',
    "database.backup.pgbackrest.config":
        f'[environments.production.database]\nbackup.pgbackrest = {{ stanza = "main", config = "{PROGRAM}" }}\n',
    "database.server.start":
        f'[environments.production.database]\nserver = {{ data_directory = "d", start = "{PROGRAM}", stop = "x" }}\n',
    "database.server.stop":
        f'[environments.production.database]\nserver = {{ data_directory = "d", start = "x", stop = "{PROGRAM}" }}\n',
    "secrets.source.command":
        f'[environments.production.secrets]\nsource = {{ from = "command", command = ["{PROGRAM}"]}}\n',
    "platform.caddy.jobs.start":
        f'{JOBS}start = "{PROGRAM}"\nstop = "x"\nshow = "x"\n',
    "platform.caddy.jobs.stop":
        f'{JOBS}start = "x"\nstop = "{PROGRAM}"\nshow = "x"\n',
    "platform.caddy.jobs.show":
        f'{JOBS}start = "x"\nstop = "x"\nshow = "{PROGRAM}"\n',
    "platform.caddy.run": f'[environments.production.platform.caddy]\nreleases = "r"\nrun = "{PROGRAM}"\n',
    "platform.caddy.ssh_config":
        f'[environments.production.platform.caddy]\nreleases = "r"\nrun = "x"\nssh_config = "{PROGRAM}"\n',
    "platform.caddy.start":
        f'[environments.production.platform.caddy]\nreleases = "r"\nstart = "{PROGRAM}"\nstop = "x"\n',
    "platform.caddy.stop":
        f'[environments.production.platform.caddy]\nreleases = "r"\nstart = "x"\nstop = "{PROGRAM}"\n',
    "platform.command.history": f'[environments.production.platform.command]\nhistory = ["{PROGRAM}"]\n',
    "platform.command.current": f'[environments.production.platform.command]\ncurrent = ["{PROGRAM}"]\n',
    "platform.command.activate": f'[environments.production.platform.command]\nactivate = ["{PROGRAM}"]\n',
    "platform.command.shares": f'[environments.production.platform.command]\nshares = ["{PROGRAM}"]\n',
    "platform.command.probe": f'[environments.production.platform.command]\nprobe = ["{PROGRAM}"]\n',
    "deploy.command": f'[environments.production.deploy]\ncommand = "{PROGRAM}"\n',
}  # fmt: skip
"""A file for each key that can run a program."""


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with running_api(tmp_path) as found:
        found.upload("fm5")
        yield found


def write_config(folder: Path, more: str, api: str = "https://api.cloudflare.com") -> None:
    url = "provider = 'postgres'\nurl_env = 'MAIN_DB'"
    with_database = more.replace("production.database]", f"production.database]\n{url}")
    place = f'account_id = "{ACCOUNT}"\napi_base_url = "{api}/client/v4"'
    platform = f'[environments.production.platform]\nprovider = "cloudflare"\nscript = "fm5"\n{place}'
    text = f'[app]\nname = "fm5"\n{platform}\n{with_database}'
    write_private(folder / "backout.toml", text)


def a_program(folder: Path) -> Path:
    """Return a script that leaves a trace of having been run."""
    path = folder / "program"
    path.write_text(f"#!/bin/sh\ntouch {folder}/was-run\necho A=a-value\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("key", list(NAMED))
def test_nothing_of_it_is_left_in_the_settings(tmp_path: Path, key: str) -> None:
    """So no code can run it by accident; without the flag it is there, and a person's own variable stays."""
    write_config(tmp_path, NAMED[key])
    shown = backout(tmp_path, "config", "show", "--json")
    assert PROGRAM in shown.out
    assert PROGRAM not in backout(tmp_path, "config", "show", "--json", "--no-commands").out
    assert PROGRAM not in backout(tmp_path, "--no-commands", "config", "show").out


def test_what_a_person_set_himself_is_not_the_files(tmp_path: Path) -> None:
    """A variable of the process is no part of the pull request."""
    write_config(tmp_path, NAMED["deploy.command"])
    given = {"BACKOUT_DEPLOY_COMMAND": "make deploy"}
    shown = backout(tmp_path, "config", "show", "--no-commands", variables=given).out
    assert "make deploy" in shown
    assert PROGRAM not in shown


def test_a_read_only_command_runs_no_source_of_secrets(tmp_path: Path, api: Api) -> None:
    """`secrets push --dry-run` asks the command of the file; with the flag it says what it did not do."""
    program = a_program(tmp_path)
    write_config(tmp_path, NAMED["secrets.source.command"].replace(PROGRAM, str(program)), api.url)
    line = ("secrets", "push", "-e", "production", "--dry-run", "--json")
    refused = backout(tmp_path, *line, "--no-commands", variables=GIVEN)
    assert not (tmp_path / "was-run").exists()
    assert refused.code == 3
    assert "secrets.source.command names a program" in str(refused.json["what"])
    assert "leave out --no-commands" in str(refused.json["hint"])
    backout(tmp_path, *line, variables=GIVEN)
    assert (tmp_path / "was-run").exists()


def test_a_typed_command_is_not_run_either(tmp_path: Path, api: Api) -> None:
    """None means none: two flags that contradict each other are no way around."""
    program = a_program(tmp_path)
    write_config(tmp_path, "", api.url)
    line = ("secrets", "push", "A", "-e", "production", "--dry-run", "--from-command", str(program))
    assert backout(tmp_path, *line, "--no-commands", variables=GIVEN).code == 3
    assert not (tmp_path / "was-run").exists()


def test_no_deploy_command_is_run(tmp_path: Path, api: Api) -> None:
    """Exit 3 before a plan is made."""
    program = a_program(tmp_path)
    write_config(tmp_path, NAMED["deploy.command"].replace(PROGRAM, str(program)), api.url)
    line = ("roll-forward", "-e", "production", "-m", "x", "--confirm", "production")
    refused = backout(tmp_path, *line, "--no-commands", variables=GIVEN)
    assert (refused.code, (tmp_path / "was-run").exists()) == (3, False)
    assert "deploy.command names a program" in refused.err


def test_no_programs_of_a_folder_are_run(tmp_path: Path) -> None:
    """`database.binaries`: with the flag the machine's own Postgres is taken, and the command goes on where it can."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("postgres", "initdb", "pg_ctl", "pg_basebackup", "pg_receivewal", "pg_dump", "pg_restore"):
        (folder / name).symlink_to(a_program(tmp_path))
    write_config(tmp_path, NAMED["database.binaries"].replace(PROGRAM, str(folder)))
    checked = backout(tmp_path, "db", "check", "-e", "production", "--no-commands", variables=GIVEN)
    assert checked.code != 2, checked.err
    assert not (tmp_path / "was-run").exists()
    backout(tmp_path, "db", "check", "-e", "production", variables=GIVEN)
    assert (tmp_path / "was-run").exists()


def test_another_tools_configuration_is_not_read(tmp_path: Path) -> None:
    """PgBackRest's own file can name programs: what needs it is refused, not answered from another repository."""
    write_config(tmp_path, NAMED["database.backup.pgbackrest.config"])
    found = backout(tmp_path, "db", "backups", "list", "-e", "production", "--no-commands", variables=GIVEN)
    assert found.code == 3
    assert "database.backup.pgbackrest.config names a program" in found.err


def test_a_command_that_goes_on_with_a_doubtful_file_runs_nothing_of_it(tmp_path: Path) -> None:
    """`panic` and `card` go on with a file that others could have written, without its programs."""
    write_config(tmp_path, NAMED["deploy.command"])
    (tmp_path / "backout.toml").chmod(0o666)
    found = config.load(config.Environment(), start=tmp_path, on_doubt=lambda _doubt: None)
    assert found.environment.deploy.command is None
    assert found.no_commands


# --- the action ------------------------------------------------------------------------------------------------------

STEP = read_yaml((ROOT / "action.yml").read_text(encoding="utf-8"))["runs"]["steps"][-1]


def arguments_of(tmp_path: Path, event: str, commands: str) -> list[str]:
    """Return the arguments that the action's step gives to backout."""
    recorder = tmp_path / "python"
    recorder.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/arguments\n')
    recorder.chmod(0o755)
    variables = dict.fromkeys(STEP["env"], "") | {"PYTHON": str(recorder), "COMMANDS": commands, "GATE": "true"}
    variables |= {
        "ENVIRONMENT": "production",
        "GITHUB_EVENT_NAME": event,
        "GITHUB_SHA": "0" * 40,
        "PATH": "/usr/bin:/bin",
    }
    variables |= {name: str(tmp_path / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    (tmp_path / "GITHUB_OUTPUT").touch()
    subprocess.run(["/usr/bin/env", "bash", "-e", "-c", STEP["run"]], env=variables, check=True, capture_output=True)
    return (tmp_path / "arguments").read_text().split()


@pytest.mark.parametrize(
    ("event", "commands", "without"),
    [
        ("push", "auto", False), ("workflow_dispatch", "auto", False), ("deployment", "auto", False),
        ("pull_request", "auto", True), ("pull_request_target", "auto", True), ("pull_request_review", "auto", True),
        ("issue_comment", "auto", True), ("workflow_run", "auto", True),
        ("pull_request", "true", False), ("push", "false", True), ("push", "nonsense", True),
    ],
)  # fmt: skip
def test_the_action_runs_no_program_of_a_pull_request(tmp_path: Path, event: str, commands: str, without: bool) -> None:
    """The default asks what started the workflow; an input decides otherwise, and a wrong one runs nothing."""
    assert ("--no-commands" in arguments_of(tmp_path, event, commands)) is without
