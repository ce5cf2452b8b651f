"""`backout init` takes what wrangler deploys: a build's configuration, and the right one of two Workers."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import pytest
from cli_shell import backout

from backout import config
from backout.wiring import declared
from backout.wiring.checkup import list_lanes

if TYPE_CHECKING:
    from pathlib import Path

TOP = "wrangler deploy"
ACCOUNT = {"account_id": "0123"}
BOTH = {"name": "shop", **ACCOUNT, "env": {"production": {"route": "shop.example.com/*"}, "staging": {}}}


def lay(folder: Path, **files: object) -> None:
    """Write JSON files; `__` in a name is a folder."""
    for name, content in files.items():
        path = folder / f"{name.replace('__', '/')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))


def build(folder: Path, generated: dict[str, object]) -> None:
    """Leave what a framework's build leaves."""
    lay(folder, dist__shop__wrangler=generated)
    redirect = folder / ".wrangler" / "deploy" / "config.json"
    redirect.parent.mkdir(parents=True)
    redirect.write_text('{"configPath": "../../dist/shop/wrangler.json"}')


def environments(folder: Path) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = tomllib.loads((folder / "backout.toml").read_text())["environments"]
    return found


def scripts_of(folder: Path) -> dict[str, object]:
    return {name: each["platform"]["script"] for name, each in environments(folder).items()}  # type: ignore[index]


def test_the_configuration_of_a_build_is_what_is_deployed(tmp_path: Path) -> None:
    """Its name is composed already, its bindings count, and it says for which environment it was built."""
    lay(tmp_path, wrangler={"name": "shop", **ACCOUNT, "env": {"staging": {}}})
    generated = {"name": "shop-renamed", **ACCOUNT, "topLevelName": "shop", "route": "www.example.com/*"}
    build(
        tmp_path, {**generated, "r2_buckets": [{"binding": "B", "bucket_name": "files"}], "vars": {"JWT_SECRET": "1"}}
    )
    (tmp_path / ".env.example").write_text("JWT_SECRET=\nMAIL_KEY=\n")
    answer = backout(tmp_path, "init", "--json")
    assert answer.code == 0, answer.err
    production = environments(tmp_path)["production"]
    assert scripts_of(tmp_path) == {"production": "shop-renamed", "staging": "shop-staging"}
    assert production["storage"] == {"provider": "r2", "bucket": "files"}
    assert production["health"] == {"url": "https://www.example.com/health"}
    assert production["secrets"] == {"example": ".env.example", "required": ["MAIL_KEY"]}
    assert answer.json["redirected"] == str(tmp_path / "dist" / "shop" / "wrangler.json")
    assert "production (Worker shop-renamed) as its build configures it" in answer.err
    assert "staging as wrangler.json has it" in answer.err


def test_a_build_for_an_environment_is_that_environment(tmp_path: Path) -> None:
    """And `wrangler deploy` deploys it, without --env."""
    lay(tmp_path, wrangler=BOTH, package={"scripts": {"deploy": "wrangler deploy"}})
    build(tmp_path, {"name": "shop-live", **ACCOUNT, "targetEnvironment": "production", "route": "shop.example.com/*"})
    assert backout(tmp_path, "init").code == 0
    assert scripts_of(tmp_path) == {"production": "shop-live", "staging": "shop-staging"}
    assert environments(tmp_path)["production"]["deploy"] == {"command": "npm run deploy"}
    assert "deploy" not in environments(tmp_path)["staging"]


def test_a_build_without_a_wrangler_file_of_the_team_is_enough(tmp_path: Path) -> None:
    """Some frameworks need none."""
    build(tmp_path, {"name": "shop", **ACCOUNT})
    assert backout(tmp_path, "init").code == 0
    assert scripts_of(tmp_path) == {"production": "shop"}


@pytest.mark.parametrize(
    ("redirect", "said"),
    [
        ('{"configPath": "../../gone.json"}', "configPath leads to ../../gone.json, which is not there"),
        ("{}", "it has no configPath"),
        ("{", "JSON"),
    ],
    ids=["gone", "empty", "broken"],
)
def test_a_redirect_to_nowhere_is_a_mistake_with_what_to_do(tmp_path: Path, redirect: str, said: str) -> None:
    """As it is for wrangler, which would not deploy; the team's own file is not taken in its place."""
    lay(tmp_path, wrangler=BOTH)
    build(tmp_path, {})
    (tmp_path / ".wrangler" / "deploy" / "config.json").write_text(redirect)
    answer = backout(tmp_path, "init")
    assert (answer.code, said in answer.err) == (78, True), answer.err
    assert not (tmp_path / "backout.toml").exists()


def test_a_build_of_a_pages_project_is_no_worker(tmp_path: Path) -> None:
    lay(tmp_path, wrangler=BOTH)
    build(tmp_path, {"name": "shop", "pages_build_output_dir": "."})
    answer = backout(tmp_path, "init")
    assert (answer.code, "this is a Pages project" in answer.err) == (78, True)


