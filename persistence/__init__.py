"""Everything that remembers: Postgres and Redis. The only package (besides migrations) that imports their drivers."""
