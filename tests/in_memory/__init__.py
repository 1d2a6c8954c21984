"""Repositories and readers in memory: what use cases are tested with, and what the real ones must agree with."""
