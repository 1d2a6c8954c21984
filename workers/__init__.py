"""Processes: what runs, how it starts, how it stops."""
