"""The contract for those who use it: exported, read on a terminal or in a browser, and held against its releases."""
