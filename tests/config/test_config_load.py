"""Where settings come from, in which order, and how secrets are found without being shown."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from backout import config
from backout.errors import AuthError, ConfigError, UsageError
from backout.model.guard.policy import Mode

from private import write_private

TEXT = """[app]
name = "fm5"
[environments.production]
platform = { provider = "cloudflare", script = "fm5-production" }
health = { url = "https://fm5.example.com/health", headers = { A = "b" }, headers_env = { Authorization = "HEALTH" } }
database = { provider = "postgres", url_env = "DATABASE_URL" }
[environments.production.guard]
mode = "ask"
[environments.staging]
platform = { provider = "cloudflare", script = "fm5-staging", account_id = "abc", token_file = "token" }
"""


def load(
    folder: Path, variables: dict[str, str] | None = None, environment: str | None = None, **flags: str
) -> config.Config:
    (folder / "backout.toml").write_text(TEXT)
    given = {key.replace("__", "."): value for key, value in flags.items()}
    return config.load(config.Environment(variables or {}), start=folder, environment=environment, flags=given)


def test_flags_win_over_variables_over_the_file_over_defaults(tmp_path: Path) -> None:
    """guard.mode comes from the nearest of the four."""
    act = {"BACKOUT_GUARD_MODE": "act"}
    assert load(tmp_path, act, "production", guard__mode="observe").policy.guard.mode is Mode.OBSERVE
    assert load(tmp_path, act, "production").policy.guard.mode is Mode.ACT
    assert load(tmp_path, {}, "production").policy.guard.mode is Mode.ASK
    assert load(tmp_path, {}, "staging").policy.guard.mode is Mode.OBSERVE


def test_variables_and_flags_have_the_types_of_their_keys(tmp_path: Path) -> None:
    """Text from outside becomes a number, a truth value, a list or a duration where the key is one."""
    variables = {
        "BACKOUT_GUARD_DOWN_PROBES": "5",
        "BACKOUT_GUARD_ACCEPT_UNPROVEN": "true",
        "BACKOUT_GUARD_WARM_UP": "1.5",
        "BACKOUT_SECRETS_REQUIRED": "A,B",
        "BACKOUT_PLATFORM_ACCOUNT_ID": "123",
        "BACKOUT_JOURNAL_PATH": "elsewhere.sqlite",
    }
    loaded = load(tmp_path, variables, "production", criteria__watch="90")
    guard = loaded.policy.guard
    assert (guard.down_probes, guard.accept_unproven, guard.warm_up_s) == (5, True, 1.5)
    assert loaded.environment.secrets.required == ("A", "B")
    assert loaded.account_id == "123"
    assert loaded.policy.criteria.watch_s == 90.0
    assert loaded.settings.journal.path == tmp_path / "elsewhere.sqlite"


def test_a_wrong_variable_is_a_mistake_that_names_the_variable(tmp_path: Path) -> None:
    """The file is not blamed for what the environment says."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, {"BACKOUT_GUARD_MODE": "panic"}, "production", criteria__watch="soon")
    assert [mistake.split(": ")[0] for mistake in caught.value.mistakes] == ["--watch", "BACKOUT_GUARD_MODE"]


def test_the_environment_is_chosen_by_flag_then_variable_then_by_being_the_only_one(tmp_path: Path) -> None:
    """Several and no choice is a question with the names in it."""
    assert load(tmp_path, {"BACKOUT_ENVIRONMENT": "staging"}, "production").name == "production"
    assert load(tmp_path, {"BACKOUT_ENVIRONMENT": "staging"}).name == "staging"
    with pytest.raises(UsageError, match="which environment") as caught:
        _ = load(tmp_path).name
    assert caught.value.hint == "add -e NAME, one of: production, staging"
    with pytest.raises(UsageError, match="did you mean 'staging'"):
        load(tmp_path, {}, "stagin")


