"""The database of a trial (`backout certify`): filled, watched, compared and asked; never anybody's own."""