@pytest.mark.parametrize(
    ("scripts", "production", "left_out"),
    [
        ({}, "shop-production", "shop"),
        ({"deploy": "./deploy.sh"}, "shop-production", "shop"),
        ({"deploy": "wrangler deploy --env=production"}, "shop-production", "shop"),
        ({"deploy": "wrangler deploy"}, "shop", "shop-production"),
        ({"deploy": TOP, "deploy:production": "npm run deploy -- -e production"}, "shop-production", "shop"),
        ({"deploy": TOP, "deploy:production": "npm run check && pnpm deploy"}, "shop", "shop-production"),
        ({"deploy": TOP, "deploy:production": "wrangler deploy -e production"}, "shop-production", "shop"),
        (
            {"build": "CLOUDFLARE_ENV=production vite build", "deploy": f"yarn build && {TOP}"},
            "shop-production",
            "shop",
        ),
    ],
)
def test_which_of_two_workers_is_production_is_said(
    tmp_path: Path, scripts: dict[str, str], production: str, left_out: str
) -> None:
    """A top-level Worker beside `env.production`: what the team's own script deploys, else the environment."""
    lay(tmp_path, wrangler=BOTH, package={"scripts": scripts})
    answer = backout(tmp_path, "init", "--json")
    assert scripts_of(tmp_path) == {"production": production, "staging": "shop-staging"}
    assert answer.json["left_out"] == left_out
    assert f"production is the Worker {production} (`wrangler deploy" in answer.err
    assert f"{left_out} (`wrangler deploy" in answer.err


def test_a_script_that_deploys_another_worker_is_not_an_environments(tmp_path: Path) -> None:
    """`npm run deploy` for staging would have deployed production."""
    wrangler = {"name": "shop", **ACCOUNT, "env": {"staging": {"vars": {"APP_URL": "https://staging.example.com"}}}}
    lay(tmp_path, wrangler=wrangler, package={"scripts": {"deploy": "wrangler deploy"}})
    assert backout(tmp_path, "init").code == 0
    assert environments(tmp_path)["production"]["deploy"] == {"command": "npm run deploy"}
    assert "deploy" not in environments(tmp_path)["staging"]


def test_doctor_says_where_wrangler_deploys_another_worker(tmp_path: Path) -> None:
    """What a build renamed is not what backout watches; schedules and queues are those of the build."""
    lay(tmp_path, wrangler={"name": "shop", **ACCOUNT, "triggers": {"crons": ["1 1 * * *"]}})
    assert backout(tmp_path, "init").code == 0
    build(tmp_path, {"name": "shop", **ACCOUNT, "triggers": {"crons": ["2 2 * * *"]}})
    loaded = config.load(config.Environment({}), start=tmp_path, environment="production", flags={})
    assert declared.list_declared(loaded) == {"cron 2 2 * * *"}
    assert declared.explain_other_worker(loaded) == ""
    lay(tmp_path, dist__shop__wrangler={"name": "shop-2"})
    said = declared.explain_other_worker(loaded)
    assert said.startswith("platform.script is shop, and wrangler deploys shop-2 from here (of the build in ")
    (check,) = list_lanes(loaded)[0][0].ask()
    assert (check.state, said in check.why) == ("missing", True)


BOUND = {"binding": "DB", "database_name": "notes", "database_id": "6a1e6c1e"}
FOUND = {"provider": "d1", "database_id": "6a1e6c1e", "migrations": "d1"}
POSTGRES = {"provider": "postgres", "url_env": "DATABASE_URL", "migrations": "none"}


@pytest.mark.parametrize(
    ("bound", "beside", "found"),
    [
        (BOUND, {}, FOUND),
        ({**BOUND, "migrations_dir": "db/d1"}, {}, {**FOUND, "migrations_path": "db/d1"}),
        ({**BOUND, "migrations_table": "moves"}, {}, {**FOUND, "migrations": "none"}),
        (BOUND, {"hyperdrive": [{"binding": "PG", "id": "1"}]}, POSTGRES),
        ({"binding": "DB", "database_name": "notes"}, {}, None),
    ],
)
def test_a_d1_database_is_the_environments_database(
    tmp_path: Path, bound: dict[str, str], beside: dict[str, object], found: dict[str, str] | None
) -> None:
    """With its migrations where their history can be read; Postgres goes before it; one without an id is not there."""
    lay(tmp_path, wrangler={"name": "shop", **ACCOUNT, "d1_databases": [bound], **beside})
    assert backout(tmp_path, "init").code == 0
    production = environments(tmp_path)["production"]
    assert (production.get("database"), "services" in production) == (found, found is not None)
    warned = backout(tmp_path, "config", "check").out
    assert "not pinned" in warned
    assert ("database_system_identifier" in warned) == (found is POSTGRES)
