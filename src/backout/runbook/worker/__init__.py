"""A worker: guards environments day and night, and shares them with other workers."""
