"""What commands share: streams, options, errors, questions, and how a run is driven and shown."""
