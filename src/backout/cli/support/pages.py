"""Pages and outputs for a pipeline, appended to the files that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell


def append_to_file(shell: Shell, path: str, text: str, *, stands: str) -> None:
    """Append masked text to a file. If it cannot be written, warn and go on: `stands` does.

    Args:
        path: relative to the working directory.
        stands: what is not changed by that, such as "the verdict".
    """
    try:
        with (shell.folder / path).open("a", encoding="utf-8", errors="replace") as file:
            file.write(shell.redactor.redact(text))
    except OSError as error:
        shell.output.warn(f"{path} cannot be written ({error.strerror}); {stands} stands")
