"""The service's commands of ``gridtune``."""
