"""Files of secrets: what others may read or write is not taken, whichever key, variable or credential names it."""

from __future__ import annotations

import ast
import os
import stat
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from cli_shell import backout
from source_trees import nodes_of

from backout import config
from backout.config.schema import Settings
from backout.errors import AuthError, BackoutError
from backout.wiring.secrets import make_source

from polling import PATIENCE_S
from private import write_private
from scripted_server import answer, scripted_server

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.plan import Json

SOURCE = Path(__file__).parents[2] / "src" / "backout"
SOMEBODY, STRANGERS = 1234, 7777
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="NOT SHOWN: only root can give a file to somebody else")
FILE = """[app]
name = "fm5"
[environments.production.platform]
provider = "cloudflare"
script = "a"
account_id = "b"
token_file = "platform.token_file"
read_token_file = "platform.read_token_file"
secrets_token_file = "platform.secrets_token_file"
[environments.production.ci]
provider = "github"
repository = "a/b"
token_file = "ci.token_file"
[environments.production.database]
provider = "postgres"
url_file = "database.url_file"
admin_url_file = "database.admin_url_file"
backup.key_file = "database.backup.key_file"
backup.store = { bucket = "b", credentials_file = "database.backup.store.credentials_file" }
managed = { provider = "neon", project = "p", branch = "b", token_file = "database.managed.token_file" }
[environments.production.storage]
provider = "s3"
bucket = "b"
credentials_file = "storage.credentials_file"
history_key_file = "storage.history_key_file"
[environments.production.traffic]
provider = "recorder"
token_file = "traffic.token_file"
basic_file = "traffic.basic_file"
recorder.bucket = "r"
recorder.credentials_file = "traffic.recorder.credentials_file"
recorder.secret_file = "traffic.recorder.secret_file"
[notify]
webhook = { url_file = "notify.webhook.url_file", secret_file = "notify.webhook.secret_file" }
slack = { url_file = "notify.slack.url_file" }
pagerduty = { routing_key_file = "notify.pagerduty.routing_key_file" }
dead_man = { url_file = "notify.dead_man.url_file" }
smtp = { host = "h", from = "a@b", to = ["c@d"], user = "u", password_file = "notify.smtp.password_file" }
[marks]
key_file = "marks.key_file"
"""


def of_notify(channel: str, key: str) -> Callable[[config.Config], object]:
    def read(found: config.Config) -> object:
        section = getattr(found.settings.notify, channel)
        return found.notify_secret(channel, None, getattr(section, key), "a secret")

    return read


def ci_token(found: config.Config) -> object:
    from backout.config.init.workflow import get_pipeline_token  # noqa: PLC0415 as the program does

    assert found.environment.ci is not None
    return get_pipeline_token(found.variables, found.environment.ci)


READERS: dict[str, Callable[[config.Config], object]] = {
    "platform.token_file": lambda c: c.token(),
    "platform.read_token_file": lambda c: c.read_token(),
    "platform.secrets_token_file": lambda c: c.secrets_token(),
    "ci.token_file": ci_token,
    "database.url_file": lambda c: c.database_url(),
    "database.admin_url_file": lambda c: c.database_admin_url(),
    "database.backup.key_file": lambda c: c.backup_key(),
    "database.backup.store.credentials_file": lambda c: c.backup_access(),
    "database.managed.token_file": lambda c: c.managed_token(),
    "storage.credentials_file": lambda c: c.storage_access(),
    "storage.history_key_file": lambda c: c.history_keys(),
    "traffic.token_file": lambda c: c.traffic_token(),
    "traffic.basic_file": lambda c: c.traffic_token(basic=True),
    "traffic.recorder.credentials_file": lambda c: c.recorder_access(),
    "traffic.recorder.secret_file": lambda c: c.recorder_secret(),
    "notify.webhook.url_file": of_notify("webhook", "url_file"),
    "notify.webhook.secret_file": of_notify("webhook", "secret_file"),
    "notify.slack.url_file": of_notify("slack", "url_file"),
    "notify.pagerduty.routing_key_file": of_notify("pagerduty", "routing_key_file"),
    "notify.dead_man.url_file": lambda c: c.dead_man_url(),
    "notify.smtp.password_file": of_notify("smtp", "password_file"),
    "marks.key_file": lambda c: c.marks_keys(),
}
NAMED = {
    "NAME_FILE": lambda folder: {"CLOUDFLARE_API_TOKEN_FILE": str(folder / "CLOUDFLARE_API_TOKEN")},
    "a credential": lambda folder: {"CREDENTIALS_DIRECTORY": str(folder)},
}


