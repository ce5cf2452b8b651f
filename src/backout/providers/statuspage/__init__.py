"""Vendors' status pages of the common hosted kind: `/api/v2/incidents/unresolved.json`."""
