"""Who wrote a row, and what happened to it: the WAL's records and the rows' own transactions."""
