"""Secrets: how tokens are made and recognised."""
