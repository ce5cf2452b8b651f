"""Judgements: data in, verdict and evidence out; pure, no clock, no random, no I/O."""
