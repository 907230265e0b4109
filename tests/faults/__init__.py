"""A service and its agents in real processes, and a seeded driver that does them harm while they work."""
