"""Incident reports, timelines, notices and the card as text and as JSON values."""
