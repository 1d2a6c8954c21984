"""What is generated from the contract."""
