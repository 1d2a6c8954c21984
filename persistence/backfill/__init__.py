"""Backfills as the database knows them: definitions, the ledger, chunk transactions, proof, signals."""
