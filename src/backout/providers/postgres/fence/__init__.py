"""The fence: who can write to a database, keeping them out, and the proof that they were."""
