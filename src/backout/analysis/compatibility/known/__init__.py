"""The schema as built by the migrations read so far, statement by statement."""
