"""What the server counts: updated in about a microsecond a request, read as Prometheus text or snapshots."""