def test_a_secret_that_no_setting_names_is_told_as_that(tmp_path: Path) -> None:
    """Not "None is not set"."""
    text = '[app]\nname = "a"\n[environments.production]\nplatform = { provider = "cloudflare", script = "a" }\n'
    text += 'database = { provider = "postgres", url_env = "A", backup.store = { bucket = "b" } }\n'
    write_private(tmp_path / "backout.toml", text)
    with pytest.raises(AuthError) as told:
        config.load(config.Environment(), start=tmp_path).backup_access()
    assert "None" not in f"{told.value.what} {told.value.hint}"
    assert "nothing says where it is kept" in told.value.what


def loaded(folder: Path) -> config.Config:
    write_private(folder / "backout.toml", FILE)
    return config.load(config.Environment(), start=folder)


def files_in(kind: object, path: str = "") -> set[str]:
    """Return every key of a struct that names a file of a secret, dotted."""
    found = set()
    for field in msgspec.structs.fields(kind):  # type: ignore[arg-type]
        name = f"{path}{field.encode_name}"
        if field.encode_name.endswith("_file"):
            found.add(name)
        for candidate in (field.type, *getattr(field.type, "__args__", ())):
            inner = getattr(candidate, "__args__", (candidate,))[-1]
            for each in {candidate, inner}:
                if isinstance(each, type) and issubclass(each, msgspec.Struct):
                    found |= files_in(each, "" if each.__name__ == "EnvironmentSettings" else f"{name}.")
    return {name.removeprefix("environments.") for name in found}


def test_each_file_of_a_secret_is_driven_here() -> None:
    """A new key of the file needs its reader above."""
    assert READERS.keys() == files_in(Settings) | {"database.backup.store.credentials_file"}


def test_secrets_are_made_in_two_places_alone() -> None:
    """Whoever reads a secret goes through `Environment`, which looks at the file; nobody else makes one."""
    makers = set()
    for path in SOURCE.rglob("*.py"):
        for node in nodes_of(path):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Secret":
                makers.add(str(path.relative_to(SOURCE)))
    assert makers == {"config/environment.py", "config/access.py"}


def given_to(owner: int, group: int, mode: int) -> Callable[[Path], None]:
    def give(path: Path) -> None:
        os.chown(path, owner, group)
        path.chmod(mode)

    return give


def behind_a_link_of_somebody(path: Path) -> None:
    real = path.rename(path.with_name("real"))
    path.symlink_to(real)
    os.chown(path, SOMEBODY, SOMEBODY, follow_symlinks=False)


def listed_for_somebody(path: Path) -> None:
    """Let one more user read it by a list of access rights: the mode then shows 0640, the group's part being a mask."""
    path.chmod(0o640)
    entries = [(0x01, 6, -1), (0x02, 4, SOMEBODY), (0x04, 0, -1), (0x10, 4, -1), (0x20, 0, -1)]
    content = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", content)
    except OSError:
        pytest.skip("NOT SHOWN: this file system keeps no lists of access rights")


REFUSED = [
    pytest.param(listed_for_somebody, "a list of access rights lets others", id="a list of access rights"),
    pytest.param(lambda path: path.chmod(0o644), "everyone on this machine may read it", id="readable by everybody"),
    pytest.param(lambda path: path.chmod(0o602), "everyone on this machine may write it", id="writable by everybody"),
    pytest.param(given_to(0, STRANGERS, 0o640), "the group 7777 may read it", marks=needs_root, id="a group reads"),
    pytest.param(given_to(0, STRANGERS, 0o620), "the group 7777 may write it", marks=needs_root, id="a group writes"),
    pytest.param(given_to(SOMEBODY, 0, 0o600), "it belongs to uid 1234", marks=needs_root, id="somebody's"),
    pytest.param(behind_a_link_of_somebody, "it belongs to uid 1234", marks=needs_root, id="somebody's link"),
]


