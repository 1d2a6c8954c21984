"""The schema of the database, revision by revision, and the safe way from one to the next.

`runner` is the door: `upgrade`, `downgrade`, `current`, `history`, `contract`. Nothing here imports the application,
so that an old revision keeps its meaning whatever becomes of the code around it.
"""
