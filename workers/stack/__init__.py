"""The embedded stack: real Kafka, PostgreSQL and Redis as processes of this machine, for development and tests.

Nothing but Python is needed: no Docker, no root, no Java on the PATH. The workers know nothing of it; they are pointed
at it by the same settings as at any other servers.
"""
