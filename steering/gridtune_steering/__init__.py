"""The steering service: one optimizer per task, leases, bookkeeping, and the HTTP API in front of them."""
