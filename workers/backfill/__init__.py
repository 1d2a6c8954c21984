"""The backfill worker: it decides when which chunk runs, how large it is, and when to hold still."""
