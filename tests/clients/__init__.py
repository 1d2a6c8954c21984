"""The clients for those who call."""
