"""Ports Bundles and BundleStore: the World and the adapters keep the same promises; then what a folder promises."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING, Any

import pytest
from values import replace

from backout.config import Environment, load
from backout.errors import BackoutError, ProviderRejected, Refused
from backout.model.bundle import Bundle, BundleModule
from backout.model.version import Version, VersionId
from backout.providers.cloudflare.bundles import CloudflareBundles
from backout.providers.cloudflare.client import ApiClient
from backout.providers.files.bundles import FileBundleStore
from backout.providers.memory import World
from backout.report.redact import Redactor
from backout.wiring.toolbox import make_toolbox

from platform_sides import TwinSide
from scripted_server import answer, scripted_server
from twin_harness import ACCOUNT, Api, multipart, running_api

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backout.ports import BundleStore

    from platform_sides import Keeper

UNKNOWN = "00000000-0000-4000-8000-000000000000"


# --- Bundles ---


def test_code_uploaded_again_is_the_same_code_with_the_secrets_of_now(keeper: Keeper) -> None:
    """The new version has the hash of the old one, is not live, and can be made live although a secret changed."""
    keeper.upload("zero")
    keeper.put_secret("JWT_SECRET", "old")
    good = keeper.upload("good", tag="v1")
    keeper.put_secret("JWT_SECRET", "new")
    bad = keeper.upload("bad")
    bundle = keeper.bundles.fetch(good)
    assert bundle.version.id == good
    assert bundle.version.secret_names == ("JWT_SECRET",)
    made = keeper.bundles.upload(bundle, message="[backout rollback-1 carry] once more")
    assert keeper.deployments.history()[0].sole == bad
    detail = keeper.versions.detail(made.id)
    assert detail.code_hash == bundle.version.code_hash == keeper.versions.detail(good).code_hash
    assert (detail.message, detail.tag) == ("[backout rollback-1 carry] once more", "v1")
    assert detail.secret_names == ("JWT_SECRET",)
    assert keeper.deployments.activate(made.id, message="back").sole == made.id


def test_a_secret_that_the_code_never_knew_stays_with_the_application(keeper: Keeper) -> None:
    """It came after the code; the next deployment inherits from this upload, and must not lose it."""
    keeper.upload("zero")
    keeper.put_secret("JWT_SECRET", "old")
    good = keeper.upload("good")
    keeper.put_secret("NEW_KEY", "new")
    keeper.upload("bad")
    made = keeper.bundles.upload(keeper.bundles.fetch(good), message="again")
    assert keeper.versions.detail(made.id).secret_names == ("JWT_SECRET", "NEW_KEY")
    assert keeper.versions.detail(made.id).code_hash == keeper.versions.detail(good).code_hash


def test_no_value_of_a_secret_is_in_a_bundle(keeper: Keeper) -> None:
    """Neither in its text, nor in the metadata of the upload."""
    keeper.upload("zero")
    keeper.put_secret("JWT_SECRET", "canary-value")
    bundle = keeper.bundles.fetch(keeper.versions.recent()[0].id)
    assert b"canary-value" not in bundle.metadata
    assert "canary-value" not in repr(bundle)


def test_a_secret_that_is_gone_is_refused_by_name(keeper: Keeper) -> None:
    """The code needs it, and nobody has its value any more."""
    keeper.upload("zero")
    keeper.put_secret("JWT_SECRET", "old")
    bundle = keeper.bundles.fetch(keeper.upload("good"))
    needs_more = replace(
        bundle,
        version=replace(bundle.version, secret_names=("GONE", "JWT_SECRET")),
        metadata=bundle.metadata.replace(b'"JWT_SECRET"', b'"GONE"'),
    )
    with pytest.raises(Refused, match="GONE") as caught:
        keeper.bundles.upload(needs_more, message="again")
    assert caught.value.rule == "7 secrets"


def test_an_unknown_version_has_no_code(keeper: Keeper) -> None:
    """The provider says so."""
    keeper.upload("one")
    with pytest.raises(ProviderRejected) as caught:
        keeper.bundles.fetch(UNKNOWN)
    assert caught.value.status == 404


@pytest.fixture
def twin_side(tmp_path: Path) -> Iterator[TwinSide]:
    with running_api(tmp_path) as api:
        yield TwinSide(api)


def upload(api: Api, modules: dict[str, str], *, deploy: bool = True, **metadata: Any) -> Any:
    """Upload a Worker of several modules."""
    meta = {"main_module": "index.js", "compatibility_date": "2026-10-01", "bindings": [], **metadata}
    form, content_type = multipart(meta, modules)
    method, path = ("PUT", "fm5") if deploy else ("POST", "fm5/versions")
    return api.call(method, path, form, **{"Content-Type": content_type}).result


def test_every_module_and_setting_comes_back_as_it_was(twin_side: TwinSide) -> None:
    """Names with quotes, bytes that are no text, flags, and bindings by value."""
    bindings = [{"name": "GREETING", "type": "plain_text", "text": 'say "hi" ⚠'}]
    modules = {"index.js": "import './a b.js'", "a b.js": "\r\n--boundary\r\n\x00ü"}
    upload(twin_side.api, modules, compatibility_flags=["nodejs_compat"], bindings=bindings)
    first = twin_side.versions.recent()[0]
    bundle = twin_side.bundles.fetch(first.id)
    assert {m.name: m.content.decode() for m in bundle.modules} == modules
    made = twin_side.bundles.upload(bundle, message="again")
    again = twin_side.bundles.fetch(made.id)
    assert again.modules == bundle.modules
    assert json.loads(again.metadata) == json.loads(bundle.metadata)
    assert json.loads(again.metadata)["bindings"] == bindings
    assert again.version.code_hash == bundle.version.code_hash


def test_secrets_come_from_what_has_traffic_not_from_what_was_uploaded_last(twin_side: TwinSide) -> None:
    """A secret that was staged and never went live is not one of now."""
    api = twin_side.api
    twin_side.upload("zero")
    twin_side.put_secret("JWT_SECRET", "live")
    good = twin_side.versions.recent()[0].id
    staged = {"env": {"JWT_SECRET": {"type": "secret_text", "text": "staged"}}}
    path = f"/client/v4/accounts/{ACCOUNT}/workers/workers/fm5/versions/latest"
    assert api.call("PATCH", path, staged).status == 200
    made = twin_side.bundles.upload(twin_side.bundles.fetch(good), message="again")
    twin_side.deployments.activate(made.id, message="back")
    running = api.data_plane.live["fm5"][0][0]
    assert [(b.name, b.value) for b in running.bindings] == [("JWT_SECRET", "live")]


def test_static_files_cannot_be_brought_back(twin_side: TwinSide) -> None:
    """No call gives their content, and those of the latest version are other ones: refused."""
    bindings = [{"name": "ASSETS", "type": "assets"}]
    upload(twin_side.api, {"index.js": "export default {}"}, bindings=bindings)
    with pytest.raises(Refused, match="static files"):
        twin_side.bundles.fetch(twin_side.versions.recent()[0].id)


PARTS = {
    "limits": {"cpu_ms": 50},
    "placement": {"mode": "smart"},
    "exports": {"Room": {"type": "durable-object", "storage": "sqlite"}},
    "cache_options": {"enabled": True, "cross_version_cache": True},
    "containers": [{"class_name": "Room"}],
    "package_dependencies": [{"name": "hono", "packageJsonVersion": "^4", "installedVersion": "4.9.1"}],
}


def test_every_part_of_a_version_is_uploaded_again(twin_side: TwinSide) -> None:
    """What an upload may say of a version is there again; a copy without its exports would be other code."""
    upload(twin_side.api, {"index.js": "export default {}"}, **PARTS)
    bundle = twin_side.bundles.fetch(twin_side.versions.recent()[0].id)
    made = twin_side.bundles.upload(bundle, message="again")
    path = f"/client/v4/accounts/{ACCOUNT}/workers/workers/fm5/versions/{made.id}"
    told = twin_side.api.call("GET", path).result
    assert {name: told.get(name) for name in PARTS} == PARTS
    assert "backout/whole" not in told


def test_a_copy_kept_without_those_parts_gets_them_from_the_provider(twin_side: TwinSide) -> None:
    """Copies made by an earlier backout lack them; where the provider forgot the version, that is refused."""
    upload(twin_side.api, {"index.js": "export default {}"}, **PARTS)
    bundle = twin_side.bundles.fetch(twin_side.versions.recent()[0].id)
    metadata = json.loads(bundle.metadata)
    older = {name: value for name, value in metadata.items() if name not in {*PARTS, "backout/whole"}}
    kept = replace(bundle, metadata=json.dumps(older).encode())
    made = twin_side.bundles.upload(kept, message="again")
    again = json.loads(twin_side.bundles.fetch(made.id).metadata)
    assert again == metadata
    gone = replace(kept, version=replace(kept.version, id=VersionId(UNKNOWN)))
    with pytest.raises(Refused, match="older than what is kept today"):
        twin_side.bundles.upload(gone, message="again")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"sockets": [{"port": 25}], "sidecar": {"image": "x"}}, "not known here, and a copy lacks: sidecar, sockets"),
        ({"migrations": {"new_sqlite_classes": ["Room"]}}, "migrations of Durable Objects"),
        ({"assets": {"config": {}}}, "static files"),
    ],
)
def test_what_no_upload_can_bring_back_is_refused_by_name(more: dict[str, Any], said: str) -> None:
    """A part that a later API adds is not left out in silence; an empty one is none."""
    version = {"id": UNKNOWN, "number": 1, "metadata": {"created_on": "2026-11-01T00:00:00Z"}}
    code = {"main_module": "index.js", "modules": [{"name": "index.js", "content_base64": ""}], "tracing": {}}
    with scripted_server() as server:
        server.will(*(answer({"success": True, "result": each}) for each in (version, {**version, **code, **more})))
        client = ApiClient(f"{server.url}/client/v4", lambda: "token")
        with pytest.raises(Refused, match=said):
            CloudflareBundles(client, "acc", "fm5").fetch(UNKNOWN)


# --- BundleStore ---


def bundle(number: int, code: bytes = b"export default {}") -> Bundle:
    """Return a bundle of two modules; the second one is the same in all of them."""
    version = Version(
        VersionId(f"{number:08x}-0000-4000-8000-000000000000"), number, float(number), code_hash=f"hash-{number}"
    )
    shared = BundleModule("lib.wasm", "application/wasm", b"\x00asm shared")
    return Bundle(version, b'{"main_module":"index.js"}', (BundleModule("index.js", "text/javascript", code), shared))


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BundleStore:
    return World().bundle_store if request.param == "memory" else FileBundleStore(tmp_path / "bundles", "fm5")


def test_what_was_kept_is_found_as_it_was(store: BundleStore) -> None:
    """Every byte of it; an unknown version is None."""
    store.keep(bundle(1, b"one"))
    store.keep(bundle(2, b"two"))
    store.keep(bundle(2, b"two"))
    assert store.find(bundle(1).version.id) == bundle(1, b"one")
    assert store.find(UNKNOWN) is None
    assert (store.has(bundle(2).version.id), store.has(UNKNOWN)) == (True, False)


def test_kept_versions_are_newest_first(store: BundleStore) -> None:
    """Without those that were named; none at first."""
    assert store.list_versions() == ()
    for number in (2, 1, 3):
        store.keep(bundle(number))
    assert [version.number for version in store.list_versions()] == [3, 2, 1]
    assert [version.number for version in store.list_versions(apart_from=[bundle(2).version.id])] == [3, 1]


def test_the_same_bytes_are_one_file_and_all_is_the_owners_alone(tmp_path: Path) -> None:
    """Folders 0700, files 0600, whatever the umask; no temporary file stays."""
    store = FileBundleStore(tmp_path / "state" / "bundles", "account-fm5")
    store.keep(bundle(1, b"one"))
    store.keep(bundle(2, b"two"))
    root = tmp_path / "state" / "bundles"
    files = [path for path in root.rglob("*") if path.is_file()]
    assert len(files) == 2 + 2 + 1 + 1  # two manifests, two codes, one shared module, one shared metadata
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (root, *(p for p in root.rglob("*") if p.is_dir()))} == {
        0o700
    }


def test_two_applications_share_blobs_and_no_version(tmp_path: Path) -> None:
    """What one keeps is not found for the other."""
    one, other = (FileBundleStore(tmp_path, name) for name in ("account-one", "account-other"))
    one.keep(bundle(1))
    other.keep(bundle(2))
    assert (other.find(bundle(1).version.id), len(one.list_versions()), len(other.list_versions())) == (None, 1, 1)


def test_damage_is_an_error_and_never_code(tmp_path: Path) -> None:
    """Of a blob, of a manifest, and a blob that is missing: each names its file."""
    for damaged in ("blob", "manifest", "missing"):
        root = tmp_path / damaged
        store = FileBundleStore(root, "fm5")
        store.keep(bundle(1))
        blob = next(path for path in (root / "blobs").rglob("*") if path.is_file() and b"export" in path.read_bytes())
        path = next((root / "versions").rglob("*.json")) if damaged == "manifest" else blob
        if damaged == "missing":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes().replace(b"e", b"E", 1))
        with pytest.raises(BackoutError) as caught:
            store.find(bundle(1).version.id)
        assert str(path) == caught.value.where


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    """Older manifests go; a blob goes once nobody needs it and it is no longer young."""
    import os  # noqa: PLC0415 - to age a file, nothing else

    store = FileBundleStore(tmp_path, "fm5", newest=2)
    for number in (1, 2, 3):
        store.keep(bundle(number, f"code {number}".encode()))
        for path in tmp_path.rglob("*"):
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 7200))
    store.keep(bundle(4, b"code 4"))
    assert [version.number for version in store.list_versions()] == [4, 3]
    contents = {path.read_bytes() for path in (tmp_path / "blobs").rglob("*") if path.is_file()}
    assert {b"code 3", b"code 4", b"\x00asm shared"} <= contents
    assert b"code 1" not in contents
    assert store.find(bundle(3).version.id) == bundle(3, b"code 3")


def test_an_id_that_would_leave_the_folder_is_refused(tmp_path: Path) -> None:
    """Ids become file names."""
    with pytest.raises(BackoutError, match="not a version id"):
        FileBundleStore(tmp_path, "fm5").find("../../etc/passwd")


def test_what_was_written_about_a_version_is_kept_without_secrets(tmp_path: Path) -> None:
    """Its message and its tag; through the tools of a configuration, as every command has them."""
    token = "a-Token_of-Nobody.4711"
    tmp_path.joinpath("backout.toml").write_text(
        """
[app]
name = "fm5"
[environments.production]
platform = { provider = "cloudflare", account_id = "0123456789abcdef0123456789abcdef", script = "fm5" }
""",
        encoding="utf-8",
    )
    masker = Redactor()
    variables = Environment({"CLOUDFLARE_API_TOKEN": token}, masker.register, masker.values)
    store = make_toolbox(load(variables, start=tmp_path, environment="production")).rollback.bundle_store
    assert store is not None
    variables.secret("CLOUDFLARE_API_TOKEN")
    made = bundle(1)
    said = replace(made, version=replace(made.version, message=f"deploy with {token}", tag=token))
    store.keep(said)
    kept = store.find(made.version.id)
    assert kept is not None
    assert (kept.version.message, kept.version.tag) == ("deploy with ***", "***")
    assert (kept.metadata, kept.modules) == (said.metadata, said.modules)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    """With the folder, and what to do."""
    (tmp_path / "bundles").write_text("a file")
    with pytest.raises(BackoutError) as caught:
        FileBundleStore(tmp_path / "bundles", "fm5").keep(bundle(1))
    assert caught.value.where == str(tmp_path / "bundles")
