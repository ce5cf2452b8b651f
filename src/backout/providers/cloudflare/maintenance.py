"""Port Maintenance on Cloudflare: a version that answers 503, with the bindings and the secrets of the live one.

It is uploaded as code that is uploaded again (`bundles`), so its secrets are those of what is live. Static files are
left out: they would be answered before the code is asked. Durable Objects stay bound, so their classes are there,
answer 503, and put their alarms off. Source for what becomes of a queue's batch and of an alarm: documentation,
"JavaScript APIs" of Queues (`retryAll`) and "Alarms" (read 2026-12-01); that a mail whose handler throws is sent again
by its sender is a guess.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from backout.errors import ProviderRejected, Refused
from backout.model.bundle import Bundle, BundleModule
from backout.model.version import MAINTENANCE_TAG, Version, VersionId
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.deployment import Deployment
    from backout.providers.cloudflare.bundles import CloudflareBundles
    from backout.providers.cloudflare.deployments import CloudflareDeployments
    from backout.providers.cloudflare.versions import CloudflareVersions

RETRY_AFTER_S: Final = 60
_MODULE: Final = "maintenance.js"
_OBJECTS: Final = "durable_object_namespace"
_CLASS: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*", re.ASCII)
_CODE: Final = """\
const TEXT = "Maintenance: this service is being restored. Please try again in a few minutes.\\n";
const unavailable = () => new Response(TEXT, {
  status: 503,
  headers: { "content-type": "text/plain; charset=utf-8", "retry-after": "%d", "cache-control": "no-store" },
});
export default {
  fetch: unavailable,
  scheduled(controller) { controller.noRetry(); },
  queue(batch) { batch.retryAll({ delaySeconds: 300 }); },
  email() { throw new Error(TEXT); },
};
class Waiting {
  constructor(state) { this.state = state; }
  fetch() { return unavailable(); }
  async alarm() { await this.state.storage.setAlarm(Date.now() + 300000); }
}
"""


class CloudflareMaintenance:
    """Port Maintenance of one Worker."""

    def __init__(
        self, deployments: CloudflareDeployments, versions: CloudflareVersions, bundles: CloudflareBundles, script: str
    ) -> None:
        self._deployments = deployments
        self._versions = versions
        self._bundles = bundles
        self._script = script

    def find_obstacle(self) -> str:
        """Return why there can be none: Workflows, whose instances would run on in it and fail."""
        try:
            self._describe()
        except (ProviderRejected, Refused) as error:
            return error.what
        return ""

    def show(self, message: str) -> Deployment:
        """Upload it, unless one with that message was, and make it live."""
        live, metadata = self._describe()
        bindings = _list_bindings(metadata)
        classes = _list_classes(bindings, self._script)
        module = BundleModule(_MODULE, "application/javascript+module", render_code(classes).encode())
        version = Version(VersionId(live), 0, 0.0, tag=MAINTENANCE_TAG)
        bundle = Bundle(version, json.dumps({**metadata, "main_module": _MODULE}).encode(), (module,))
        known = (each.id for each in self._versions.recent() if each.is_maintenance and each.message == message)
        made = next(known, None) or self._bundles.upload(bundle, message=message).id
        has_objects = any(each.get("type") == _OBJECTS for each in bindings)
        return self._deployments.activate(made, message=message, immediate=has_objects)

    def _describe(self) -> tuple[str, dict[str, object]]:
        """Return the live version, and what an upload with its bindings names.

        Raises:
            ProviderRejected: nothing is live.
            Refused: it runs workflows.
        """
        history = self._deployments.history()
        if not history:
            raise ProviderRejected("nothing is deployed, so there is nothing to take out of service", status=404)
        live = history[0].main
        metadata = self._bundles.describe_bindings(live)
        flows = sorted(
            str(each.get("name"))
            for each in _list_bindings(metadata)
            if each.get("type") == "workflow" and each.get("script_name") in (None, "", self._script)
        )
        if flows:
            what = f"the Worker runs workflows ({', '.join(flows)}): instances that go on in a maintenance version fail"
            options = ("pause their instances, then go on without a maintenance version",)
            raise Refused(what, where=self._script, rule=SafetyRule.TARGET, options=options)
        return live, metadata


def render_code(classes: Sequence[str]) -> str:
    """Return the code, which exports these classes of Durable Objects."""
    return (_CODE % RETRY_AFTER_S) + "".join(f"export class {name} extends Waiting {{}}\n" for name in classes)


def _list_bindings(metadata: dict[str, object]) -> list[dict[str, object]]:
    found = metadata.get("bindings")
    return found if isinstance(found, list) else []


def _list_classes(bindings: Sequence[dict[str, object]], script: str) -> list[str]:
    """Return the classes of Durable Objects that this Worker's own code has to export."""
    own = (
        str(each.get("class_name"))
        for each in bindings
        if each.get("type") == _OBJECTS and each.get("script_name") in (None, "", script)
    )
    return sorted({name for name in own if _CLASS.fullmatch(name)})
