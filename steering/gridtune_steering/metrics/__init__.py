"""What operators see of the running service: instruments, and their text for Prometheus.

Nothing here knows the rest of the service: what happens is counted where it happens, and what is true is handed in.
"""
