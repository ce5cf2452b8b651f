"""The verdict on a deployment: counts and probes in, a verdict with its reason out."""
