"""Who asks, and whether the request is let in: identity, reply topics, rate."""
