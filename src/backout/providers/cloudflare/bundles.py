"""Port Bundles on Cloudflare: the code of one version, and its upload as a new version with the current secrets.

Documented: the beta `workers/workers/{name}/versions/{id}?include=modules` gives a version with its modules in base64,
its bindings (secrets by name only), main module and settings, and `assets` where it has static files, whose content no
call gives back; `scripts/{name}/versions` takes a multipart form whose bindings may `inherit` from a version named by
`version_id`, and with `bindings_inherit=strict` fails where one of them has no source, which it else leaves out
silently (OpenAPI description, 2026-10). The parts of a version are those of cloudflare-typescript (2026-08), and an
upload takes them under the same names (there, and in what wrangler 4.164 sends). Guesses, to be seen on the real edge:
that the name serves as the id of a Worker there (wrangler uses it so), that code uploaded again gets the same `etag`,
and that 10057 is what an inherited binding without a source answers.
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from backout.decoding import Undecodable, decode_json, decode_values
from backout.errors import ProviderRejected, ProviderUnavailable, Refused
from backout.escaping import shorten
from backout.model.bundle import Bundle, BundleModule
from backout.providers.cloudflare.client import Form
from backout.providers.cloudflare.permissions import READ_SCRIPTS, WRITE_SCRIPTS
from backout.providers.cloudflare.secrets import make_secret_binding
from backout.providers.cloudflare.versions import ApiVersion
from backout.providers.exchange import Limits, quote_segment
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from backout.model.secrets import SecretValues
    from backout.model.version import Version
    from backout.providers.cloudflare.client import ApiClient

T = TypeVar("T")

LIMITS: Final = Limits(read_s=30.0, total_s=120.0, body_bytes=192 * 1024 * 1024)
"""A Worker has up to 64 MB, in base64 a third more."""
_NOTHING_TO_INHERIT: Final = 10057
_SECRET_TYPES: Final = frozenset({"secret_text", "secret_key"})
_CARRIED: Final = (
    "compatibility_date",
    "compatibility_flags",
    "limits",
    "placement",
    "exports",
    "cache_options",
    "containers",
    "package_dependencies",
    "usage_model",
)
"""The parts of a version that an upload takes as they are."""
_READ: Final = frozenset({"main_module", "modules", "bindings", "assets", "annotations"})
_OF_THE_UPLOAD: Final = frozenset(
    {
        *("id", "number", "created_on", "urls", "source", "startup_time_ms", "exports_reconciliation", "migration_tag"),
        *("metadata", "resources"),  # the same told once more, as the older API does
    }
)
"""What says how and when it was made, which the new version has anew."""
_WHOLE: Final = "backout/whole"
"""In a description that is kept: every part of the version was looked at. Earlier ones lack what was dropped then."""


class _Module(msgspec.Struct):
    name: str
    content_type: str = "application/octet-stream"
    content_base64: str = ""


class _Share(msgspec.Struct):
    version_id: str
    percentage: float = 0.0


class _Deployment(msgspec.Struct):
    created_on: str = ""
    versions: tuple[_Share, ...] = ()


class _History(msgspec.Struct):
    deployments: tuple[_Deployment, ...] = ()


class CloudflareBundles:
    """Port Bundles of one Worker.

    Args:
        client: for uploads; reader: for reads. Separate ones where a large answer must not delay other calls.
    """

    def __init__(self, client: ApiClient, account_id: str, script: str, *, reader: ApiClient | None = None) -> None:
        self._client = client
        self._reader = reader or client
        self._script = script
        account = f"accounts/{quote_segment(account_id)}/workers"
        self._worker = f"{account}/workers/{quote_segment(script)}/versions"
        self._versions = f"{account}/scripts/{quote_segment(script)}/versions"
        self._deployments = f"{account}/scripts/{quote_segment(script)}/deployments"

    def fetch(self, version: str) -> Bundle:
        """Return the code of a version.

        Raises:
            ProviderRejected: no such version.
            Refused: it has what no upload can bring back: static files, migrations of Durable Objects, or parts that
                are not known here.
            ProviderUnavailable: the answer holds no code.
        """
        known = self._detail(version)
        found = self._describe(version, {"include": "modules"})
        metadata = self._make_metadata(version, found)
        modules = _convert(found.get("modules"), tuple[_Module, ...])
        if not modules or not found.get("main_module"):
            raise ProviderUnavailable(f"the answer about version {version} holds no code", where=self._script)
        return Bundle(known, msgspec.json.encode(metadata), tuple(_make_module(m) for m in modules))

    def upload(self, bundle: Bundle, *, message: str, secrets: SecretValues | None = None) -> Version:
        """Upload the code as a new version, not live; each secret is inherited from the newest version with traffic.

        All of them, also those that this code never knew: the next deployment inherits from this upload. Those in
        `secrets` are not inherited, but set.

        Raises:
            Refused: a secret does not exist there any more, or the description was kept without parts that cannot be
                read now.
        """
        metadata = self._complete(bundle)
        current = self._current()
        listed = metadata.get("bindings")
        bindings = listed if isinstance(listed, list) else []
        given = [make_secret_binding(secrets, name) for name in secrets.names] if secrets else []
        replaced = {binding["name"] for binding in given}
        bindings = [*(b for b in bindings if b.get("name") not in replaced), *given]
        names = {binding.get("name") for binding in bindings}
        added = [{"type": "inherit", "name": name} for name in self._detail(current).secret_names if name not in names]
        metadata["bindings"] = [
            {**binding, "version_id": current} if binding.get("type") == "inherit" else binding
            for binding in [*bindings, *added]
        ]
        tag = {"workers/tag": bundle.version.tag} if bundle.version.tag else {}
        metadata["annotations"] = {"workers/message": message, **tag}
        try:
            made = self._client.post(
                self._versions,
                upload_form(metadata, bundle.modules),
                ApiVersion,
                permission=WRITE_SCRIPTS,
                query={"bindings_inherit": "strict"},
                private=bool(given),
            )
        except ProviderRejected as error:
            if error.code != _NOTHING_TO_INHERIT:
                raise
            raise Refused(
                f"version {bundle.version.id} cannot be uploaded again: a secret that it needs is gone ({error.what})",
                where=self._script,
                rule=SafetyRule.SECRETS,
                options=("set that secret again, then repeat", "roll forward with a new deployment"),
            ) from error
        return made.as_model()

    def describe_bindings(self, version: str) -> dict[str, object]:
        """Return the description of an upload with the bindings of a version and other code; static files are left out.

        Raises:
            ProviderRejected: no such version.
        """
        found = self._describe(version, {})
        bindings = _convert(found.get("bindings") or [], tuple[dict[str, object], ...])
        return {
            **{name: found[name] for name in _CARRIED if found.get(name) is not None},
            "bindings": [_inherit(each) for each in bindings if each.get("type") != "assets"],
            _WHOLE: True,
        }

    def _complete(self, bundle: Bundle) -> dict[str, object]:
        """Return the description of an upload; parts that were not looked at when it was kept are read now."""
        metadata = decode_json(bundle.metadata, dict[str, object], what="the kept description of the code")
        if metadata.pop(_WHOLE, False):
            return metadata
        version = bundle.version.id
        try:
            now = self._make_metadata(version, self._describe(version, {}))
        except ProviderRejected as error:
            what = f"the copy of version {version} is older than what is kept today, and what it lacks cannot be read"
            raise self._make_refusal(f"{what} ({error.what})") from error
        return metadata | {name: now[name] for name in _CARRIED if name in now}

    def _describe(self, version: str, query: dict[str, str]) -> dict[str, object]:
        path = f"{self._worker}/{quote_segment(version)}"
        found, _ = self._reader.get_page(path, dict[str, object], permission=READ_SCRIPTS, query=query, exact=True)
        return found

    def _make_metadata(self, version: str, found: dict[str, object]) -> dict[str, object]:
        """Return what an upload needs beside the modules; secrets become `inherit`, never a value.

        Raises:
            Refused: something of the version would be missing.
        """
        bindings = _convert(found.get("bindings") or [], tuple[dict[str, object], ...])
        if found.get("assets") is not None or any(binding.get("type") == "assets" for binding in bindings):
            raise self._make_refusal(f"version {version} has static files, and the provider does not give them back")
        if found.get("migrations"):
            raise self._make_refusal(f"version {version} has migrations of Durable Objects, which no upload may repeat")
        unknown = sorted(
            name for name, value in found.items() if value and name not in {*_CARRIED, *_READ, *_OF_THE_UPLOAD}
        )
        if unknown:
            named = ", ".join(shorten(name) for name in unknown)
            raise self._make_refusal(f"version {version} has parts that are not known here, and a copy lacks: {named}")
        return {
            "main_module": found.get("main_module"),
            **{name: found[name] for name in _CARRIED if found.get(name) is not None},
            "bindings": [_inherit(binding) for binding in bindings],
            _WHOLE: True,
        }

    def _make_refusal(self, what: str) -> Refused:
        options = ("deploy that commit again from your working copy: it will have the current secrets",)
        return Refused(what, where=self._script, rule=SafetyRule.SECRETS, options=options)

    def _current(self) -> str:
        """Return the newest version with traffic: the one with the current secrets."""
        history = self._reader.get(self._deployments, _History, permission=READ_SCRIPTS)
        deployments = sorted(history.deployments, key=lambda deployment: deployment.created_on, reverse=True)
        serving = [s.version_id for s in deployments[0].versions if s.percentage > 0] if deployments else []
        if not serving:
            raise ProviderRejected("nothing is deployed, so there are no secrets to inherit", status=404)
        return serving[0] if len(serving) == 1 else max(serving, key=lambda version: self._detail(version).number)

    def _detail(self, version: str) -> Version:
        return self._reader.get(
            f"{self._versions}/{quote_segment(version)}", ApiVersion, permission=READ_SCRIPTS
        ).as_model()


def _inherit(binding: dict[str, object]) -> dict[str, object]:
    """Return what an upload names a binding by: of a secret no call gives the value back."""
    return {"type": "inherit", "name": binding.get("name")} if binding.get("type") in _SECRET_TYPES else binding


def _convert(value: object, shape: type[T]) -> T:
    try:
        return decode_values(value, shape, what="the code of a version")
    except Undecodable as error:
        raise ProviderUnavailable(f"the answer cannot be read: {error.what}") from error


def _make_module(module: _Module) -> BundleModule:
    try:
        content = base64.b64decode(module.content_base64, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProviderUnavailable(f"the code of module {module.name!r} cannot be read from the answer") from error
    return BundleModule(module.name, module.content_type, content)


def upload_form(metadata: dict[str, object], modules: tuple[BundleModule, ...]) -> Form:
    """Return the multipart form of an upload.

    >>> form = upload_form({"main_module": "a.js"}, (BundleModule("a.js", "text/javascript", b"x"),))
    >>> form.data.count(form.content_type.partition("=")[2].encode())
    3
    """
    return write_form(modules, msgspec.json.encode(metadata))


def write_form(files: tuple[BundleModule, ...], metadata: bytes | None = None) -> Form:
    """Return a multipart form of files, after a part `metadata` of JSON that is no file."""
    boundary = f"backout-{os.urandom(16).hex()}"
    data = bytearray()
    first = () if metadata is None else (BundleModule("metadata", "application/json", metadata),)
    for number, part in enumerate((*first, *files)):
        name = _quote(part.name)
        file_name = f'; filename="{name}"' if number >= len(first) else ""
        data += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file_name}\r\n'.encode()
        data += f"Content-Type: {_strip_parameters(part.content_type)}\r\n\r\n".encode() + part.content + b"\r\n"
    data += f"--{boundary}--\r\n".encode()
    return Form(f"multipart/form-data; boundary={boundary}", bytes(data))


def _quote(name: str) -> str:
    """Return a name for a header of a form part, as browsers write it."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _strip_parameters(content_type: str) -> str:
    return "".join(c for c in content_type if c.isprintable())
