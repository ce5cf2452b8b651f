"""The applications of a fleet on a twin of Cloudflare: one Worker of a few lines each, in one account."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fleet_part import list_served
from kept import furnish

from backout.twin import lifecycle
from backout.twin.home import mark_own_process

from polling import PATIENCE_S
from twin_harness import multipart

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.twin.lifecycle import TwinStatus

_CODE: Final = """const NAME = "{version}";
let asked = 0;
export default {{
  fetch(request, env) {{
    const isLook = new URL(request.url).pathname === "/health";
    const fails = !isLook && NAME.startsWith("bad-") && asked++ % 2 === 1;
    const body = {{ status: "healthy", version: env.CF_VERSION.id, services: {{ api: {{ status: "healthy" }} }} }};
    return Response.json(body, {{ status: fails ? 500 : 200 }});
  }},
}};
"""
_LINES: Final = """health = {{ url = "http://{name}.localhost:{port}/health" }}
traffic = {{ provider = "twin", url = "{control}", token_file = "twin/api-token" }}
[environments.{name}.platform]
provider = "cloudflare"
account_id = "{account}"
script = "{name}"
api_base_url = "{api}"
token_file = "twin/api-token"
"""


class TwinPart:
    """Part of a fleet, see `Part`: all of it is asked of the twin's own API, and its router's counts."""

    place = "on the twin"
    blur_s = 1.0  # the router counts by the second

    def __init__(self, twin: TwinStatus, count: int) -> None:
        self._twin, self._versions = twin, dict[str, str]()
        self.names = tuple(f"twin-{number}" for number in range(count))
        self._token = Path(str(twin.api_token_file)).read_text(encoding="ascii").strip()
        self._address = str(twin.ingress_url).removeprefix("http://")

    @property
    def hosts(self) -> dict[str, str]:
        """The address of each Worker by the Host header that leads to it."""
        return {f"{name}.localhost": self._address for name in self.names}

    def describe(self, name: str) -> str:
        """Return an application's lines of backout.toml."""
        twin, port = self._twin, self._address.rpartition(":")[2]
        where = {"control": twin.control_url, "account": twin.account_id, "api": twin.api_base_url}
        return _LINES.format(name=name, port=port, **where)

    def deploy(self, name: str, version: str) -> str:
        """Upload a version, which makes it live, as `wrangler deploy` does it."""
        bindings = [{"name": "CF_VERSION", "type": "version_metadata"}]
        metadata = {"main_module": "i.js", "compatibility_date": "2026-10-01", "bindings": bindings}
        form, kind = multipart(metadata, {"i.js": _CODE.format(version=version)})
        before = {each["id"] for each in self._ask(f"{name}/versions")["items"]} if self._versions_of(name) else set()
        self._ask(name, data=form, kind=kind)
        (made,) = {each["id"] for each in self._ask(f"{name}/versions")["items"]} - before
        self._versions[made] = f"{name} {version}"
        return str(made)

    def _versions_of(self, name: str) -> list[str]:
        return [each for each in self._versions.values() if each.startswith(f"{name} ")]

    def read_live(self, name: str) -> str:
        """Return the version that the API says is live."""
        return str(self.read_switches(name)[-1]["version"])

    def read_switches(self, name: str) -> list[dict[str, Any]]:
        """Return what the API lists, which is the ten newest, oldest first."""
        listed = self._ask(f"{name}/deployments")["deployments"]
        return [self._read(each) for each in reversed(listed)]

    def _read(self, deployment: dict[str, Any]) -> dict[str, Any]:
        main = max(deployment["versions"], key=lambda each: each["percentage"])
        return {
            "at": datetime.fromisoformat(deployment["created_on"]).timestamp(),
            "version": self._versions[main["version_id"]].partition(" ")[2],
            "message": (deployment["annotations"] or {}).get("workers/message", ""),
        }

    def read_served(self, name: str) -> list[str]:
        """Return the versions that were live, as the API lists them."""
        return list_served([each["version"] for each in self.read_switches(name)])

    def read_looks(self) -> dict[str, list[float]]:
        """Return the seconds in which the router answered backout's own requests, those that prove a target too."""
        return {name: self._read_looks(name) for name in self.names}

    def _read_looks(self, name: str) -> list[float]:
        rows = self._get(f"{self._twin.control_url}/counts?script={name}&since=0")["counts"]
        return sorted({float(each["second"]) for each in rows if each["probes"]})

    def _ask(self, path: str, data: bytes | None = None, kind: str = "") -> Any:
        twin = self._twin
        return self._get(f"{twin.api_base_url}/accounts/{twin.account_id}/workers/scripts/{path}", data, kind)["result"]

    def _get(self, url: str, data: bytes | None = None, kind: str = "") -> Any:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": kind}
        request = urllib.request.Request(url, data, headers, method="GET" if data is None else "PUT")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{url}: {error.code}: {error.read(2000)!r}") from None


@contextlib.contextmanager
def twin_part(folder: Path, count: int) -> Iterator[TwinPart]:
    """Run a twin, in `twin` below a fleet's folder, until the block ends; a Worker is there once it is deployed."""
    try:
        yield TwinPart(lifecycle.start_twin(furnish(folder / "twin"), owner=mark_own_process()), count)
    finally:
        lifecycle.stop_twin(folder / "twin")
