"""This machine: the journal and its disk, git, the card, and the channels of notices; pure."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.errors import Refused
from backout.model.checkup import CheckState, must, should
from backout.model.clock import format_duration
from backout.model.hint import NO_HINT, parse_hint, suggest_command, suggest_line, suggest_setting, suggest_words
from backout.model.setting import describe_setting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backout.model.checkup import ChannelLook, Check, GitLook, JournalLook, Subject
    from backout.model.hint import Hint

TOO_LITTLE, LITTLE = 64 << 20, 1 << 30
"""Free bytes: below the first a run may not be recorded to its end, below the second it is worth a word."""
WITHOUT_JOURNAL: Final = (
    *("card", "config", "db check", "db migrations status", "db roles", "deployments list", "diagnose", "doctor"),
    *("hold", "init", "notify", "panic", "preflight", "secrets check", "status", "unhold"),
)
"""Commands that answer whatever the journal is like."""
_JOURNAL: Final = ("journal", "journal_schema", "journal_writable")
_MB: Final = 1_000_000
_EXAMPLE: Final = suggest_line("backout config example")
_DRILL: Final = suggest_line("backout drill run throws", "on a twin of its own")
_DUE: Final = suggest_line("backout drill due")


def check_journal(look: JournalLook, environment: str, *, carded: int = 0) -> Iterator[Check]:
    """Yield whether the journal can be read and written, its tables are known, and its disk has room.

    Args:
        carded: the number of marks on the last card: an empty journal has lost them.
    """
    if look.problem:
        yield must("journal").missing(look.problem, parse_hint(look.hint, environment))
    else:
        events = f"{look.path}, {look.events:,} event{'' if look.events == 1 else 's'}"
        if look.emptied or (carded and not look.events):
            yield _check_lost(look, carded, environment)
        else:
            yield must("journal").ok(events if look.exists else f"nothing has been written yet; it will be {look.path}")
        yield _check_schema(look)
        writable = must("journal_writable")
        if look.refused:
            yield writable.missing(look.refused, parse_hint(look.hint, environment))
        else:
            yield writable.ok("a run can be recorded")
    if look.on_server:
        yield from _check_role(look)
    else:
        yield _check_disk(look)


def _check_role(look: JournalLook) -> Iterator[Check]:
    """Yield whether the server itself keeps this machine from changing what was recorded."""
    subject = should("journal_role")
    if look.append_only:
        yield subject.ok("it may append to the journal, and change nothing of it")
    elif look.append_only is False:
        why = "it may change the journal's tables: only triggers and the chain of hashes protect what was recorded"
        yield subject.missing(why, suggest_words("give this machine a role that only appends: docs/team.md"))


def check_journal_server(shared: Sequence[tuple[str, bool | None]]) -> Check:
    """Return whether the journal is on no server that a restore replaces.

    Args:
        shared: each environment with a database, whether that is on the journal's server; None: it was not seen.
    """
    there = [name for name, is_shared in shared if is_shared]
    if there:
        why = f"the journal is on the server of the database of {there[0]}, which a restore replaces"
        hint = suggest_words("let journal.url_env name a database on another server")
        return must("journal_server").missing(why, hint, code=Refused.exit_code)
    unseen = [name for name, is_shared in shared if is_shared is None]
    if unseen:
        return should("journal_server").unmeasured(f"whether it is on the server of {unseen[0]} could not be seen")
    return must("journal_server").ok("it is on no server of a configured database")


def _check_lost(look: JournalLook, carded: int, environment: str) -> Check:
    """Return that nothing is in the journal although something was: it was emptied, deleted, or put away."""
    known = f"the last card has {carded} mark{'' if carded == 1 else 's'} that it lacks" if carded else "it was cut off"
    what = f"{look.path} is empty" if look.emptied else f"nothing is in {look.path}"
    why = f"{what}: {known}; runs and marks of this machine are not known"
    return should("journal").missing(
        why, suggest_command("guard", environment, "begins it anew; or bring the file back")
    )


def _check_schema(look: JournalLook) -> Check:
    subject = must("journal_schema")
    if look.version is None or look.version == look.known:
        return subject.ok(f"version {look.known}, which this backout knows")
    if look.version < look.known:
        return subject.ok(f"version {look.version}; the next command that writes makes it {look.known}")
    why = f"it was written by a newer backout (version {look.version}, this one knows {look.known})"
    return subject.missing(why, suggest_words("upgrade backout on this machine"))


def _check_disk(look: JournalLook) -> Check:
    if look.free_bytes is None:
        return should("disk").unmeasured("how much room is left is unknown")
    said = f"{look.free_bytes / _MB:,.0f} MB are free where the journal lies"
    room = suggest_words(f"make room on the disk of {look.path}")
    if look.free_bytes < TOO_LITTLE:
        return must("disk").missing(f"only {said}: a run may not be recorded to its end", room)
    return should("disk").missing(f"only {said}", room) if look.free_bytes < LITTLE else must("disk").ok(said)


def put_journal_first(checks: Sequence[Check]) -> tuple[Check, ...]:
    """Return the checks; where the journal cannot be used, no hint is a command that needs it: its own comes first."""
    broken = any(check.name in _JOURNAL and check.state is CheckState.MISSING for check in checks)
    if not broken:
        return tuple(checks)
    return tuple(replace(check, next=NO_HINT) if _needs_journal(check.next) else check for check in checks)


def _needs_journal(hint: Hint) -> bool:
    lines = [each for each in hint.lines if each.startswith("backout ")]
    return any(not each.startswith(tuple(f"backout {name}" for name in WITHOUT_JOURNAL)) for each in lines)


def check_channels(looks: Sequence[ChannelLook], *, acts: bool, now: float, environment: str) -> Iterator[Check]:
    """Yield for each channel whether it can be used, and whether its newest notice arrived."""
    if not looks:
        why, slack = (
            "no channel is set up: nobody is notified",
            suggest_setting(describe_setting("notify", "slack", url_env="SLACK_URL")),
        )
        yield (
            must("channels").missing(f"{why}, and guard acts by itself", slack)
            if acts
            else should("channels").not_set_up(why, slack)
        )
    yield from (_check_channel(must(f"channel_{look.name}", when=acts), look, now, environment) for look in looks)


def _check_channel(subject: Subject, look: ChannelLook, now: float, environment: str) -> Check:
    test = suggest_command("doctor --send", environment, "a test notice")
    if look.problem:
        return subject.missing(look.problem, test)
    if look.tried == "sent":
        return subject.ok("a test notice was sent just now")
    if look.tried:
        return subject.missing(
            f"the test notice did not arrive: {look.tried}", suggest_command("notify list", environment)
        )
    ago = f"{format_duration(max(now - look.at, 0.0))} ago"
    if look.state == "delivered":
        return subject.ok(f"the newest notice arrived {ago}")
    if look.state:
        state = look.state.replace("_", " ")
        why = f"the newest notice did not arrive ({state}, {ago}): {look.why or 'not tried yet'}"
        return subject.missing(why, suggest_command("notify test", environment))
    return should(subject.name).unmeasured("set up, but nothing was ever sent through it", test)


def check_last_drill(
    name: str, passed_at: float | None, *, now: float, counts_s: float, due: tuple[int, int] | None = None
) -> Check:
    """Return whether the way back was tried lately.

    Args:
        name: of the drill that passed last.
        passed_at: Unix seconds, None: none ever passed.
        counts_s: how long a success counts.
        due: how many drills are due, of how many; None: that is not known.
    """
    subject = should("last_drill")
    if passed_at is None:
        return subject.not_set_up("no drill ever passed here: nobody knows how long the way back takes", _DRILL)
    age_s = max(now - passed_at, 0.0)
    rest = "" if due is None or not due[0] else f"; {due[0]} of {due[1]} drills are due"
    said = f"{name} passed {format_duration(age_s)} ago{rest}"
    return subject.missing(said, _DUE) if age_s > counts_s else subject.ok(said)


def check_dead_man(problem: str | None, *, acts: bool) -> Check:
    """Return whether a service outside notices when guard dies; None: not set up, "" where it is."""
    if problem is None:
        why = "no external monitor notices when guard itself dies"
        return should("dead_man").not_set_up(
            why, suggest_setting(describe_setting("notify", "dead_man", url_env="DEAD_MAN_URL"))
        )
    if problem:
        return must("dead_man", when=acts).missing(problem, _EXAMPLE)
    return should("dead_man").ok("set up; guard asks it every minute of a watch")


def check_git(look: GitLook) -> Check:
    """Return whether git ignores the records of this machine."""
    subject = should("git_ignore")
    if not look.repository:
        return subject.ok("the records lie in no git repository")
    if look.tracked:
        why = f"git keeps {look.tracked}, which holds records of this machine"
        return subject.missing(why, suggest_line(f"git rm -r --cached {shlex.quote(look.folder)}"))
    if not look.ignored:
        why = f"{look.folder} is not ignored by git: the records of this machine could be committed"
        return subject.missing(why, suggest_line(f"echo {shlex.quote(look.folder)} >> .gitignore"))
    return subject.ok("git ignores the records of this machine")


def check_card(path: str, written_at: float | None, live_at: float | None, *, now: float, environment: str) -> Check:
    """Return whether the card is there and not older than what is live (`live_at` None: not known)."""
    subject, write = should("card"), suggest_command("card --write", environment)
    if written_at is None:
        return subject.missing("the card was never written", write)
    age = format_duration(max(now - written_at, 0.0))
    if live_at is not None and written_at < live_at:
        return subject.missing(f"the card is {age} old, older than what is live", write)
    return subject.ok(f"{path}, {age} old")
