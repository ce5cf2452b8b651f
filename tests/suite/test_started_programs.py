"""Each program that backout starts ends with it, however that ends, or goes on for a reason that stands here."""

from __future__ import annotations

import ast

from source_trees import SOURCE, tree_of

ONE_PROCESS = {
    "providers/archive/receiving.py": "pg_receivewal, tied to us",
    "providers/child.py": "`true`, once, to see whether user namespaces are allowed",
    "providers/git/checkout.py": "git: it reads, and has a limit",
    "providers/git/reports.py": "git: it commits one file, and has a limit",
    "providers/node.py": "node --version",
    "providers/postgres/backup/dump_archive.py": "pg_restore without --jobs, tied to us",
    "providers/postgres/backup/dumps.py": "pg_dump without --jobs, tied to us",
    "providers/postgres/certify/cloning.py": "pg_dump and pg_restore without --jobs, tied to us",
    "providers/postgres/comparison/comparer.py": "a module of ours, tied to us",
    "providers/postgres/restore/side_files.py": "`touch`, once, to see whether overlays are allowed",
    "providers/postgres/restore/wal_search.py": "pg_waldump: it reads, and ends when nobody reads from it",
    "providers/postgres/server/binaries.py": "--version",
    "providers/postgres/server/launcher.py": "the server, tied to us: it ends its own processes",
    "wiring/drills/homes.py": "`ln` and `mv`, and a module of ours with a limit",
    "wiring/drills/visits.py": "a module of ours, tied to us",
    "wiring/worker_child.py": "this program once more, tied to us, which ties what it starts",
    "wiring/units.py": "systemd-analyze: it reads, and has a limit",
    "providers/events/work.py": "a module of ours, which ends with its input",
}
"""What starts no further process of its own that would outlive it."""
GOES_ON = {
    "cli/diagnose/build.py": "the team's build: Ctrl-C at the terminal reaches it as it does without us",
    "providers/caddy/agent.py": "what starts a release on another host, which stays",
    "providers/caddy/jobs.py": "what starts the job workers of a release, which stay",
    "providers/caddy/processes.py": "what starts a release, which stays",
    "providers/caddy/supervise.py": "the release, which its supervisor ends",
    "providers/command/deploy.py": "the team's deploy command: kill -9 of backout leaves it to end by itself",
    "providers/postgres/server/own_server.py": "what starts the team's own server, which stays",
    "providers/sources/sources.py": "the team's command for secrets: it may start an agent, which stays",
    "wiring/db/wal.py": "the receiver of WAL and its watchdog, which stay",
}
STARTS = {
    *(f"subprocess.{name}" for name in ("run", "Popen", "call", "check_call", "check_output", "getoutput")),
    *("os.system", "os.posix_spawn", "os.popen", "asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell"),
}


def starts_a_program(module: ast.AST) -> bool:
    return any(isinstance(node, ast.Call) and ast.unparse(node.func) in STARTS for node in ast.walk(module))


def test_programs_are_started_as_a_group_or_are_known_to_need_none() -> None:
    """`run_group` and `ProcessGroup` end whatever a program started; one that needs neither is listed with its reason.

    The twin's own are left out: it starts servers, and its drills count what is left of them.
    """
    found = set()
    for path in SOURCE.rglob("*.py"):
        name = path.relative_to(SOURCE).as_posix()
        if not name.startswith("twin/") and starts_a_program(tree_of(path)):
            found.add(name)
    assert found == ONE_PROCESS.keys() | GOES_ON.keys()
