"""The environments of our children, the names of secret variables, and how a module of ours is started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from backout.config.schema import EnvironmentSettings
from backout.config.schema.environment import Backup, Platform
from backout.config.schema.notify import NotifySmtp
from backout.config.secret_names import list_secret_variables
from backout.providers.child_environment import (
    make_bare_environment,
    make_module_command,
    make_sealed_environment,
    make_team_environment,
)

SOURCE = Path(__file__).parents[2] / "src" / "backout"


def test_a_bare_environment_has_what_programs_need_and_what_is_named() -> None:
    ours = {
        "PATH": "/bin",
        "LC_ALL": "C",
        "TZ": "UTC",
        "PGPASSWORD": "x",
        "A": "1",
        "API_TOKEN": "t",
        "DATABASE_URL": "u",
    }
    made = make_bare_environment({"B": "2"}, passed=("A", "NOT_THERE"), variables=ours)
    assert made == {"PATH": "/bin", "LC_ALL": "C", "TZ": "UTC", "A": "1", "B": "2"}
    assert make_sealed_environment({"B": "2"}) == {"B": "2"}
    assert make_team_environment(ours, without=("A", "TOKEN")).keys() == ours.keys() - {"A", "TOKEN"}


def test_the_names_of_secret_variables_are_found_wherever_the_settings_name_them() -> None:
    """Every key that ends in `_env`, and the header's table; `..._FILE` as well."""
    platform = Platform(provider="cloudflare", account_id="0" * 32, script="shop", token_env="A", read_token_env="B")
    settings = EnvironmentSettings(platform=platform)
    assert list_secret_variables(settings) == {"A", "A_FILE", "B", "B_FILE"}
    assert list_secret_variables({"x": [Backup(key_env="K")]}) == {"K", "K_FILE"}
    smtp = NotifySmtp(host="h", sender="a@b.c", to=("a@b.c",), user="u", password_env="P")
    assert list_secret_variables((smtp, settings)) == {"P", "P_FILE", "A", "A_FILE", "B", "B_FILE"}


def test_a_module_of_ours_starts_from_where_we_were_found(tmp_path: Path) -> None:
    """Isolated; where PYTHONPATH led to us, its one folder is let in again."""
    assert make_module_command("backout", "--version")[1:] == ("-I", "-m", "backout", "--version")
    place = tmp_path / "elsewhere"
    shutil.copytree(SOURCE, place / "backout", ignore=shutil.ignore_patterns("__pycache__"))
    (place / "backout" / "__init__.py").write_text('__version__ = "elsewhere"\n')
    program = "import subprocess\nfrom backout.providers.child_environment import *\n"
    program += "subprocess.run(make_module_command('backout', '--version'), env=make_bare_environment(), check=True)"
    own = {**os.environ, "PYTHONPATH": str(place)}
    done = subprocess.run((sys.executable, "-c", program), env=own, capture_output=True, text=True, check=True)
    assert done.stdout == "backout elsewhere\n"
