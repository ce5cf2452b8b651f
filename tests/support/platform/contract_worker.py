"""A Worker on a real twin that answers as its path says, and its visitors."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from polling import PATIENCE_S
from twin_harness import multipart

if TYPE_CHECKING:
    from backout.twin.lifecycle import TwinStatus

CODE = """
export default {
  fetch(request) {
    const path = new URL(request.url).pathname;
    if (path === "/boom") throw new Error("boom of the contract");
    return new Response("hello", { status: path === "/bad" ? 500 : 200 });
  },
};
"""


@dataclass(frozen=True)
class ContractWorker:
    """One Worker, deployed: `/` answers 200, `/bad` 500, `/boom` throws."""

    twin: TwinStatus
    script: str
    token: str
    version: str

    @property
    def api_base_url(self) -> str:
        """The twin's API."""
        return self.twin.api_base_url

    @property
    def account_id(self) -> str:
        """The twin's account."""
        return self.twin.account_id

    @property
    def source_url(self) -> str:
        """Where the router tells its counts."""
        return f"{self.twin.ingress_url}/twin/v1"

    def visit(self, path: str, **headers: str) -> int:
        """Ask for a path as a visitor does and return the status."""
        url = f"{self.twin.ingress_url}{path}"
        request = urllib.request.Request(url, headers={"Host": f"{self.script}.localhost", **headers})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code


def deploy(twin: TwinStatus, script: str) -> ContractWorker:
    """Upload the Worker and return it."""
    assert twin.api_token_file is not None
    token = Path(twin.api_token_file).read_text(encoding="ascii").strip()
    form, kind = multipart({"main_module": "i.js", "compatibility_date": "2026-10-01"}, {"i.js": CODE})
    path = f"{twin.api_base_url}/accounts/{twin.account_id}/workers/scripts/{script}"
    headers = {"Authorization": f"Bearer {token}"}
    upload = urllib.request.Request(path, data=form, method="PUT", headers={**headers, "Content-Type": kind})
    with urllib.request.urlopen(upload, timeout=PATIENCE_S) as response:
        assert response.status == 200
    with urllib.request.urlopen(
        urllib.request.Request(f"{path}/deployments", headers=headers), timeout=PATIENCE_S
    ) as response:
        live = json.load(response)["result"]["deployments"][0]
    return ContractWorker(twin, script, token, live["versions"][0]["version_id"])
