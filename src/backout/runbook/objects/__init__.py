"""The application's objects: whether they could be brought back, and bringing them back."""
