"""`catalog dlq`: what an operator does about dead letters. How, and what each means, is in the README beside this."""