def test_the_file_is_found_from_below_by_variable_and_by_flag(tmp_path: Path) -> None:
    """Relative paths inside it are meant from its own folder, wherever the command was typed."""
    below = tmp_path / "src" / "deep"
    below.mkdir(parents=True)
    load(tmp_path)
    found = config.load(config.Environment(), start=below, environment="staging")
    assert found.path == tmp_path / "backout.toml"
    assert found.environment.platform.token_file == tmp_path / "token"
    assert found.settings.incidents.directory == tmp_path / ".ai/incidents"
    assert found.settings.journal.path == tmp_path / ".backout/journal.sqlite"
    by_variable = config.Environment({"BACKOUT_CONFIG": str(tmp_path / "backout.toml")})
    assert config.load(by_variable, start=Path("/")).path == tmp_path / "backout.toml"
    with pytest.raises(UsageError) as caught:
        config.load(by_variable, start=tmp_path, path=tmp_path / "none.toml")
    assert caught.value.exit_code == 2


def test_origins_say_who_set_each_value(tmp_path: Path) -> None:
    """A line of the file, a variable, a flag or the default."""
    loaded = load(tmp_path, {"BACKOUT_GUARD_BASELINE": "2h"}, "production", criteria__watch="5m")
    origins = {value.key.removeprefix("environments.production."): value.origin for value in loaded.values()}
    assert origins["guard.mode"] == "backout.toml:8"
    assert origins["health.headers.A"] == "backout.toml:5"
    assert origins["guard.baseline"] == "BACKOUT_GUARD_BASELINE"
    assert origins["criteria.watch"] == "--watch"
    assert origins["guard.min_bad"] == "default"
    assert not any("staging" in key for key in origins)


def test_alpha_comes_from_the_yearly_figures_and_stays_in_its_range(tmp_path: Path) -> None:
    """One false rollback in 3650 deployments a year; never below 1e-6, never above 5 %; alpha itself wins."""
    assert load(tmp_path, {}, "staging").policy.guard.alpha == pytest.approx(1 / 3650)
    assert load(tmp_path, {}, "staging", guard__deployments_per_year="2").policy.guard.alpha == 0.05
    assert load(tmp_path, {}, "staging", guard__deployments_per_year="1e9").policy.guard.alpha == 1e-6
    assert load(tmp_path, {}, "staging", guard__alpha="0.002").policy.guard.alpha == 0.002


def test_production_is_protected_by_its_name(tmp_path: Path) -> None:
    """A name that says production is; another one only when it is written down."""
    assert load(tmp_path, {}, "production").protected
    assert not load(tmp_path, {}, "staging").protected


def test_the_token_comes_from_the_variable_its_file_or_a_credential(tmp_path: Path) -> None:
    """NAME, then NAME_FILE, then systemd's credential NAME."""
    name = "CLOUDFLARE_API_TOKEN"
    write_private(tmp_path / name, "from-credential\n")
    write_private(tmp_path / "given", "from-file\n")
    credential = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    file = {f"{name}_FILE": str(tmp_path / "given"), **credential}
    assert load(tmp_path, credential, "production").token().reveal() == "from-credential"
    assert load(tmp_path, file, "production").token().reveal() == "from-file"
    assert load(tmp_path, {name: "plain", **file}, "production").token().reveal() == "plain"


def test_a_token_file_of_the_configuration_is_not_overruled_by_the_default_variable(tmp_path: Path) -> None:
    """A developer's real token never reaches an environment whose file names its own."""
    write_private(tmp_path / "token", "twin-token")
    assert load(tmp_path, {"CLOUDFLARE_API_TOKEN": "real"}, "staging").token().reveal() == "twin-token"


@pytest.mark.parametrize("content", [None, b"", b"  \n", b"\xff\xfe", b"x" * 70_000])
def test_a_missing_or_unusable_token_is_exit_4_and_says_what_to_set(tmp_path: Path, content: bytes | None) -> None:
    """No file, an empty one, no text, an absurdly long one."""
    if content is not None:
        write_private(tmp_path / "token", content)
    with pytest.raises(AuthError) as caught:
        load(tmp_path, {}, "staging").token()
    assert caught.value.exit_code == 4
    with pytest.raises(AuthError) as caught:
        load(tmp_path, {}, "production").token()
    assert "CLOUDFLARE_API_TOKEN is not set" in caught.value.what
    assert "CLOUDFLARE_API_TOKEN_FILE" in (caught.value.hint or "")


