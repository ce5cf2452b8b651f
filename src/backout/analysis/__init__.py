"""Judgements: data in, verdict and evidence out; pure: no clock, no randomness, no I/O."""
