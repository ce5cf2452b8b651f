"""The only place with sequence: one file per section of the runbook. It knows ports, never providers or stores."""
