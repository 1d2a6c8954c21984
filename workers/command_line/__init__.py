"""What every command of `catalog` shares: its tree, its session, its exit codes, its errors."""
