"""What the service does: one function for each thing, each change one transaction with its line in the audit log."""
