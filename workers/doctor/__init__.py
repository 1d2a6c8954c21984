"""`catalog doctor`: everything worth knowing before production and after a restore, in one table."""
