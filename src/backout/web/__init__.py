"""The pages behind a notice, and their API: they read the journal and write into it, and can do nothing else."""
