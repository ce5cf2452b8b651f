"""Port Deployments on Cloudflare: current and past deployments, and the switch to another version.

Source: wrangler 4.164's `createDeployment`: Durable Objects run the code of before until they hibernate, for at most
five minutes, unless `code_update_strategy` is immediate, which resets live ones. Cohorts: Cloudflare documentation,
"Cohort-based deployments" (2026): `cohorts` of a deployment, each a name and versions with percentages over the same
versions; what becomes of them in a deployment that names none is not documented, so they are always named. Settings of
a deployment that are not known here (objects and lists: what is a word or a number only tells) stay with what moves no
traffic.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from backout.decoding import decode_values
from backout.errors import NoSplit, ProviderRejected, ProviderUnavailable, Refused, SecretsChanged
from backout.model.deployment import Cohort, Deployment, DeploymentId, Share, add_shares_of_cohorts, carry_cohorts
from backout.model.version import VersionId
from backout.providers.clock import parse_unix_s
from backout.providers.cloudflare.permissions import READ_SCRIPTS, WRITE_SCRIPTS
from backout.providers.exchange import quote_segment
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.providers.cloudflare.client import ApiClient

MAX_MESSAGE_BYTES: Final = 1000
_WHOLE: Final = 100.001  # percent, and what rounding adds
_SECRETS_CHANGED: Final = 10220
_EXPORTS_DIFFER: Final = 100_405
"""Source: wrangler 4.164, which tells to deploy one of them alone."""
_NAME: Final = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_REFUSALS: Final = (
    # Cloudflare documents these refusals without their numbers, so the words count as well.
    (10085, re.compile(r"bucket|namespace|queue|database|binding", re.IGNORECASE), "a bound resource is gone"),
    (10211, re.compile(r"migration|durable object", re.IGNORECASE), "a Durable Object migration lies between"),
    (10218, re.compile(r"most recent|too old|no longer", re.IGNORECASE), "it is out of the window of 100 versions"),
)


class _ApiShare(msgspec.Struct):
    version_id: str
    percentage: float


class _ApiCohort(msgspec.Struct):
    name: str
    versions: tuple[_ApiShare, ...] = ()


class ApiDeployment(msgspec.Struct):
    """A deployment as the API shows it."""

    id: str
    created_on: str
    versions: tuple[_ApiShare, ...] = ()
    annotations: dict[str, str | None] | None = None
    author_email: str | None = None
    cohorts: tuple[_ApiCohort, ...] | None = None

    def as_model(self) -> Deployment:
        """Return the noun. Raises ProviderUnavailable: it has no versions, or impossible shares."""
        notes = self.annotations or {}
        every = [self.versions, *(cohort.versions for cohort in self.cohorts or ())]
        if not all(every) or not all(0 <= share.percentage <= _WHOLE for part in every for share in part):
            what = "the answer describes a deployment without versions, or with impossible shares"
            raise ProviderUnavailable(what, where=self.id[:80])
        cohorts = tuple(Cohort(cohort.name, _make_shares(cohort.versions)) for cohort in self.cohorts or ())
        return Deployment(
            id=DeploymentId(self.id),
            created_at=parse_unix_s(self.created_on),
            shares=add_shares_of_cohorts(_make_shares(self.versions), cohorts),
            cohorts=cohorts,
            message=notes.get("workers/message") or "",
            triggered_by=notes.get("workers/triggered_by") or "",
            author=self.author_email or "",
        )


def _make_shares(shares: Sequence[_ApiShare]) -> tuple[Share, ...]:
    made = [Share(VersionId(share.version_id), share.percentage) for share in shares]
    return tuple(sorted(made, key=lambda share: -share.percentage))


_KNOWN: Final = frozenset((*ApiDeployment.__struct_fields__, "code_update_strategy"))
"""The strategy is one of the deployment's beginning, and is not kept."""


class _History(msgspec.Struct):
    deployments: tuple[dict[str, object], ...] = ()

    def __post_init__(self) -> None:
        """Raise ValidationError, as for any other shape, if one is no deployment."""
        self.parse()

    def parse(self) -> list[ApiDeployment]:
        return decode_values(list(self.deployments), list[ApiDeployment], what="the list of deployments")


class _Live(NamedTuple):
    """A deployment, and the settings of it that are not known here."""

    deployment: Deployment
    settings: Mapping[str, object]

    def stays(self, shares: Sequence[Share]) -> bool:
        """Whether each of its versions has the same share in another deployment."""
        return {share for share in self.deployment.shares if share.percentage > 0} <= set(shares)


def _find_settings(told: Mapping[str, object]) -> dict[str, object]:
    unknown = {name: value for name, value in told.items() if name not in _KNOWN}
    return {name: value for name, value in unknown.items() if isinstance(value, dict | list) and value}


