"""The application's health endpoint, in the formats that applications answer."""
