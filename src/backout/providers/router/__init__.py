"""A router that counts answers per version and second and keeps failed events, as the twin's does."""
