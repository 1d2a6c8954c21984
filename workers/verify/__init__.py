"""`catalog verify`: publish a load, read every reply, and account for each send.

`actors` decides what is sent, `ledger` what the answers prove, `run` moves both. It works against any deployment: its
customers are its own, and are deleted at the end.
"""
