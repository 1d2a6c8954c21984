"""Backfill definitions: one file each, frozen once released. How to write one: README.md."""
