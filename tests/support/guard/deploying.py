"""A variant deployed by the API as `wrangler deploy` does it, which takes two seconds of a processor each time."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backout.model.bundle import BundleModule
from backout.providers.cloudflare.bundles import upload_form
from backout.twin.stage import SCRIPT

from fm5_app import bundle_files
from polling import PATIENCE_S

if TYPE_CHECKING:
    from backout.model.bundle import Bundle
    from backout.twin.stage import Stage


def deploy(stage: Stage, variant: str, like: Bundle) -> str:
    """Upload what wrangler bundles of a variant, with the stage's secrets, make it live and return the version.

    Args:
        like: one that wrangler has deployed there, for its settings.
    """
    lines = (stage.directory / "secrets.env").read_text(encoding="utf-8").split()
    known = dict(line.split("=", 1) for line in lines)
    metadata: dict[str, Any] = json.loads(like.metadata)
    metadata["main_module"] = f"{variant}.js"
    metadata["bindings"] = [
        {"name": each["name"], "type": "secret_text", "text": known[each["name"]]} if each["name"] in known else each
        for each in metadata["bindings"]
    ]
    metadata["annotations"] = {"workers/message": variant}
    kinds = [each.content_type for each in like.modules]
    parts = zip((f"{variant}.js", f"{variant}.js.map"), kinds, bundle_files(variant), strict=True)
    form = upload_form(metadata, tuple(BundleModule(name, kind, text.encode()) for name, kind, text in parts))
    twin = stage.twin
    url = f"{twin.api_base_url}/accounts/{twin.account_id}/workers/scripts/{SCRIPT}"
    token = Path(str(twin.api_token_file)).read_text(encoding="ascii").strip()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": form.content_type}
    with urllib.request.urlopen(
        urllib.request.Request(url, bytes(form.data), headers, method="PUT"), timeout=PATIENCE_S
    ):
        pass
    with urllib.request.urlopen(
        urllib.request.Request(f"{url}/deployments", headers=headers), timeout=PATIENCE_S
    ) as answer:
        newest = json.load(answer)["result"]["deployments"][0]
    assert newest["annotations"]["workers/message"] == variant
    return str(newest["versions"][0]["version_id"])
