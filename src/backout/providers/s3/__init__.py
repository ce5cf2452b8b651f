"""S3 and compatible stores (SeaweedFS, R2, GCS): standard library only, so that it starts at once."""
