"""Plain files in the user's own folders."""
