"""What a laptop needs and a deployed function does not: a Redis, a demo model, a launcher."""
