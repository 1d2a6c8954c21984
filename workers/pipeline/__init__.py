"""The way of a message from bytes to decision; one file for commands, one for queries, what they share beside them."""
