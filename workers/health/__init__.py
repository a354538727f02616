"""Whether a worker process works, for its supervisor and for Prometheus."""
