"""An application with one route that does nothing."""

from __future__ import annotations

from flask import Flask, Response

app = Flask("empty")


@app.get("/api/v1/healthz")
def healthz() -> Response:
    """What the service answers there, ready made."""
    return Response('{"status": "ok", "version": "0", "checks": {}}', mimetype="application/json")
