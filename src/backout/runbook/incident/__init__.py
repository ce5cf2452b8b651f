"""What people read in an incident: status, diagnosis, report, notices, the card."""
