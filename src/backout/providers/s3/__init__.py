"""S3 and what speaks its protocol (SeaweedFS, R2, GCS): the standard library alone, so that it starts at once."""
