"""The only place that orders steps: one file per section of the runbook. It knows ports, never providers or stores."""