def test_the_account_falls_back_to_wranglers_variable(tmp_path: Path) -> None:
    """Neither of both is a configuration error that names the key."""
    assert load(tmp_path, {"CLOUDFLARE_ACCOUNT_ID": "xyz"}, "production").account_id == "xyz"
    assert load(tmp_path, {"CLOUDFLARE_ACCOUNT_ID": "xyz"}, "staging").account_id == "abc"
    with pytest.raises(ConfigError) as caught:
        _ = load(tmp_path, {}, "production").account_id
    assert caught.value.mistakes == (
        "backout.toml: environments.production.platform.account_id: not set, and CLOUDFLARE_ACCOUNT_ID neither",
    )
    assert caught.value.what == "the configuration is not complete: CLOUDFLARE_ACCOUNT_ID is not set"


def test_secrets_are_told_to_the_mask_and_shown_by_nothing(tmp_path: Path) -> None:
    """repr, str, format, the configuration's own repr and its listing hold no secret; pickling refuses."""
    told: list[str] = []
    (tmp_path / "backout.toml").write_text(TEXT)
    canaries = {
        "CLOUDFLARE_API_TOKEN": "canary-one",
        "DATABASE_URL": "postgres://u:canary-two@h/d",
        "HEALTH": "canary-3",
    }
    variables = config.Environment(canaries, told.append)
    loaded = config.load(variables, start=tmp_path, environment="production")
    secrets = (loaded.token(), loaded.database_url())
    headers = loaded.health_headers()
    assert list(dict.fromkeys(told)) == list(canaries.values())
    assert headers == {"A": "b", "Authorization": "canary-3"}
    shown = f"{secrets} {secrets[0]} {secrets[0]!r} {loaded!r} {variables!r} {list(loaded.values())}"
    assert "canary" not in shown
    for copier in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            copier(secrets[0])


def test_warnings_name_what_is_not_set_up_and_variables_that_set_nothing(tmp_path: Path) -> None:
    """A misspelt variable is not an error (it may be another program's), but it is said."""
    loaded = load(tmp_path, {"BACKOUT_GUARD_MOED": "act", "CLOUDFLARE_ACCOUNT_ID": "x"}, "staging", guard__mode="act")
    warnings = tuple(config.list_warnings(loaded))
    assert "BACKOUT_GUARD_MOED sets nothing, did you mean 'BACKOUT_GUARD_MODE'?" in warnings
    assert "environments.staging: guard.mode is 'act', but there is nothing to decide on" in warnings
    assert any("environments.production: traffic is not set up" in warning for warning in warnings)


def test_a_variable_that_the_file_names_is_no_mistake(tmp_path: Path) -> None:
    """The key of the marks stands in a variable that begins with BACKOUT_, by itself or as the path of a file."""
    given = {"BACKOUT_MARKS_KEY": "k" * 32, "BACKOUT_MARKS_KEY_FILE": "/run/key", "CLOUDFLARE_ACCOUNT_ID": "x"}
    (tmp_path / "backout.toml").write_text(
        '[app]\nname = "fm5"\n[environments.staging]\nplatform = { provider = "cloudflare", script = "fm5" }\n'
        '[marks]\nkey_env = "BACKOUT_MARKS_KEY"\n'
    )
    loaded = config.load(config.Environment(given), start=tmp_path, environment="staging")
    assert not any("BACKOUT_MARKS_KEY" in warning for warning in config.list_warnings(loaded))


def test_a_source_that_counts_our_own_requests_is_warned_of(tmp_path: Path) -> None:
    """Prometheus counts whatever the application counted; the recorder knows our header."""
    text = """[app]
name = "a"
[environments.p]
platform = { provider = "cloudflare", script = "s", account_id = "a" }
health = { url = "https://a.example.com/health" }
traffic = { provider = "prometheus", url = "http://127.0.0.1:9090" }
guard = { synthetic = { paths = ["/app"] } }
"""
    for provider, told in (("prometheus", 1), ("tail", 0)):
        (tmp_path / "backout.toml").write_text(text.replace('"prometheus"', f'"{provider}"'), encoding="utf-8")
        loaded = config.load(config.Environment({}), start=tmp_path)
        assert len([w for w in config.list_warnings(loaded) if "guard.synthetic" in w]) == told
        assert (loaded.policy.guard.synthetic, loaded.policy.guard.synthetic_every_s) == (("/app",), 1.0)
