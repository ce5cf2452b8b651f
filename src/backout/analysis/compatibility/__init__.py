"""What a migration does to the code that ran before it: each statement judged against the schema built so far; pure.

The parser is Postgres's own (pglast); the rules are those of `docs/migrations.md`, and
`tests/analysis/test_compatibility_postgres.py` holds them against what a server does.
"""

from backout.analysis.compatibility.judging import judge, unread

__all__ = ["judge", "unread"]
