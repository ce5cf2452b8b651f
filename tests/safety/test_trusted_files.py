"""What others could have written decides nothing: a server that listens never hears the token."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_shell import backout

from extent import long
from scripted_server import answer, scripted_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scripted_server import ScriptedServer

TOKEN = "canary-token-of-the-platform"
SOMEBODY, NOBODY, SHARED_GROUP = 1234, 65534, 7777
GIVEN = {"CLOUDFLARE_API_TOKEN": TOKEN, "CLOUDFLARE_ACCOUNT_ID": "acc"}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="NOT SHOWN: only root can give a file to somebody else")


@pytest.fixture
def listener() -> Iterator[ScriptedServer]:
    """Listen where the file says that the platform is."""
    with scripted_server() as server:
        server.will(answer({"success": False, "errors": [{"code": 10007, "message": "no such Worker"}]}, 404))
        yield server


def write_config(folder: Path, url: str, more: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "backout.toml"
    file.write_text(
        '[app]\nname = "fm5"\n[environments.production]\n'
        f'platform = {{ provider = "cloudflare", script = "fm5", api_base_url = "{url}/client/v4" }}\n{more}'
    )
    file.chmod(0o644)
    return file


def heard(server: ScriptedServer) -> bool:
    """Whether anything came to the server: each request of the platform's client carries the token."""
    return bool(server.asked)


def a_folder_above_is_everybodys(file: Path) -> None:
    file.parent.parent.chmod(0o777)


def owned_by_somebody(file: Path) -> None:
    os.chown(file, SOMEBODY, SOMEBODY)


def in_a_folder_of_somebody(file: Path) -> None:
    os.chown(file.parent, SOMEBODY, SOMEBODY)


def written_by_a_shared_group(file: Path) -> None:
    os.chown(file, 0, SHARED_GROUP)
    file.chmod(0o664)


def behind_a_link_of_somebody(file: Path) -> None:
    real = file.rename(file.with_name("real.toml"))
    file.symlink_to(real)
    os.chown(file, SOMEBODY, SOMEBODY, follow_symlinks=False)


def led_to_a_folder_of_everybody(file: Path) -> None:
    elsewhere = file.parent.parent / "elsewhere"
    elsewhere.mkdir()
    file.rename(elsewhere / "backout.toml")
    elsewhere.chmod(0o777)
    file.symlink_to(elsewhere / "backout.toml")


EVERYBODY = "everyone on this machine may write it (mode 0"
DOUBTFUL = [
    pytest.param(lambda file: file.chmod(0o666), EVERYBODY + "666)", id="everybody"),
    pytest.param(lambda file: file.parent.chmod(0o777), EVERYBODY + "777)", id="folder"),
    pytest.param(a_folder_above_is_everybodys, EVERYBODY + "777)", id="above"),
    pytest.param(led_to_a_folder_of_everybody, EVERYBODY + "777)", id="link"),
    pytest.param(owned_by_somebody, "uid 1234, who is neither you nor root", marks=needs_root, id="owned"),
    pytest.param(in_a_folder_of_somebody, "it belongs to uid 1234", marks=needs_root, id="folder's owner"),
    pytest.param(written_by_a_shared_group, "the group 7777 may write it (mode 0664)", marks=needs_root, id="group"),
    pytest.param(behind_a_link_of_somebody, "it belongs to uid 1234", marks=needs_root, id="link's owner"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "why"), DOUBTFUL)
@pytest.mark.parametrize("named", [False, True], ids=["found", "named"])
def test_a_configuration_that_others_could_have_written_gets_no_token(
    tmp_path: Path, listener: ScriptedServer, spoil: Callable[[Path], None], why: str, named: bool
) -> None:
    """Found upwards or named by --config: exit 78, who it is, the line that allows it; nobody was asked anything."""
    file = write_config(tmp_path / "work" / "project", listener.url)
    below = file.parent / "src" / "deep"
    below.mkdir(parents=True)
    spoil(file)
    found = backout(
        below, "status", "-e", "production", "--json", *(["--config", str(file)] if named else []), variables=GIVEN
    )
    assert not heard(listener), listener.asked
    assert found.code == 78, found.err
    assert why in found.json["mistakes"][0]  # type: ignore[index]
    assert f"export BACKOUT_TRUST_CONFIG={file}" in str(found.json["hint"])


