"""The application's own log of requests: newline-delimited JSON in a file that grows."""
