"""The stage of `backout certify`: a sealed twin with the old code, the new code, and a database of its own."""

from __future__ import annotations

import http.client
import os
import secrets
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from backout.decoding import Undecodable, decode_json, decode_lossily
from backout.errors import BackoutError, ProviderRejected, UsageError
from backout.model.bundle import SOURCE_MAP, BundleModule, hash_modules
from backout.model.database.certificate import TrialAnswer
from backout.model.secrets import SecretValues
from backout.model.value import Value
from backout.providers.cloudflare.bundles import LIMITS, CloudflareBundles, upload_form
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.deployments import CloudflareDeployments
from backout.providers.cloudflare.permissions import WRITE_BUCKETS, WRITE_SCRIPTS
from backout.twin import lifecycle, wrangler
from backout.twin.home import mark_own_process
from backout.wiring.certify.own_twin import OwnTwin

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from backout.model.bundle import Bundle
    from backout.model.database.certificate import TrialRequest
    from backout.twin.lifecycle import TwinStatus

SCRIPT: Final = "certify"
BUILT_THERE: Final = "npx wrangler deploy --dry-run  # in that folder: it has to build there"
_REQUEST_S: Final = 30.0
_MOST_BYTES: Final = 4 * 1024 * 1024
_PLACEHOLDER: Final = BundleModule(
    "placeholder.js",
    "application/javascript+module",
    b'export default { fetch: () => new Response("nothing is deployed yet", { status: 404 }) };',
)


class Code(Value, frozen=True):
    """A version on the twin: its id there, the hash of its modules, and their text."""

    version: str
    hash: str
    text: str


