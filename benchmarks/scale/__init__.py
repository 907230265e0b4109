"""What the benchmarks of the service at scale share: databases, histories, clients, peers, limits, tables."""
