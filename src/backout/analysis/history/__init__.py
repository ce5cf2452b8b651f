"""The provider's history: marks on versions, and the versions that may be returned to."""
