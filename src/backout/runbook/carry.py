"""Carry: upload the code of a version again, so that it runs with the secrets as they are now (safety rule 7).

The upload carries a marker in its message, so that a run which crashed between upload and deployment finds its own.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from backout.analysis.remarks import same_hash
from backout.errors import BackoutError, Refused

if TYPE_CHECKING:
    from backout.model.bundle import Bundle
    from backout.model.deployment import Version
    from backout.runbook.toolbox import Toolbox

RULE = "7 secrets"


def upload_again(tools: Toolbox, run: str, version: str) -> Version:
    """Return a new version with that version's code and the current secrets, not live; this run's own if it is there.

    Raises:
        Refused: a secret that the code needs is gone, its code is not to be had, or it cannot be uploaded again.
    """
    bundle = bundle_of(tools, version)
    marker = _marker(run, version)
    made = uploaded_before(tools, marker, bundle.version.code_hash)
    if made is not None:
        return made
    _check_secrets(tools, bundle)
    assert tools.bundles is not None  # noqa: S101 - `bundle_of` has refused otherwise
    uploaded = tools.bundles.upload(bundle, message=f"{marker} {bundle.version.git_sha}".rstrip())
    carried = uploaded if uploaded.code_hash else tools.versions.detail(uploaded.id)
    wanted = bundle.version.code_hash
    if wanted and carried.code_hash and carried.code_hash != wanted:
        tools.say(f"the provider gives the code of {version[:8]}, uploaded again, another hash ({carried.code_hash})")
    return carried


def _marker(run: str, version: str) -> str:
    return f"[backout {run} carry] {version}"


def uploaded_again(tools: Toolbox, run: str, version: str) -> Version | None:
    """Return the version that a run uploaded with that version's code, or None."""
    return uploaded_before(tools, _marker(run, version), bundle_of(tools, version).version.code_hash)


def uploaded_before(tools: Toolbox, marker: str, code_hash: str | None) -> Version | None:
    """Return the version that an earlier attempt of this run uploaded, or None.

    Its message alone proves nothing, whoever may upload can write it: it has to be the very code, too.
    """
    marked = (v for v in tools.versions.recent() if v.message == marker or v.message.startswith(f"{marker} "))
    found = (tools.versions.detail(version.id) for version in marked)
    return next((version for version in found if same_hash(version.code_hash, code_hash)), None)


def keep(tools: Toolbox, version: str) -> None:
    """Keep the code of a version here, beside whatever else goes on; what fails is said once and changes nothing."""
    if tools.bundles is None or tools.bundle_store is None:
        return
    if not tools.in_background:
        _keep(tools, version)
        return
    # A daemon: a command that ends does not wait for it; a half-written copy is no copy.
    threading.Thread(target=_keep, args=(tools, version), name="keep the code", daemon=True).start()


def _keep(tools: Toolbox, version: str) -> None:
    assert tools.bundles is not None  # noqa: S101 - asked by `keep`
    assert tools.bundle_store is not None  # noqa: S101
    try:
        if not tools.bundle_store.has(version):
            tools.bundle_store.keep(tools.bundles.fetch(version))
    except BackoutError as error:
        tools.say(f"the code of version {version[:8]} is not kept here: {error}")


def bundle_of(tools: Toolbox, version: str) -> Bundle:
    """Return the code of a version, as it is kept here or as the provider gives it. Raises Refused: neither has it."""
    if tools.bundles is None:
        raise _impossible(tools, version, "code cannot be uploaded here")
    if tools.bundle_store is not None:
        try:
            kept = tools.bundle_store.find(version)
        except BackoutError as error:
            tools.say(f"the copy of version {version[:8]} kept here is of no use: {error}")
            kept = None
        if kept is not None:
            return kept
    try:
        return tools.bundles.fetch(version)
    except Refused:
        raise
    except BackoutError as error:
        raise _impossible(tools, version, f"its code is not to be had ({error})") from error


def _check_secrets(tools: Toolbox, bundle: Bundle) -> None:
    if tools.secrets is None:
        return
    gone = sorted(set(bundle.version.secret_names) - set(tools.secrets.names()))
    if gone:
        raise _impossible(tools, bundle.version.id, f"it needs secrets that are gone: {', '.join(gone)}")


def _impossible(tools: Toolbox, version: str, why: str) -> Refused:
    return Refused(
        f"version {version} cannot be uploaded again: {why}",
        where=tools.environment,
        rule=RULE,
        options=(
            "set what is missing, then repeat",
            f"its own, old values: `backout rollback {version} -e {tools.environment} --restore-secrets -m WHY`",
            "roll forward with a new deployment",
        ),
    )
