"""What operators look at: what became of a message, and how the whole system stands. Reads alone; changes nothing."""
