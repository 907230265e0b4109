"""A simulated experiment: the service's own code on a real database; the clock is not."""