class CloudflareDeployments:
    """Port Deployments of one Worker.

    Args:
        account_id, script: which Worker.
        reader: a client with a read-only token; None: the acting client reads, too.
    """

    def __init__(self, client: ApiClient, account_id: str, script: str, *, reader: ApiClient | None = None) -> None:
        self._client = client
        self._reader = reader or client
        self._script = script
        self._live: _Live | None = None
        self._path = f"accounts/{quote_segment(account_id)}/workers/scripts/{quote_segment(script)}/deployments"

    def history(self) -> tuple[Deployment, ...]:
        """Return the newest ten deployments, newest first (the API lists no more)."""
        answer = self._reader.get(self._path, _History, permission=READ_SCRIPTS)
        pairs = zip(answer.parse(), answer.deployments, strict=True)
        deployments = [_Live(made.as_model(), _find_settings(told)) for made, told in pairs if made.versions]
        # Stable: deployments made in the same instant keep the API's own order, newest first.
        found = sorted(deployments, key=lambda each: -each.deployment.created_at)
        self._live = found[0] if found else None
        return tuple(each.deployment for each in found)

    def activate(self, version: str, *, message: str, force: bool = False, immediate: bool = False) -> Deployment:
        """Make `version` live at 100 %, of each cohort in the list read last too; the message is cut to 1000 bytes."""
        more = {"code_update_strategy": {"mode": "immediate"}} if immediate else {}
        return self._deploy((Share(VersionId(version), 100.0),), message, more, force=force)

    def deploy(
        self, shares: Sequence[Share], *, message: str, force: bool = False, cohorts: Sequence[Cohort] = ()
    ) -> Deployment:
        """Make versions live with these percentages; the message is cut as in `activate`.

        Args:
            cohorts: those that stay as they are, as the port says.

        Raises:
            SecretsChanged: secrets changed since one of them was live, and `force` is False.
            Refused: one of them can no longer run.
            ProviderRejected: any other refusal, an unknown version for example.
        """
        kept = self._live.settings if self._live is not None and self._live.stays(shares) else {}
        return self._deploy(shares, message, kept, cohorts, force=force)

    def _deploy(
        self,
        shares: Sequence[Share],
        message: str,
        more: Mapping[str, object],
        kept: Sequence[Cohort] = (),
        *,
        force: bool,
    ) -> Deployment:
        cohorts = [
            {"name": cohort.name, "versions": _render_shares(cohort.shares)}
            for cohort in carry_cohorts(() if self._live is None else self._live.deployment.cohorts, kept, shares)
        ]
        body = {
            **more,
            "strategy": "percentage",
            "versions": _render_shares(shares),
            **({"cohorts": cohorts} if cohorts else {}),
            "annotations": {"workers/message": cut(message)},
        }
        query = {"force": "true"} if force else None
        try:
            answer = self._client.post(self._path, body, ApiDeployment, permission=WRITE_SCRIPTS, query=query)
        except ProviderRejected as error:
            raise _translate_error(error, " and ".join(share.version for share in shares), self._script) from error
        made = answer.as_model()
        self._live = _Live(made, {name: value for name, value in more.items() if name not in _KNOWN})
        return made


def _render_shares(shares: Sequence[Share]) -> list[dict[str, object]]:
    return [{"version_id": share.version, "percentage": share.percentage} for share in shares]


def cut(message: str) -> str:
    """Return the message cut to what the API keeps.

    >>> len(cut("ä" * 600).encode())
    1000
    """
    return message.encode()[:MAX_MESSAGE_BYTES].decode(errors="ignore")


def _translate_error(error: ProviderRejected, version: str, script: str) -> ProviderRejected | Refused:
    """Return what a rejected switch means for the caller."""
    if error.code == _SECRETS_CHANGED:
        return SecretsChanged(
            f"secrets changed since version {version} was live; switching to it would bring the old values back",
            names=_parse_secret_names(error.what),
            where=script,
            hint="compare them (`backout secrets check`), then decide which values are to be live, or roll forward",
        )
    if error.code == _EXPORTS_DIFFER:
        what = f"their `exports` differ, so that no deployment can have both ({error.what})"
        return NoSplit(what, status=error.status, code=error.code, where=script)
    if error.status in (401, 403, 404):
        return error
    by_code = [reason for code, _, reason in _REFUSALS if code == error.code]
    by_words = [reason for _, words, reason in _REFUSALS if words.search(error.what)]
    for reason in by_code or by_words:
        return Refused(
            f"version {version} can no longer run: {reason} ({error.what})",
            where=script,
            rule=SafetyRule.TARGET,
            options=("choose another version: `backout deployments list`", "roll forward with a new deployment"),
        )
    return error


def _parse_secret_names(text: str) -> tuple[str, ...]:
    """Return the names that the API lists after the last colon of its sentence, () when it names none."""
    listed = text.split("[code", maxsplit=1)[0].rpartition(":")[2]
    names = [name.strip().strip(".'\"`") for name in listed.split(",")]
    return tuple(sorted(names)) if names and all(_NAME.match(name) for name in names) else ()
