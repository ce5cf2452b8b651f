"""A router that counts answers per version and second and keeps what went wrong, as the twin's does."""
