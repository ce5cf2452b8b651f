"""Every error that backout raises on purpose: what, where, what to type next; each class has a fixed exit code.

BackoutError                1   a finding, or a failure with no better class
├── UsageError              2   a wrong call, a missing path
├── Refused                 3   a safety rule forbids it; `options` are the allowed ways on
│   └── DecisionNeeded      3   a question that only a person may answer was not answered
│       └── SecretsChanged  3   a secret changed since the target was live
├── AuthError               4   token missing, refused, or lacking a permission
├── PartlyDone              5   stopped in the middle; `hint` resumes
│   └── Paused              5   a person paused the run, at a step boundary
├── Busy                    6   another run holds the environment
│   └── WorldMoved          6   the live deployment is not the one the plan is based on
├── Unmeasured              7   it could not be measured, so nothing is claimed
│   └── ProviderUnavailable 7   a provider did not answer properly (after retries)
├── ProviderRejected        1   a provider answered, and said no
│   ├── NewestNotLive       1   it sets secrets on the newest version only, and that one is not live
│   └── CommandFailed       1   the team's own command failed
├── ConfigError            78   backout.toml is wrong; `mistakes` lists all of them
│   └── Untrusted          78   others could have written a file that decides what is done
└── Interrupted           130   Ctrl-C, stopped at a step boundary
"""

from __future__ import annotations

from typing import ClassVar

from backout.rules import SafetyRule

EXIT_CODES: dict[int, str] = {
    0: "done and verified (or: answered)",
    1: "finding: unhealthy, regressed (also when rolled back), criteria not met, a drill or benchmark missed; "
    "or the answer could not be written",
    2: "usage: a wrong call or a missing path",
    3: "refused by a safety rule, or a decision is needed and none was given",
    4: "authentication: token missing, refused, or without a permission",
    5: "partly done, resumable",
    6: "busy, or something else was deployed meanwhile",
    7: "inconclusive or unmeasured",
    78: "configuration: backout.toml is wrong",
    130: "interrupted",
}


class BackoutError(Exception):
    """Base of every deliberate error.

    Args:
        what: one sentence without a final stop: what went wrong.
        where: the thing it happened to (file:line, URL without secrets, run id), or None.
        hint: the command to type next, or the action to take, or None.
    """

    exit_code: ClassVar[int] = 1
    without_journal: ClassVar[bool] = False
    """Whether nothing can be recorded: the message then says which commands still work."""

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        """Render `where: what`, the form of compiler messages."""
        return f"{self.where}: {self.what}" if self.where else self.what


class UsageError(BackoutError):
    """The call is wrong, or a path it names does not exist."""

    exit_code = 2


class Refused(BackoutError):
    """A safety rule forbids the action; `options` are complete sentences naming the allowed ways on."""

    exit_code = 3

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        hint: str | None = None,
        rule: str | None = None,
        options: tuple[str, ...] = (),
    ) -> None:
        super().__init__(what, where=where, hint=hint)
        self.rule = rule
        self.options = options


class DecisionNeeded(Refused):
    """A person has to answer, and no one was asked or no one answered; nothing was assumed."""


class AuthError(BackoutError):
    """The token is missing, refused, or lacks the permission that `what` names."""

    exit_code = 4


class PartlyDone(BackoutError):
    """The run stopped between two steps or inside one; what is done is journalled and `hint` resumes."""

    exit_code = 5


class Paused(PartlyDone):
    """A person paused the run: it stopped at a step boundary, and keeps its environment; `hint` resumes."""


class Busy(BackoutError):
    """Another run holds the environment; `what` names the holder."""

    exit_code = 6


class WorldMoved(Busy):
    """The provider's state is no longer the one that the decision is based on; nothing was changed."""


class Unmeasured(BackoutError):
    """A needed measurement could not be made; never counted as good, never as bad."""

    exit_code = 7


class ProviderUnavailable(Unmeasured):
    """A provider gave no usable answer (timeout, 5xx, 429, truncated body), retries included."""


class ProviderRejected(BackoutError):
    """A provider answered, and said no.

    Attributes:
        status: HTTP status.
        code: the provider's own error code, or None.
    """

    def __init__(
        self, what: str, *, status: int, code: int | None = None, where: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(what, where=where, hint=hint)
        self.status = status
        self.code = code


class NoSplit(ProviderRejected):
    """The provider lets two versions not be in one deployment, not even at 0 %; nothing was changed."""


class NewestNotLive(ProviderRejected):
    """The provider sets secrets on the newest version only, and another one is live; nothing was changed."""


class CommandFailed(ProviderRejected):
    """The team's own command did not do what it is for.

    Attributes:
        code: what it exited with.
        tail: its last lines, masked.
    """

    def __init__(
        self, what: str, *, code: int, tail: tuple[str, ...] = (), where: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(what, status=0, code=code, where=where, hint=hint)
        self.tail = tail


class ConfigError(BackoutError):
    """backout.toml is wrong or not complete; `mistakes` holds every mistake as `file:line: path: what`."""

    exit_code = 78

    def __init__(self, mistakes: tuple[str, ...], *, hint: str | None = None, what: str | None = None) -> None:
        count = len(mistakes)
        super().__init__(what or f"{count} mistake{'s' if count != 1 else ''} in the configuration", hint=hint)
        self.mistakes = mistakes


class Untrusted(ConfigError):
    """Others could have written a file that decides what is done; `mistakes` names it, and who could.

    Args:
        without: what a command that must go on does without.
    """

    def __init__(self, what: str, why: str, *, hint: str, without: str = "the programs that the file names") -> None:
        super().__init__((why,), hint=hint, what=what)
        self.without = without


class Interrupted(BackoutError):
    """Ctrl-C: stopped at a step boundary, nothing in flight; `hint` resumes."""

    exit_code = 130


class SecretsChanged(DecisionNeeded):
    """The provider refuses the switch because secrets changed since the target was live; `names` may be empty."""

    def __init__(
        self,
        what: str,
        *,
        names: tuple[str, ...] = (),
        where: str | None = None,
        hint: str | None = None,
        options: tuple[str, ...] = (),
    ) -> None:
        super().__init__(what, where=where, hint=hint, rule=SafetyRule.SECRETS, options=options)
        self.names = names


class OutboxUnavailable(Exception):
    """Waiting notices cannot be read or stored now; the text says why, and what to do."""
