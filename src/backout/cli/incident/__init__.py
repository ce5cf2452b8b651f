"""`backout incident`: incidents and their reports. Each command is imported when it runs."""
