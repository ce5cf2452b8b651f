"""The durable record of runs: append-only chained events, one fenced lease per environment, plans driven to their end.

The rule: it imports ports, model, errors and the standard library only. `backout.journal.sqlite.SqliteJournal` is the
adapter. The promise: a completed step is never repeated; a step found in flight is probed, or a person is asked.
"""
