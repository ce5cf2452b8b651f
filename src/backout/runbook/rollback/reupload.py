"""Carry: upload the code of a version again, so that it runs with the secrets as they are now (safety rule 7).

The upload carries a marker in its message, so that a run which crashed between upload and deployment finds it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from backout.analysis.history.remarks import is_same_hash
from backout.errors import BackoutError, Refused
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from collections.abc import Collection

    from backout.model.bundle import Bundle
    from backout.model.secrets import SecretValues
    from backout.model.version import Version
    from backout.runbook.toolbox import Toolbox

RULE = SafetyRule.SECRETS


def upload_again(tools: Toolbox, run: str, version: str, secrets: SecretValues | None = None) -> Version:
    """Return a new version with that version's code and the current secrets, not live; this run's own if it is there.

    Args:
        secrets: those that are set with it, in the same call.

    Raises:
        Refused: a secret that the code needs is gone, its code is not available, or it cannot be uploaded again.
    """
    bundle = read_bundle(tools, version)
    marker = _make_marker(run, version)
    made = find_earlier_upload(tools, marker, bundle.version.code_hash)
    if made is not None:
        return made
    _check_secrets(tools, bundle, secrets.names if secrets is not None else ())
    assert tools.rollback.bundles is not None
    message = f"{marker} {bundle.version.git_sha}".rstrip()
    uploaded = tools.rollback.bundles.upload(bundle, message=message, secrets=secrets)
    carried = uploaded if uploaded.code_hash else tools.versions.detail(uploaded.id)
    wanted = bundle.version.code_hash
    if wanted and carried.code_hash and carried.code_hash != wanted:
        tools.say(f"the provider gives the code of {version[:8]}, uploaded again, another hash ({carried.code_hash})")
    return carried


def _make_marker(run: str, version: str) -> str:
    return f"[backout {run} carry] {version}"


def find_reuploaded(tools: Toolbox, run: str, version: str) -> Version | None:
    """Return the version that a run uploaded with that version's code, or None."""
    return find_earlier_upload(tools, _make_marker(run, version), read_bundle(tools, version).version.code_hash)


def find_earlier_upload(tools: Toolbox, marker: str, code_hash: str | None) -> Version | None:
    """Return the version that an earlier attempt of this run uploaded, or None.

    Its message alone proves nothing, since anyone who may upload can write it: it has to be the same code, too.
    """
    marked = (v for v in tools.versions.recent() if v.message == marker or v.message.startswith(f"{marker} "))
    found = (tools.versions.detail(version.id) for version in marked)
    return next((version for version in found if is_same_hash(version.code_hash, code_hash)), None)


def keep(tools: Toolbox, version: str) -> None:
    """Store the code of a version here, in the background; a failure is reported once and changes nothing."""
    if tools.rollback.bundles is None or tools.rollback.bundle_store is None:
        return
    if not tools.guard.in_background:
        _keep(tools, version)
        return
    # A daemon: a command that ends does not wait for it; a half-written copy does not count.
    threading.Thread(target=_keep, args=(tools, version), name="keep the code", daemon=True).start()


def _keep(tools: Toolbox, version: str) -> None:
    assert tools.rollback.bundles is not None
    assert tools.rollback.bundle_store is not None
    try:
        if not tools.rollback.bundle_store.has(version):
            tools.rollback.bundle_store.keep(tools.rollback.bundles.fetch(version))
    except BackoutError as error:
        tools.say(f"the code of version {version[:8]} is not kept here: {error}")


def read_bundle(tools: Toolbox, version: str) -> Bundle:
    """Return the code of a version, from the copy kept here or from the provider. Raises Refused: neither has it."""
    if tools.rollback.bundles is None:
        raise _make_impossible_error(tools, version, "code cannot be uploaded here")
    if tools.rollback.bundle_store is not None:
        try:
            kept = tools.rollback.bundle_store.find(version)
        except BackoutError as error:
            tools.say(f"the copy of version {version[:8]} kept here is of no use: {error}")
            kept = None
        if kept is not None:
            return kept
    try:
        return tools.rollback.bundles.fetch(version)
    except Refused:
        raise
    except BackoutError as error:
        raise _make_impossible_error(tools, version, f"its code is not to be had ({error})") from error


def _check_secrets(tools: Toolbox, bundle: Bundle, given: Collection[str]) -> None:
    if tools.secrets is None:
        return
    gone = sorted(set(bundle.version.secret_names) - set(tools.secrets.names()) - set(given))
    if gone:
        raise _make_impossible_error(tools, bundle.version.id, f"it needs secrets that are gone: {', '.join(gone)}")


def _make_impossible_error(tools: Toolbox, version: str, why: str) -> Refused:
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
