"""Explanations of verdicts, and past or expected watches judged by today's detector."""
