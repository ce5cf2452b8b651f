"""Where a secret may go: to https or this machine, and each kind only where its kind goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from cli_shell import backout

from backout.config.scalars import Url
from backout.config.schema import Settings
from backout.errors import BackoutError, ConfigError, UsageError
from backout.providers.clock import SystemClock
from backout.providers.cloudflare.client import ApiClient
from backout.providers.deadman.ping import HttpDeadMan
from backout.providers.exchange import Origin
from backout.providers.github.client import GitHubClient
from backout.providers.notify.channel import SendFailed
from backout.providers.notify.http_post import Post
from backout.providers.router.client import RouterClient
from backout.providers.s3.sigv4 import S3Credentials
from backout.providers.s3.transport import S3Settings, Transport
from backout.providers.vendor_api import VendorApi

from polling import PATIENCE_S
from private import write_private
from scripted_server import answer, scripted_server
from twin_harness import ACCOUNT, TOKEN, running_api

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from twin_harness import Api

HEALTHY = answer({"status": "ok"})
OPEN = "http://elsewhere.example"
BASE = """[app]
name = "fm5"
[environments.production]
platform = {{ provider = "cloudflare", script = "fm5", account_id = "{account}", api_base_url = "{api}" }}
{more}
"""


def write_config(folder: Path, more: str, api: str = "https://api.cloudflare.com/client/v4") -> None:
    write_private(folder / "backout.toml", BASE.format(account=ACCOUNT, api=api, more=more))


IN_THE_OPEN = {
    "health.url": 'health = { url = "http://app.example/health", headers_env = { Authorization = "HEALTH_KEY" } }',
    "traffic.url": 'traffic = { provider = "prometheus", url = "http://prometheus:9090", token_file = "t" }',
    "ci.api_base_url": 'ci = { provider = "github", repository = "a/b", api_base_url = "http://github.example" }',
    "storage.endpoint": 'storage = { provider = "s3", bucket = "b", endpoint = "http://minio:9000" }',
    "traffic.recorder.url": "traffic = { provider = 'recorder', "
    "recorder = { url = 'http://r.example', secret_env = 'B' } }",
    "traffic.recorder.endpoint": "traffic = { provider = 'recorder', recorder = { bucket = 'b', "
    "endpoint = 'http://s3.example', credentials_env = 'A', secret_env = 'B' } }",
    "database.backup.store.endpoint": "database = { provider = 'postgres', url_env = 'U', "
    "backup = { store = { bucket = 'b', endpoint = 'http://s3.example', credentials_env = 'A' } } }",
    "database.managed.api_base_url": "database = { provider = 'postgres', url_env = 'U', "
    "managed = { provider = 'neon', project = 'p', branch = 'b', api_base_url = 'http://127.0.0.1.example' } }",
    "vendors.status_pages[0]": 'vendors = { status_pages = ["http://status.example"] }',
    "notify.smtp.security": '[notify.smtp]\nhost = "mail.example"\nfrom = "a@b"\nto = ["c@d"]\nsecurity = "none"\n'
    'user = "u"\npassword_env = "P"',
}


@pytest.mark.parametrize("key", list(IN_THE_OPEN))
def test_what_carries_a_credential_or_decides_something_is_https(tmp_path: Path, key: str) -> None:
    """Exit 78 with the key, before anything is asked; the same on loopback is fine."""
    write_config(tmp_path, IN_THE_OPEN[key])
    found = backout(tmp_path, "config", "check")
    assert found.code == 78, found.out
    assert f"{key}: " in found.err
    assert "expected https" in found.err or "a password goes there" in found.err


COUNTS = 'traffic = { provider = "prometheus", url = "http://prometheus:9090" }\n'


def test_counts_on_which_guard_acts_are_https(tmp_path: Path) -> None:
    """Who is on the way could make them: exit 78, by the file or a flag. Where guard only says something, a warning."""
    write_config(tmp_path, COUNTS + "guard = { mode = 'act' }")
    found = backout(tmp_path, "config", "check")
    assert found.code == 78, found.out
    assert "traffic.url: expected https: guard.mode is 'act'" in found.err
    write_config(tmp_path, COUNTS)
    found = backout(tmp_path, "config", "check")
    assert found.code == 0, found.err
    assert "traffic.url is not encrypted" in found.out + found.err
    acting = backout(tmp_path, "guard", "--mode", "act", variables={"CLOUDFLARE_API_TOKEN": "canary"})
    assert (acting.code, "traffic.url: expected https" in acting.err) == (78, True), acting.err
    write_config(tmp_path, (COUNTS + "guard = { mode = 'act' }").replace("http://prometheus", "http://127.0.0.1"))
    assert backout(tmp_path, "config", "check").code == 0


def test_the_platforms_api_is_https(tmp_path: Path) -> None:
    """The token itself: from the file, and from a variable."""
    write_config(tmp_path, "", api="http://api.example/client/v4")
    given = {"CLOUDFLARE_API_TOKEN": "canary"}
    assert "platform.api_base_url: expected https" in backout(tmp_path, "status", variables=given).err
    write_config(tmp_path, "")
    given["BACKOUT_PLATFORM_API_BASE_URL"] = OPEN
    assert "BACKOUT_PLATFORM_API_BASE_URL" in backout(tmp_path, "status", variables=given).err


def test_what_carries_nothing_may_be_http(tmp_path: Path) -> None:
    """Health without a secret header, counts without a token, mail without a password."""
    write_config(
        tmp_path,
        'health = { url = "http://app.internal/health", headers = { A = "b" } }\n'
        'traffic = { provider = "prometheus", url = "http://prometheus:9090" }\n',
    )
    assert backout(tmp_path, "config", "check").code == 0


def test_only_two_addresses_of_the_file_may_be_in_the_open() -> None:
    """Any other key of an address has the type that wants https; a new one needs a rule like theirs."""
    open_keys = set()

    def walk(kind: object, path: str) -> None:
        for field in msgspec.structs.fields(kind):  # type: ignore[arg-type]
            here = f"{path}.{field.encode_name}".lstrip(".")
            kinds = [field.type]
            while kinds:
                each = kinds.pop()
                if each is Url:
                    open_keys.add(here)
                if isinstance(each, type) and issubclass(each, msgspec.Struct):
                    walk(each, here)
                kinds += getattr(each, "__args__", ())

    walk(Settings, "")
    assert open_keys == {"environments.health.url", "environments.traffic.url"}


def token() -> str:
    return "canary"


CLIENTS: dict[str, Callable[[], object]] = {
    "the platform": lambda: ApiClient(OPEN, token),
    "GitHub": lambda: GitHubClient(OPEN, token),
    "a vendor": lambda: VendorApi("Neon", OPEN, token, ""),
    "counts": lambda: RouterClient(OPEN, token),
    "objects": lambda: Transport(S3Settings(OPEN, S3Credentials("a", "b")), SystemClock()),
    "a webhook": lambda: Post(OPEN),
}


@pytest.mark.parametrize("client", list(CLIENTS))
def test_no_client_of_ours_sends_a_credential_in_the_open(client: str) -> None:
    """Whoever names the address: the file, a variable of the runner, a secret that holds a URL."""
    with pytest.raises((ConfigError, UsageError, SendFailed)):
        CLIENTS[client]()


def test_a_dead_man_is_not_asked_in_the_open() -> None:
    """Its URL is a secret, and stays one."""
    said: list[str] = []
    asking = HttpDeadMan(lambda: f"{OPEN}/secret-path", said.append)
    asking.ping()
    asking.join(PATIENCE_S)
    assert "https" in said[0]


def test_an_origin_is_private_unless_it_is_asked_for() -> None:
    """The rule of all clients; names that only begin like loopback are elsewhere."""
    for url in (
        "https://a.example",
        "http://127.0.0.1:1",
        "http://[::1]:1",
        "http://localhost",
        "http://a.localhost:1",
    ):
        assert str(Origin.of(url)) in (url, url.removesuffix(":1"))
    for url in (OPEN, "http://127.0.0.1.example", "http://localhost.example", "http://10.0.0.1", "http://0x7f.1"):
        with pytest.raises(ValueError, match="loopback"):
            Origin.of(url)
        Origin.of(url, in_the_open=True)


# --- which variable goes where ---------------------------------------------------------------------------------------


def header(variable: str) -> str:
    return f'health = {{ url = "https://app.example/health", headers_env = {{ X-Key = "{variable}" }} }}\n'


DATABASE = 'database = { provider = "postgres", url_env = "MAIN_DB" }\n'
MIXED = {
    "the default token": (header("CLOUDFLARE_API_TOKEN"), "health.headers_env.X-Key"),
    "a database by its key": (header("MAIN_DB") + DATABASE, "health.headers_env.X-Key"),
    "a database by its name": (header("STAGING_DATABASE_URL"), "health.headers_env.X-Key"),
    "the pipeline's": (header("GITHUB_TOKEN"), "health.headers_env.X-Key"),
    "a cloud's key": (header("AWS_SECRET_ACCESS_KEY"), "health.headers_env.X-Key"),
    "a webhook's": (header("HOOK") + '[notify.slack]\nurl_env = "HOOK"\n', "health.headers_env.X-Key"),
    "another environment's": (
        header("OTHER") + "[environments.staging.platform]\nprovider = 'cloudflare'\nscript = 's'\ntoken_env = 'OTHER'",
        "health.headers_env.X-Key",
    ),
    "the platform's token as the pipeline's": (
        'ci = { provider = "github", repository = "a/b", token_env = "CLOUDFLARE_API_TOKEN" }',
        "ci.token_env",
    ),
    "a database as the mail's password": (
        f'{DATABASE}[notify.smtp]\nhost = "m"\nfrom = "a@b"\nto = ["c@d"]\nuser = "u"\npassword_env = "MAIN_DB"',
        "notify.smtp.password_env",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", list(MIXED))
def test_no_variable_is_sent_as_another_kind_of_secret(tmp_path: Path, case: str) -> None:
    """By its name: exit 78 with the key, whatever the variable holds."""
    more, key = MIXED[case]
    write_config(tmp_path, more)
    found = backout(tmp_path, "config", "check")
    assert found.code == 78, found.out
    assert f"{key}: " in found.err
    assert "is never sent as" in found.err


def test_a_secret_of_its_own_is_sent(tmp_path: Path) -> None:
    """And environments may share one variable for one purpose."""
    staging = '[environments.staging]\nplatform = { provider = "cloudflare", script = "s" }\n'
    other = 'health = { url = "https://s.example/health", headers_env = { X-Key = "HEALTH_KEY" } }\n'
    write_config(tmp_path, header("HEALTH_KEY") + staging + other)
    assert backout(tmp_path, "config", "check").code == 0


def deployed(api: Api) -> str:
    api.upload("fm5")
    return f"{api.url}/client/v4"


@pytest.mark.parametrize("value", [TOKEN, f"Bearer {TOKEN}", "the-password-of-the-database"])
def test_no_token_reaches_the_health_endpoint_by_its_value(tmp_path: Path, value: str) -> None:
    """The variable has a harmless name; what it holds is the token, or the database's password: exit 78, unasked."""
    with running_api(tmp_path) as api, scripted_server() as health:
        health.will(HEALTHY)
        ours = f'health = {{ url = "{health.url}/health", headers_env = {{ X-Key = "HEALTH_KEY" }} }}\n'
        write_config(tmp_path, ours + DATABASE, api=deployed(api))
        given = {
            "CLOUDFLARE_API_TOKEN": TOKEN,
            "MAIN_DB": "postgresql://a:the-password-of-the-database@127.0.0.1:1/x",
            "HEALTH_KEY": value,
        }
        found = backout(tmp_path, "status", variables=given)
        assert all(value not in asked.headers.values() for asked in health.asked)
        assert found.code == 78, found.err
        assert "health.headers_env.X-Key: its value is" in found.err
        backout(tmp_path, "status", variables={**given, "HEALTH_KEY": "its own"})
        assert health.asked[0].headers["x-key"] == "its own"


@pytest.mark.parametrize("variable", ["CLOUDFLARE_API_TOKEN", "MAIN_DB"])
def test_no_token_reaches_the_health_endpoint_by_its_name(tmp_path: Path, variable: str) -> None:
    """The one line that took the token: a header of the health check that names its variable."""
    with running_api(tmp_path) as api, scripted_server() as health:
        health.will(HEALTHY)
        ours = f'health = {{ url = "{health.url}/health", headers_env = {{ X-Key = "{variable}" }} }}\n'
        write_config(tmp_path, ours + DATABASE, api=deployed(api))
        given = {"CLOUDFLARE_API_TOKEN": TOKEN, "MAIN_DB": "postgresql://a:b@127.0.0.1:1/x"}
        found = backout(tmp_path, "status", variables=given)
        assert health.asked == []
        assert found.code == 78


def test_an_error_of_a_client_is_one_of_ours() -> None:
    """A refusal has an exit code and no traceback."""
    for make in (CLIENTS["the platform"], CLIENTS["objects"]):
        with pytest.raises(BackoutError):
            make()
