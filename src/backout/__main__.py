"""The entry point: `--version` is answered before anything else is imported."""

from __future__ import annotations

import sys

from backout import __version__


def main() -> None:
    """Run the command line of this process and exit with its code."""
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        sys.stdout.write(f"backout {__version__}\n")
        return
    from backout.cli.app import run  # noqa: PLC0415 - the sentence at the top

    sys.exit(run(arguments))


if __name__ == "__main__":
    main()
