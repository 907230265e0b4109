"""A simulated experiment: the service's own code on a real database, with a clock, a network and trainings of its own."""