@pytest.mark.parametrize(("spoil", "why"), REFUSED)
def test_a_file_that_others_may_read_or_write_is_not_taken(
    tmp_path: Path, spoil: Callable[[Path], None], why: str
) -> None:
    """Each key of the file alike: exit 4, who it is, the command that mends it; mended, it is taken."""
    found = loaded(tmp_path)
    for key, read in READERS.items():
        access = key.endswith("credentials_file")
        content = '{"access_key_id": "a", "secret_access_key": "b"}' if access else "a-secret-that-is-long"
        path = write_private(tmp_path / key, content)
        spoil(path)
        with pytest.raises(AuthError) as caught:
            read(found)
        assert caught.value.exit_code == 4
        assert why in caught.value.what, key
        assert (caught.value.hint or "").partition("  # ")[0].endswith(f"chmod 600 {path}")
        path.unlink()
        write_private(path, content)
        assert read(found), key


@pytest.mark.parametrize("named", list(NAMED))
def test_a_token_of_everybody_is_sent_nowhere(tmp_path: Path, named: str) -> None:
    """A variable's file and a credential of systemd, through the command line: the server hears nothing, then all."""
    with scripted_server() as server:
        server.will(answer({"success": False, "errors": [{"code": 10007, "message": "no such Worker"}]}, 404))
        place = f'{{ provider = "cloudflare", script = "a", account_id = "b", api_base_url = "{server.url}" }}'
        write_private(tmp_path / "backout.toml", f'[app]\nname = "x"\n[environments.production]\nplatform = {place}\n')
        token = write_private(tmp_path / "CLOUDFLARE_API_TOKEN", "canary-token")
        variables = NAMED[named](tmp_path)
        for mode in (0o644, 0o666, 0o606):
            token.chmod(mode)
            refused = backout(tmp_path, "status", "--json", variables=variables)
            assert (refused.code, server.asked) == (4, [])
            assert str(refused.json["hint"]).partition("  # ")[0] == f"chmod 600 {token}"
        token.chmod(0o600)
        backout(tmp_path, "status", variables=variables)
        assert server.asked[0].headers["authorization"] == "Bearer canary-token"


def test_values_that_others_may_write_are_not_pushed(tmp_path: Path) -> None:
    """A `.env` may be read by others, as a checkout is; who may write it could set the application's secrets."""
    values = write_private(tmp_path / ".env", "JWT_SECRET=a-secret\n")
    named: dict[str, Json] = {"from": "file", "path": str(values)}
    values.chmod(0o644)
    assert make_source(loaded(tmp_path), named).read(["JWT_SECRET"]).names == ("JWT_SECRET",)
    values.chmod(0o646)
    with pytest.raises(BackoutError) as caught:
        make_source(loaded(tmp_path), named).read(["JWT_SECRET"])
    assert caught.value.hint == f"chmod go-w {values}"


@needs_root
def test_what_root_or_a_group_of_ours_holds_is_taken(tmp_path: Path) -> None:
    """The secrets of Docker and Kubernetes are root's, readable by the group that the process is in."""
    found = loaded(tmp_path)
    path = write_private(tmp_path / "platform.token_file", "a-secret-that-is-long")
    for mode in (0o400, 0o440, 0o640):
        given_to(0, os.getegid(), mode)(path)
        assert found.token().reveal() == "a-secret-that-is-long"


def test_a_pipe_is_taken(tmp_path: Path) -> None:
    """`NAME_FILE=<(op read ...)` is a pipe in /dev/fd: it is for whom it was opened."""
    reading, writing = os.pipe()
    try:
        os.write(writing, b"from-a-pipe\n")
        os.close(writing)
        variables = config.Environment({"TOKEN_FILE": f"/dev/fd/{reading}"})
        found = variables.secret("TOKEN")
        assert found is not None
        assert found.reveal() == "from-a-pipe"
        again = variables.secret("TOKEN")
        assert again is not None, "a pipe gives its content once, and a secret is read more than once"
        assert again.reveal() == "from-a-pipe"
        assert stat.S_ISFIFO(os.fstat(reading).st_mode)
    finally:
        os.close(reading)


def test_a_named_pipe_is_read_once(tmp_path: Path) -> None:
    """Opening it again would wait for a writer who does not come."""
    path = tmp_path / "pipe"
    os.mkfifo(path, 0o600)
    writer = threading.Thread(target=lambda: path.write_bytes(b"from-a-pipe\n"), daemon=True)
    writer.start()
    variables, read = config.Environment({}), list[str]()
    reader = threading.Thread(
        target=lambda: read.extend(variables.secret_file(path, "TOKEN").reveal() for _ in range(2)), daemon=True
    )
    reader.start()
    reader.join(PATIENCE_S)
    assert read == ["from-a-pipe"] * 2