class CertifyStage(OwnTwin):
    """A twin of Workers without a network; its secrets are made up, and the same for both versions.

    Args:
        folder: removed in the end; None: a new one.
    """

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(folder)
        self._secrets: dict[str, str] = {}
        self._is_made = False

    def _start(self, directory: Path) -> TwinStatus:
        return lifecycle.start_twin(directory, sealed=True, owner=mark_own_process())

    def _open(self, twin: TwinStatus) -> None:
        token_file = Path(str(twin.api_token_file))
        token = token_file.read_text(encoding="utf-8").strip()
        self._twin = twin
        self._token_file = token_file
        self._account = str(twin.account_id)
        self._client = ApiClient(str(twin.api_base_url), lambda: token, limits=LIMITS)
        self._bundles = CloudflareBundles(self._client, self._account, SCRIPT)
        self._deployments = CloudflareDeployments(self._client, self._account, SCRIPT)

    def deploy_folder(self, folder: Path, names: Collection[str], environment: str | None = None) -> Code:
        """Deploy a project with wrangler.

        Args:
            folder: has wrangler's configuration.
            names: of the secrets that the code needs.
            environment: of that configuration.

        Raises:
            UsageError: it is no such folder, or wrangler is not installed.
            BackoutError: wrangler says no; with the end of its output.
        """
        if not any((folder / f"wrangler.{kind}").is_file() for kind in ("jsonc", "json", "toml")):
            raise UsageError("no configuration of wrangler is there", where=str(folder), hint="name a Worker's folder")
        run = wrangler.run_wrangler(
            [
                *("deploy", "--name", SCRIPT, "--secrets-file", str(self._write_secrets(names))),
                *(("--env", environment) if environment else ("--env", "")),
            ],
            cwd=folder,
            api_base_url=str(self._twin.api_base_url),
            account_id=self._account,
            token_file=self._token_file,
            log_dir=self._folder / "wrangler",
        )
        if run.returncode != 0:
            raise BackoutError(f"wrangler deploy failed: {run.said}", where=str(folder), hint=BUILT_THERE)
        self._is_made = True
        return self._read_code(str(run.record("deploy")["version_id"]))

    def upload(self, bundle: Bundle) -> Code:
        """Upload the code of a version. Raises BackoutError: it does not start here, or has what cannot be uploaded."""
        if not self._is_made:
            form = upload_form({"main_module": _PLACEHOLDER.name}, (_PLACEHOLDER,))
            path = f"accounts/{self._account}/workers/scripts/{SCRIPT}"
            self._client.put(path, form, permission=WRITE_SCRIPTS)
            self._is_made = True
        metadata = decode_json(bundle.metadata, dict[str, object], what="the kept description of the code")
        listed = metadata.get("bindings")
        bindings = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
        names = {str(each.get("name")) for each in bindings if each.get("type") == "inherit"}
        for bucket in {str(each["bucket_name"]) for each in bindings if each.get("bucket_name")}:
            self._make_bucket(bucket)
        made = self._bundles.upload(bundle, message="certify", secrets=SecretValues(self._make_up(names)))
        return self._read_code(made.id)

    def _make_bucket(self, name: str) -> None:
        """Make an empty bucket, as wrangler does for a project; without it the version could not be uploaded."""
        path = f"accounts/{self._account}/r2/buckets"
        try:
            self._client.post(path, {"name": name}, object, permission=WRITE_BUCKETS)
        except ProviderRejected as error:
            if error.status != HTTPStatus.CONFLICT:
                raise

    def open_application(self, old: Code, new: Code) -> TwinApplication:
        """Return the application in both versions."""
        return TwinApplication(
            str(self._twin.ingress_url),
            lambda version: self._activate(old if version == "old" else new),
            lambda: lifecycle.read_status(self._folder / "twin").refused,
        )

    def _activate(self, code: Code) -> None:
        self._deployments.activate(code.version, message="certify", force=True)

    def _read_code(self, version: str) -> Code:
        bundle = self._bundles.fetch(version)
        modules = [m for m in bundle.modules if not m.content_type.startswith(SOURCE_MAP)]
        text = "\n".join(module.content.decode("utf-8", "replace") for module in modules)
        return Code(version, hash_modules(bundle.modules), text)

    def _make_up(self, names: Collection[str]) -> dict[str, str]:
        for name in sorted(names):
            self._secrets.setdefault(name, secrets.token_hex(16))
        return {name: self._secrets[name] for name in names}

    def _write_secrets(self, names: Collection[str]) -> Path:
        path = self._folder / "secrets.json"
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(msgspec.json.encode(self._make_up(names)))
        return path


class TwinApplication:
    """Port TrialApplication on a twin.

    Args:
        ingress_url: where it answers.
        switch: makes "old" or "new" live.
        list_refused: returns what the twin refused.
        host: the Host header that leads to the application; "": that of the Worker.
    """

    def __init__(
        self,
        ingress_url: str,
        switch: Callable[[str], None],
        list_refused: Callable[[], tuple[str, ...]],
        *,
        host: str = "",
    ) -> None:
        address = urlsplit(ingress_url)
        self._address = (address.hostname or "127.0.0.1", address.port)
        self.switch = switch
        self.list_refused = list_refused
        self._host = host or f"{SCRIPT}.localhost:{self._address[1]}"

    def send(self, request: TrialRequest, number: int) -> TrialAnswer:
        """Send a request and return its answer."""
        connection = http.client.HTTPConnection(*self._address, timeout=_REQUEST_S)
        headers = dict(request.headers)
        body: bytes | None = None
        if isinstance(request.body, str):
            body = request.body.encode()
        elif request.body is not None:
            body = msgspec.json.encode(request.body)
            headers.setdefault("content-type", "application/json")
        try:
            connection.request(request.method, request.path, body, {**headers, "Host": self._host})
            answer = connection.getresponse()
            return TrialAnswer(number, answer.status, _parse(answer.read(_MOST_BYTES)))
        except (OSError, http.client.HTTPException, ValueError):
            return TrialAnswer(number, None)
        finally:
            connection.close()


def _parse(body: bytes) -> object:
    try:
        return decode_lossily(body)
    except Undecodable:
        return None
