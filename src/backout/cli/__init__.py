"""The command line: one file per command group, one table of all commands; it decides nothing."""
