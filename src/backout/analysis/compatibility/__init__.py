"""The effect of a migration on the code that ran before it: statements judged against the schema so far; pure.

The parser is Postgres's own (pglast); the rules are those of `docs/migrations.md`, and
`tests/analysis/test_compatibility_postgres.py` holds them against what a server does.
"""

from backout.analysis.compatibility.judging import judge, list_unread

__all__ = ["judge", "list_unread"]
