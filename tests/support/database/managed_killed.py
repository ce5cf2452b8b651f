"""A process that drives a restore at a vendor and kills itself with -9 at the n-th call of a port."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from cli_shell import make_shell
from restore_killed import Dying, Fuse
from values import replace

from backout.runbook.recovery.steps.managed import make_actions
from backout.wiring.db.branches import make_branch_tools
from backout.wiring.db.restore import make_restore_tools


def main(folder: str, run: str, at: str) -> None:
    config = make_shell(Path(folder), dict(os.environ)).config()
    own, fuse = make_restore_tools(config), Fuse(int(at))
    rescuer = own.rescuer
    dying_own = replace(own, rescuer=lambda database: Dying(rescuer(database), fuse))
    tools = make_branch_tools(config, dying_own)
    dying: dict[str, Any] = {name: Dying(getattr(tools, name), fuse) for name in ("vendor", "cutover", "reader")}
    ended = own.journal.drive(run, make_actions(replace(tools, **dying)), actor="test")
    sys.stdout.write(json.dumps({"state": str(ended.state), "calls": int(at) - fuse.left}))


if __name__ == "__main__":
    main(*sys.argv[1:])
