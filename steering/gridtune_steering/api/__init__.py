"""The HTTP API: routes, credentials, problems, and the OpenAPI document made from the same definitions."""
