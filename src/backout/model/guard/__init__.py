"""The measurements, decisions and permitted actions of a watch: counts, answers, probes, shifts, verdicts."""