def test_the_line_that_closes_a_file_works_as_it_is_pasted(tmp_path: Path, listener: ScriptedServer) -> None:
    """The whole hint is one command of a shell: the other way out stands behind it as a remark."""
    file = write_config(tmp_path / "a project", listener.url)
    file.chmod(0o666)
    refused = backout(file.parent, "status", "--json", variables=GIVEN)
    assert refused.code == 78
    subprocess.run(["/bin/sh", "-ec", str(refused.json["hint"])], check=True)
    assert backout(file.parent, "status", variables=GIVEN).code != 78
    assert heard(listener)


def test_one_file_can_be_vouched_for_and_no_other(tmp_path: Path, listener: ScriptedServer) -> None:
    """The line of the message works; it trusts that file alone, by its whole path."""
    file, other = (write_config(tmp_path / name, listener.url) for name in ("one", "two"))
    for each in (file, other):
        each.chmod(0o666)
    for vouched in ("*", "backout.toml", str(other), str(tmp_path / "one")):
        answered = backout(file.parent, "status", variables={**GIVEN, "BACKOUT_TRUST_CONFIG": vouched})
        assert (answered.code, heard(listener)) == (78, False), vouched
    assert backout(file.parent, "status", variables={**GIVEN, "BACKOUT_TRUST_CONFIG": str(file)}).code != 78
    assert heard(listener)


def test_what_only_we_can_write_is_taken(tmp_path: Path, listener: ScriptedServer) -> None:
    """A sticky folder that everybody may write (as /tmp), files that all may read, our own links: as ever."""
    sticky = tmp_path / "tmp"
    file = write_config(sticky / "project", listener.url)
    sticky.chmod(0o1777)
    (sticky / "here").symlink_to(file.parent)
    for folder in (file.parent, sticky / "here"):
        listener.asked.clear()
        assert backout(folder, "status", variables=GIVEN).code != 78
        assert heard(listener)


@needs_root
def test_the_private_group_of_a_user_is_nobody_else(tmp_path: Path, listener: ScriptedServer) -> None:
    """Group-writable is what a umask of 002 makes: fine for the group that has our name and nobody else in it."""
    file = write_config(tmp_path, listener.url)
    file.chmod(0o664)
    os.chown(file, 0, 0)
    assert backout(tmp_path, "status", variables=GIVEN).code != 78
    assert heard(listener)


@needs_root
def test_an_ordinary_user_trusts_himself_and_root_alone(listener: ScriptedServer) -> None:
    """The same rules for a process that is not root, on files of root, of itself, and of somebody else."""
    given = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": "/nonexistent", **GIVEN}
    prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--", sys.executable, "-m"]
    if shutil.which("setpriv") is None or subprocess.run([*prefix, "backout", "--version"], check=False).returncode:
        pytest.skip("NOT SHOWN: no other user can be taken here")
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top)
        folder.chmod(0o755)
        file = write_config(folder / "project", listener.url)
        for owner, taken in ((0, True), (NOBODY, True), (SOMEBODY, False)):
            for path in (file, file.parent):
                os.chown(path, owner, owner)
            listener.asked.clear()
            command = [*prefix, "backout", "status", "--json"]
            done = subprocess.run(command, cwd=file.parent, env=given, capture_output=True, text=True, check=False)
            assert (heard(listener), done.returncode != 78) == (taken, taken), (owner, done.stderr)
            if not taken:
                assert "uid 1234" in json.loads(done.stdout)["mistakes"][0]


