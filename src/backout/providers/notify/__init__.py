"""Notices to people: a durable outbox, a thread for each channel, and the channels."""
