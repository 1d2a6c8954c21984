"""Logs and metrics: the full catalogue of names, and what turns the pipeline's events into them."""