@pytest.mark.parametrize(
    "command", [("panic",), long(("panic", "--dry-run")), long(("card",)), ("card", "--write")], ids=" ".join
)
def test_panic_and_card_say_so_and_go_on_without_its_addresses(
    tmp_path: Path, listener: ScriptedServer, command: tuple[str, ...]
) -> None:
    """What must answer in the worst minute warns, and does what it is for; no secret goes where the file says."""
    places = (
        f'health = {{ url = "{listener.url}/health", headers_env = {{ "X-Key" = "VAULT_WORD" }} }}\n'
        f'traffic = {{ provider = "twin", url = "{listener.url}" }}\n'
        f'storage = {{ provider = "s3", bucket = "b", endpoint = "{listener.url}" }}\n'
        f'ci = {{ provider = "github", repository = "a/b", api_base_url = "{listener.url}" }}\n'
        '[notify.webhook]\nurl_env = "HOOK"\nsecret_env = "HOOK_SECRET"\n'
    )
    file = write_config(tmp_path, listener.url, places)
    file.chmod(0o666)
    given = {
        **GIVEN,
        "VAULT_WORD": "canary-of-a-vault",
        "HOOK": f"{listener.url}/hook",
        "HOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    }
    found = backout(tmp_path, *command, "-e", "production", variables=given)
    assert found.code != 78, found.err
    assert not heard(listener), listener.asked
    assert "warning: backout.toml is not trusted" in found.err
    assert "everyone on this machine may write it" in found.err
    assert "the token goes to api.cloudflare.com alone" in found.err
    assert "npx wrangler" in found.out + found.err


def test_doctor_refuses_it_as_other_commands_do(tmp_path: Path, listener: ScriptedServer) -> None:
    """It sends tokens to ask whether they are valid."""
    write_config(tmp_path, listener.url).chmod(0o666)
    assert backout(tmp_path, "doctor", "-e", "production", variables=GIVEN).code == 78
    assert not heard(listener), listener.asked


def test_an_address_that_we_chose_is_used_beside_such_a_file(tmp_path: Path, listener: ScriptedServer) -> None:
    """It is not from the file, but from a variable."""
    write_config(tmp_path, "http://127.0.0.1:9").chmod(0o666)
    given = {**GIVEN, "BACKOUT_PLATFORM_API_BASE_URL": f"{listener.url}/client/v4"}
    assert backout(tmp_path, "card", "-e", "production", variables=given).code != 78
    assert heard(listener)


# --- what lies beside it ---------------------------------------------------------------------------------------------


def committed(folder: Path, *version: str) -> None:
    """Commit all that is there, forced, in a repository of its own."""
    git = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example.com"]
    for words in (["init", "-q"], [*version, "add", "-f", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], check=True, capture_output=True)


def a_link(folder: Path) -> str:
    (folder / "ours").mkdir()
    (folder / ".backout").symlink_to("ours")
    return "it is a symbolic link (to ours)"


def a_linked_journal(folder: Path) -> str:
    (folder / ".backout").mkdir(mode=0o700)
    (folder / "other.sqlite").touch()
    (folder / ".backout" / "journal.sqlite").symlink_to("../other.sqlite")
    return "it is a symbolic link (to ../other.sqlite)"


def linked_code(folder: Path) -> str:
    (folder / ".backout").mkdir(mode=0o700)
    (folder / "theirs").mkdir()
    (folder / ".backout" / "bundles").symlink_to("../theirs")
    return "it is a symbolic link (to ../theirs)"


def everybodys(folder: Path) -> str:
    (folder / ".backout").mkdir()
    (folder / ".backout").chmod(0o777)
    return "everyone on this machine may write it"


def somebodys(folder: Path) -> str:
    (folder / ".backout" / "holds").mkdir(parents=True)
    os.chown(folder / ".backout" / "holds", SOMEBODY, SOMEBODY)
    return "it belongs to uid 1234"


def kept_in_git(folder: Path) -> str:
    (folder / ".backout").mkdir(mode=0o700)
    (folder / ".backout" / "journal.sqlite").touch(mode=0o600)
    committed(folder)
    return "the git repository holds it"


def kept_in_a_compressed_index(folder: Path) -> str:
    (folder / ".b").touch()
    (folder / ".backout" / "holds").mkdir(parents=True, mode=0o700)
    (folder / ".backout" / "holds" / "production.json").touch(mode=0o600)
    committed(folder, "-c", "index.version=4")
    return "the git repository holds it"


def a_submodule(folder: Path) -> str:
    """A repository of somebody's, which the project's names, as a recursive clone brings it."""
    theirs = folder.parent / "theirs"
    theirs.mkdir()
    (theirs / "journal.sqlite").touch(mode=0o600)
    committed(theirs)
    committed(folder)
    git = [
        "git",
        "-C",
        str(folder),
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "add",
        "-q",
        "../theirs",
        ".backout",
    ]
    subprocess.run(git, check=True, capture_output=True)
    (folder / ".backout").chmod(0o700)
    return "it is a git repository of its own"


def a_submodule_whose_repository_is_not_seen(folder: Path) -> str:
    """Its entry in the index is left."""
    a_submodule(folder)
    (folder / ".backout" / ".git").unlink()
    return "the git repository holds it"


def kept_beside_the_folder(folder: Path) -> str:
    _keep_elsewhere(folder)
    (folder.parent / "state" / "journal.sqlite").touch(mode=0o600)
    committed(folder.parent)
    return "the git repository holds it"


def a_link_beside_the_folder(folder: Path) -> str:
    _keep_elsewhere(folder)
    committed(folder.parent)
    (folder.parent / "state").rename(folder.parent / "other")
    (folder.parent / "state").symlink_to("other")
    return "it is a symbolic link (to other)"


def _keep_elsewhere(folder: Path) -> None:
    file = folder / "backout.toml"
    file.write_text(f'{file.read_text()}[journal]\npath = "../state/journal.sqlite"\n')
    (folder.parent / "state").mkdir(mode=0o700)


@pytest.mark.parametrize(
    "make",
    [
        a_link, a_linked_journal, linked_code, a_submodule, a_submodule_whose_repository_is_not_seen,
        kept_beside_the_folder, a_link_beside_the_folder, everybodys, pytest.param(somebodys, marks=needs_root),
        kept_in_git, kept_in_a_compressed_index,
    ],
)  # fmt: skip
def test_a_journal_that_a_repository_or_somebody_else_brought_is_not_ours(
    tmp_path: Path, listener: ScriptedServer, make: Callable[[Path], str]
) -> None:
    """Exit 78 with what to type; panic and card go on."""
    folder = write_config(tmp_path / "app", listener.url).parent
    why = make(folder)
    found = backout(folder, "status", "--json", variables=GIVEN)
    assert (found.code, heard(listener)) == (78, False), found.err
    assert why in found.json["mistakes"][0]  # type: ignore[index]
    assert str(found.json["hint"]).startswith(("mv ", "chmod ", "git rm --cached "))
    assert backout(folder, "card", variables=GIVEN).code != 78
    assert heard(listener)


def test_our_own_records_are_taken_in_a_repository_too(tmp_path: Path, listener: ScriptedServer) -> None:
    """What git does not hold is ours, whatever else it holds; a card may be committed."""
    folder = write_config(tmp_path / "app", listener.url).parent
    (folder / ".backout").mkdir(mode=0o700)
    (folder / ".backout" / "card-production.md").touch()
    (folder / "x.backout").mkdir()
    (folder / "x.backout" / "journal.sqlite").touch()
    committed(folder)
    (folder / ".backout" / "holds").mkdir()
    assert backout(folder, "status", variables=GIVEN).code != 78
    assert heard(listener)


def test_our_own_records_are_taken_where_the_project_is_a_submodule(tmp_path: Path, listener: ScriptedServer) -> None:
    """The outer repository has an entry for the project itself, and none for what we keep in it."""
    theirs = write_config(tmp_path / "theirs", listener.url).parent
    committed(theirs)
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "README").touch()
    committed(whole)
    git = ["git", "-C", str(whole), "-c", "protocol.file.allow=always"]
    subprocess.run([*git, "submodule", "add", "-q", "../theirs", "app"], check=True, capture_output=True)
    (whole / "app" / ".backout").mkdir(mode=0o700)
    (whole / "app" / ".backout" / "journal.sqlite").touch(mode=0o600)
    found = backout(whole / "app", "status", variables=GIVEN)
    assert found.code != 78, found.err
    assert heard(listener)


def test_a_twin_that_a_repository_brought_is_not_ours(tmp_path: Path) -> None:
    """Its state names the token that opens it and the code that it runs: a link, or what git holds, is refused."""
    twin = tmp_path / "app" / ".backout" / "twin"
    twin.parent.mkdir(parents=True)
    (tmp_path / "app" / "elsewhere").mkdir()
    twin.symlink_to("../elsewhere")
    linked = backout(tmp_path / "app", "twin", "status", "--json")
    assert (linked.code, linked.json["error"]) == (78, "Untrusted")
    twin.unlink()
    twin.mkdir()
    (twin / "identity.json").write_text("{}")
    committed(tmp_path / "app")
    for words in (("twin", "status"), ("twin", "down"), ("twin", "up"), ("demo", "--dir", ".backout/twin")):
        found = backout(tmp_path / "app", *words, "--json")
        assert (found.code, found.json["error"]) == (78, "Untrusted"), words
