"""Tell somebody: every end of a run that a person should hear of becomes one notice (safety rule 18)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.notice import Notice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.notice import NoticeKind
    from backout.runbook.toolbox import Toolbox


def tell(  # noqa: PLR0913 one keyword for each thing that a notice says
    tools: Toolbox,
    kind: NoticeKind,
    title: str,
    text: str,
    *,
    key: str,
    run: str = "",
    next: tuple[str, ...] = (),  # noqa: A002 the notice's own word
    facts: Mapping[str, str] | None = None,
) -> None:
    """Hand one notice to the notifier, when there is one; the same `key` is told once."""
    if tools.notifier is None:
        return
    notice = Notice(
        kind=kind,
        environment=tools.environment,
        at=tools.clock.now(),
        title=title,
        text=text,
        key=f"{tools.environment}:{kind}:{key}",
        run=run,
        next=next,
        facts=facts or {},
    )
    tools.notifier.tell(notice)
